"""The encoder's search for a camera pan in a GOP, and the decision whether to compensate it (canvas.py).

frames ──pyramid──▶ whole pixels, coarse to fine ──gradients──▶ quarter pixels ──▶ Canvas ──▶ fewer bits?
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gnvc_vd.bitstream import gop as gops
from gnvc_vd.conventions import MAX_PIXELS, Frame
from gnvc_vd.learned.canvas import PARTS, Canvas
from gnvc_vd.metrics.block_transform import BLOCK, dct

Offset = tuple[int, int]

SHORTEST = 9  # frames that a GOP has at least for a canvas to be tried
COARSEST = 64  # shorter side, at least, of the coarsest pyramid level; smaller frames get no canvas
FINEST = 360  # shorter side from which a pyramid level is fine enough to find quarter pixels of the frame
AROUND = 4  # search range in each direction, in pixels of the coarsest level
LARGEST_DIFFERENCE = 20.0  # differences are clamped to this many grey levels, so that moving objects weigh little

# A canvas is used if a transform code with the step STEP would need fewer bits for it, by at least the share GAIN
# (docs/log.md has the measurements). STEP is coarse because a large canvas costs most at low rates.
STEP = 64.0  # grey levels
GAIN = 0.08
STRIP = 128  # rows that are transformed at a time


def stabilise(frames: Frame) -> tuple[Canvas | None, Frame]:
    """Compensate the pan of a GOP's frames, T H W 3, if that saves bits.

    Returns:
        the canvas and the frames placed on it; or None and the frames themselves.
    """
    if len(frames) < SHORTEST or min(frames.shape[1:3]) < COARSEST:
        return None, frames
    grey = _grey(frames)
    canvas = pan_of(grey)
    if not canvas.within or not canvas.pans.any() or np.prod(canvas.size) > MAX_PIXELS:
        return None, frames
    pays = bits_of(canvas.place_frames(grey)) <= (1 - GAIN) * bits_of(grey)
    return (canvas, canvas.place_frames(frames)) if pays else (None, frames)


def pan_of(frames: Frame) -> Canvas:
    """Estimate the camera's pan; on the returned canvas most of the scene stays where it is in the middle frame."""
    middle, grey = len(frames) // 2, _grey(frames)
    target = _pyramid(grey[middle])
    errors = {middle: (0.0, 0.0)}
    for order in (range(middle + 1, len(frames)), range(middle - 1, -1, -1)):
        near = (0.0, 0.0)
        for t in order:
            near = errors[t] = _offset(_pyramid(grey[t]), target, near)
    offsets = np.array([errors[t] for t in range(len(frames))])
    return Canvas(np.rint(PARTS * (offsets[0] - offsets)).astype(int), *frames.shape[1:3])


def bits_of(frames: Frame) -> float:
    """Estimate the bits of a 3-D transform code for the grey frames, from every other row of blocks."""
    padded, total = gops.pad(_grey(frames)), 0.0
    rows = np.arange(padded.shape[1]).reshape(-1, BLOCK)[::2].ravel()
    time, place = dct(len(padded)).float(), dct(BLOCK).float()
    for top in range(0, len(rows), STRIP):
        strip = torch.from_numpy(padded[..., 0][:, rows[top : top + STRIP]]).float() / STEP
        turned = (time @ strip.flatten(1)).view_as(strip).unflatten(2, (-1, BLOCK)).unflatten(1, (-1, BLOCK))
        blocks = torch.einsum("tyixj,ai,bj->tyaxb", turned, place, place)
        levels = blocks.square_().add_(1).unflatten(-1, (2, 4)).prod(-1)  # one logarithm for four values
        total += levels.log2_().sum(dtype=torch.float64).item()  # half of log2(1 + level²), twice for every other row
    return total


def _grey(frames: Frame) -> Frame:
    """Convert frames to grey, T H W 1, with twice the weight on green; grey frames are returned as they are."""
    if frames.shape[-1] == 1:
        return frames
    red, green, blue = (frames[..., channel].astype(np.uint16) for channel in range(3))
    return ((red + 2 * green + blue) >> 2).astype(np.uint8)[..., None]


