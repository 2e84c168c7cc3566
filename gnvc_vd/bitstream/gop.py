"""GOPs and windows of a clip, padding and cropping, in integer arithmetic only.

frames   0 ............ 24 | 25 ........... 49 | 50 ...          a GOP is what can be decoded alone
padded   1 + 4k            | 1 + 4k            |                 its last frame repeated
latents  l0 l1 ........ l6 | l0 l1 ....... l6  |                 l0 holds one frame, later ones four each
windows  [7]               | [7]                                 frames refined at once
long GOP [7][c+6][c+6][c+6]                                      c: context, the last latent before
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import TypeVar

import numpy as np

from gnvc_vd.common.strict import require
from gnvc_vd.conventions import PIXEL_MULTIPLE, SPATIAL_STRIDE, TEMPORAL_STRIDE, Frame, UsageError

MIN_TAIL = 9  # a shorter last GOP would take more bits than a longer GOP before it
MAX_GOP = 253  # frames; 64 latents, and the container counts a GOP's frames in one byte
MAX_REQUESTED_GOP = MAX_GOP - (MIN_TAIL - 1)  # a tail may still join it
DEFAULT_WINDOW = 25

T = TypeVar("T")


def latents_of(frames: int) -> int:
    """Number of latents for this many frames: one for the first, and one for every four after it, rounded up."""
    require(frames >= 1, f"{frames} frames have no latents", ValueError)
    return 1 + (frames - 1 + TEMPORAL_STRIDE - 1) // TEMPORAL_STRIDE


def frames_of(latents: int) -> int:
    """Number of frames that this many latents decode to: 1 + 4k."""
    require(latents >= 1, f"{latents} latents have no frames", ValueError)
    return 1 + TEMPORAL_STRIDE * (latents - 1)


def check_gop(gop: int) -> int:
    if not 1 <= gop <= MAX_REQUESTED_GOP or (gop - 1) % TEMPORAL_STRIDE:
        raise UsageError(f"a GOP of {gop} frames is not 1 + 4k between 1 and {MAX_REQUESTED_GOP}")
    return gop


def check_window(window: int) -> int:
    if window < 1 + TEMPORAL_STRIDE or (window - 1) % TEMPORAL_STRIDE:
        raise UsageError(f"a window of {window} frames is not 1 + 4k from 5 on")
    return window


def split_gops(items: Iterable[T], gop: int = DEFAULT_WINDOW, shared: int = 0) -> Iterator[list[T]]:
    """GOPs of a clip of unknown length, holding no more than a GOP and the shortest tail.

    A tail that is shorter joins the GOP before it. The last `shared` items of a GOP, fewer than all, are also the
    first of the next.
    """
    check_gop(gop)
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) == gop + min(gop, MIN_TAIL):
            yield [*(waiting.popleft() for _ in range(gop - shared)), *islice(waiting, shared)]
    if waiting:
        yield list(waiting)


def windows(latents: int, window: int = DEFAULT_WINDOW) -> list[range]:
    """A GOP's latents in runs that are refined together: 25 latents → 7 + 6 + 6 + 6.

    After the first, a window sees one latent more, the last of the window before, as context; with it, at most `window`
    frames.
    """
    size = latents_of(check_window(window))
    return [range(start, stop) for start, stop in pairwise([0, *range(size, latents, size - 1), latents])]


def frame_span(first_latent: int, last_latent: int) -> tuple[int, int]:
    """The frames [start, stop) that latents [first, last) of a GOP decode to."""
    start = 0 if first_latent == 0 else frames_of(first_latent)
    return start, frames_of(last_latent)


def padded_size(width: int, height: int) -> tuple[int, int]:
    """Pixels the networks see: the next multiples of 16."""
    return _round_up(width), _round_up(height)


def latent_size(width: int, height: int) -> tuple[int, int]:
    padded_width, padded_height = padded_size(width, height)
    return padded_width // SPATIAL_STRIDE, padded_height // SPATIAL_STRIDE


def pad(frames: Frame) -> Frame:
    """T H W 3 to 1 + 4k frames and multiples of 16, by repeating the last frame, row and column."""
    count, height, width, _ = frames.shape
    padded_width, padded_height = padded_size(width, height)
    growth = (frames_of(latents_of(count)) - count, padded_height - height, padded_width - width)
    return np.pad(frames, [(0, more) for more in (*growth, 0)], mode="edge")


def crop(frames: Frame, count: int, width: int, height: int) -> Frame:
    """What `pad` added, taken away."""
    return frames[:count, :height, :width]


def _round_up(size: int) -> int:
    return -(-size // PIXEL_MULTIPLE) * PIXEL_MULTIPLE
