"""Where a new scene begins: found while encoding, from small grey copies of neighbouring frames."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from gnvc_vd.conventions import Frame

GRID = 24  # cells each way of the grey copy
HARD_CUT = 30.0  # mean difference of grey levels that motion alone hardly makes …
OUTLIER = 3.0  # … and how many times the difference before it, which strong motion would share


def scenes(frames: Iterable[Frame]) -> Iterator[Iterator[Frame]]:
    """The frames, cut where the picture changes as a whole. Each scene must be read to its end before the next."""
    source = iter(frames)
    first = next(source, None)
    while first is not None:
        scene = _Scene(first, source)
        yield iter(scene)
        first = scene.next_scene


class _Scene:
    """One scene's frames; afterwards, the frame that the next one begins with."""

    def __init__(self, first: Frame, source: Iterator[Frame]) -> None:
        self._first, self._source = first, source
        self.next_scene: Frame | None = None

    def __iter__(self) -> Iterator[Frame]:
        yield self._first
        before, difference = _grey(self._first), 0.0
        for frame in self._source:
            grey = _grey(frame)
            change = float(np.abs(grey - before).mean())
            if change > HARD_CUT and change > OUTLIER * difference:
                self.next_scene = frame
                return
            before, difference = grey, change
            yield frame


def _grey(frame: Frame) -> NDArray[np.float32]:
    """Cells' mean grey levels; a side shorter than the grid has a cell for each pixel."""
    rows, columns = (np.linspace(0, side, min(GRID, side) + 1).astype(int)[:-1] for side in frame.shape[:2])
    luma = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    sums = np.add.reduceat(np.add.reduceat(luma, rows, axis=0), columns, axis=1)
    heights, widths = np.diff([*rows, frame.shape[0]]), np.diff([*columns, frame.shape[1]])
    means: NDArray[np.float32] = sums / (heights[:, None] * widths)
    return means
