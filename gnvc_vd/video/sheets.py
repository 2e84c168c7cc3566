"""Videos beside one another as still pictures."""

import numpy as np

from gnvc_vd.conventions import Frame

STRIP_FRAMES = 5


def sheets(original: Frame, found: dict[str, Frame]) -> dict[str, Frame]:
    """Frames side by side, a row for each way; and what one column of pixels does over time, where flicker shows.

    The second has the ways side by side.
    """
    rows = [original, *found.values()]
    places = np.linspace(0, len(original) - 1, min(STRIP_FRAMES, len(original))).round().astype(int)
    frames = np.concatenate([np.concatenate(list(video[places]), axis=1) for video in rows])
    middle = original.shape[2] // 2
    flicker = np.concatenate([video[:, :, middle].transpose(1, 0, 2).repeat(4, axis=1) for video in rows], axis=1)
    return {"frames": frames, "flicker": flicker}