def _pyramid(frame: Frame) -> list[Tensor]:
    """Image pyramid of a grey picture H W 1: each level has half the sides of the one before."""
    levels = [torch.from_numpy(frame[..., 0]).float()]
    while min(levels[-1].shape) >= 2 * COARSEST:
        levels.append(avg_pool2d(levels[-1][None], 2)[0])
    return levels


def _offset(other: list[Tensor], target: list[Tensor], near: tuple[float, float]) -> tuple[float, float]:
    """Offset (down, right), in pixels, of the target's scene in another picture; the search starts at `near`."""
    coarsest = len(target) - 1
    finest = max(level for level, picture in enumerate(target) if level == 0 or min(picture.shape) >= FINEST)
    y, x = _nearest(other[coarsest], target[coarsest], tuple(round(one / 2**coarsest) for one in near))
    for level in range(coarsest, finest, -1):
        down, right = _between(other[level], target[level], (y, x))
        y, x = round(2 * (y + down)), round(2 * (x + right))
    down, right = _between(other[finest], target[finest], (y, x))
    return 2.0**finest * (y + down), 2.0**finest * (x + right)


def _nearest(other: Tensor, target: Tensor, near: Offset) -> Offset:
    """The whole-pixel offset at which two pictures differ least; every second row and column is compared."""
    here, there = _common(other, target, near, AROUND)
    if not here.numel():
        return near
    windows = there.unfold(0, here.shape[0], 1).unfold(1, here.shape[1], 1)  # one window for each offset
    difference = windows[..., ::2, ::2] - here[::2, ::2]
    cost = difference.abs_().clamp_max_(LARGEST_DIFFERENCE).mean((2, 3)).tolist()
    around = range(-AROUND, AROUND + 1)
    offsets = ((y, x) for y in around for x in around)
    down, right = min(offsets, key=lambda at: (cost[AROUND + at[0]][AROUND + at[1]], abs(at[0]) + abs(at[1])))
    return near[0] + down, near[1] + right


def _common(other: Tensor, target: Tensor, near: Offset, reach: int) -> tuple[Tensor, Tensor]:
    """Crop two pictures for a comparison at all offsets within `reach` of `near`.

    Returns:
        the part of the target that lies inside the other picture at every such offset, and the part of the other
        picture that these offsets cover.
    """
    here, there = list[slice](), list[slice]()
    for side, middle in zip(target.shape, near, strict=True):
        start = min(side, max(0, reach - middle))
        stop = max(start, side - max(0, reach + middle))
        here.append(slice(start, stop))
        there.append(slice(start + middle - reach, stop + middle + reach))
    return target[tuple(here)], other[tuple(there)]


def _between(other: Tensor, target: Tensor, offset: Offset) -> tuple[float, float]:
    """Sub-pixel correction of an offset, at most ±½ pixel: one step of robust least squares on the gradients."""
    here, there = _common(other, target, offset, 0)
    if min(here.shape) < BLOCK:
        return 0.0, 0.0
    mean, difference = _blur(here + there), _blur(there - here)[1:-1:2, 1:-1].flatten()  # every other row
    down, right = mean[2::2, 1:-1] - mean[:-2:2, 1:-1], mean[1:-1:2, 2:] - mean[1:-1:2, :-2]
    slopes = torch.stack([down, right]).flatten(1) / 4
    weighted = slopes * LARGEST_DIFFERENCE / difference.abs().clamp_min(LARGEST_DIFFERENCE)
    normal = weighted @ slopes.T
    ridge = 1e-3 + 1e-6 * normal.trace()  # for pictures of stripes, whose motion along the stripes cannot be seen
    lacking = -torch.linalg.solve(normal + ridge * torch.eye(2), weighted @ difference)
    first, second = lacking.clamp(-0.5, 0.5).tolist()
    return first, second


def _blur(picture: Tensor) -> Tensor:
    """Filter with [1 2 1] / 4 along both axes, without padding: two rows and two columns are lost."""
    for axis, side in enumerate(picture.shape):
        first, second, third = (picture.narrow(axis, start, side - 2) for start in range(3))
        picture = torch.add(first, second, alpha=2).add_(third).div_(4)
    return picture
