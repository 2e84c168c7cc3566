"""Where a new scene begins: found while encoding, from small grey copies of neighbouring frames."""

import math
from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from gnvc_vd.conventions import Frame

GRID = 24  # cells each way of the grey copy
HARD_CUT = 30.0  # mean difference of grey levels that motion alone hardly makes …
OUTLIER = 3.0  # … and how many times the difference before it, which strong motion would share


def scenes(frames: Iterable[Frame]) -> Iterator[Iterator[Frame]]:
    """The frames, cut where the picture changes as a whole. Each scene must be read to its end before the next.

    A change as large as the one before it is no cut, even where that one was: noise and flicker are one scene.
    """
    number = 0
    last: NDArray[np.float32] | None = None
    change = math.inf  # how much the picture changed last; at the beginning, anything may be usual

    def scene_of(frame: Frame) -> int:
        nonlocal number, last, change
        before, usual, last = last, change, _grey(frame)
        if before is not None:
            change = float(np.abs(last - before).mean())
            number += change > HARD_CUT and change > OUTLIER * usual
        return number

    return (scene for _, scene in groupby(frames, scene_of))


def _grey(frame: Frame) -> NDArray[np.float32]:
    """Cells' mean grey levels; a side shorter than the grid has a cell for each pixel."""
    rows, columns = (np.linspace(0, side, min(GRID, side) + 1).astype(int)[:-1] for side in frame.shape[:2])
    luma = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    sums = np.add.reduceat(np.add.reduceat(luma, rows, axis=0), columns, axis=1)
    heights, widths = np.diff([*rows, frame.shape[0]]), np.diff([*columns, frame.shape[1]])
    means: NDArray[np.float32] = sums / (heights[:, None] * widths)
    return means
