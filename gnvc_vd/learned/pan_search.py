"""The encoder's search for a camera's pan, and whether to take it out of a GOP (canvas.py).

frames ─halves of halves─▶ whole pixels, the coarsest first ─gradients─▶ quarter pixels ─▶ Canvas ─▶ does it pay?
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from gnvc_vd.bitstream import gop as gops
from gnvc_vd.conventions import MAX_PIXELS, Frame
from gnvc_vd.learned.canvas import PARTS, Canvas
from gnvc_vd.metrics.block_transform import BLOCK, dct

Offset = tuple[int, int]

SHORTEST = 9  # frames for which a canvas is looked for
COARSEST = 64  # pixels of the shorter side, at least, where a search begins; smaller pictures have no canvas
FINEST = 360  # pixels of the shorter side that tell quarter pixels of the frame
AROUND = 4  # pixels of the coarsest picture that are searched each way
LARGEST_DIFFERENCE = 20.0  # of grey levels that counts: what moves by itself is no sign of the camera

# A canvas is taken where a transform code with this step would have at least this part fewer bits (the measurements are
# in docs/log.md). The step is coarse because at low rates a canvas that is much larger than its frames costs most.
STEP = 64.0  # grey levels
GAIN = 0.08
STRIP = 128  # rows whose bits are counted at once


def steadied(frames: Frame) -> tuple[Canvas | None, Frame]:
    """What an encoder codes of a GOP, T H W 3: canvases where one pays, else the frames."""
    if len(frames) < SHORTEST or min(frames.shape[1:3]) < COARSEST:
        return None, frames
    canvas = pan_of(frames)
    if not canvas.within or not canvas.pans.any() or np.prod(canvas.size) > MAX_PIXELS:
        return None, frames
    placed = canvas.placed(frames)
    return (canvas, placed) if bits_of(placed) <= (1 - GAIN) * bits_of(frames) else (None, frames)


def pan_of(frames: Frame) -> Canvas:
    """The canvas on which most of the scene stands where it is in the middle frame."""
    middle = len(frames) // 2
    target = _pyramid(frames[middle])
    found = {middle: (0.0, 0.0)}
    for order in (range(middle + 1, len(frames)), range(middle - 1, -1, -1)):
        near = (0.0, 0.0)
        for t in order:
            near = found[t] = _offset(_pyramid(frames[t]), target, near)
    offsets = np.array([found[t] for t in range(len(frames))])
    return Canvas(np.rint(PARTS * (offsets[0] - offsets)).astype(int), *frames.shape[1:3])


def bits_of(frames: Frame) -> float:
    """About what a transform code over time and blocks takes for the grey picture."""
    padded, total = gops.pad(frames), 0.0
    time, place = dct(len(padded)).float(), dct(BLOCK).float()
    for top in range(0, padded.shape[1], STRIP):
        grey = torch.stack([_grey(frame) for frame in padded[:, top : top + STRIP]])
        turned = (time @ grey.flatten(1)).view_as(grey).unflatten(2, (-1, BLOCK)).unflatten(1, (-1, BLOCK))
        blocks = torch.einsum("tyixj,ai,bj->tyaxb", turned, place, place)
        total += 0.5 * (1 + (blocks / STEP).square()).log2().sum(dtype=torch.float64).item()
    return total


def _grey(frame: Frame) -> Tensor:
    return torch.from_numpy(frame[..., 0].astype(np.float32) + frame[..., 1] + frame[..., 2]) / 3


def _pyramid(frame: Frame) -> list[Tensor]:
    """A grey picture and its halves, the coarsest last."""
    levels = [_grey(frame)]
    while min(levels[-1].shape) >= 2 * COARSEST:
        levels.append(avg_pool2d(levels[-1][None], 2)[0])
    return levels


def _offset(other: list[Tensor], target: list[Tensor], near: tuple[float, float]) -> tuple[float, float]:
    """Where the target's scene lies in another picture, in pixels."""
    coarsest = len(target) - 1
    finest = max(level for level, picture in enumerate(target) if level == 0 or min(picture.shape) >= FINEST)
    y, x = (round(one / 2**coarsest) for one in near)
    for level in range(coarsest, finest - 1, -1):
        y, x = _nearest(other[level], target[level], (y, x), AROUND if level == coarsest else 1)
        if level > finest:
            y, x = 2 * y, 2 * x
    down, right = _between(other[finest], target[finest], (y, x))
    return 2.0**finest * (y + down), 2.0**finest * (x + right)


def _nearest(other: Tensor, target: Tensor, near: Offset, reach: int) -> Offset:
    """The whole offset at which two pictures differ least; the part of the target that is compared is one for all."""
    around, cost = range(-reach, reach + 1), dict[Offset, float]()
    for offset in ((near[0] + down, near[1] + right) for down in around for right in around):
        here, there = _common(other, target, offset, near, reach)
        if not here.numel():
            return near
        cost[offset] = (there - here).abs().clamp_max(LARGEST_DIFFERENCE).mean().item()
    return min(cost, key=lambda at: (cost[at], abs(at[0] - near[0]) + abs(at[1] - near[1])))


def _common(other: Tensor, target: Tensor, offset: Offset, near: Offset, reach: int) -> tuple[Tensor, Tensor]:
    """The part of the target that lies in the other picture at every offset near one; and what is there at this."""
    here, there = list[slice](), list[slice]()
    for side, at, middle in zip(target.shape, offset, near, strict=True):
        start = min(side, max(0, reach - middle))
        stop = max(start, side - max(0, reach + middle))
        here.append(slice(start, stop))
        there.append(slice(start + at, stop + at))
    return target[tuple(here)], other[tuple(there)]


def _between(other: Tensor, target: Tensor, offset: Offset) -> tuple[float, float]:
    """What a whole offset lacks, at most half a pixel: a step of robust least squares along the picture's slopes."""
    here, there = _common(other, target, offset, offset, 1)
    if min(here.shape) < BLOCK:
        return 0.0, 0.0
    blur = torch.tensor([1.0, 2.0, 1.0]) / 4
    here, there = (conv2d(one[None, None], (blur[:, None] * blur)[None, None])[0, 0] for one in (here, there))
    mean, difference = (here + there) / 2, (there - here)[1:-1, 1:-1].flatten().double()
    slopes = torch.stack([mean[2:, 1:-1] - mean[:-2, 1:-1], mean[1:-1, 2:] - mean[1:-1, :-2]]).flatten(1).double() / 2
    weighted = slopes * LARGEST_DIFFERENCE / difference.abs().clamp_min(LARGEST_DIFFERENCE)
    normal = weighted @ slopes.T
    ridge = 1e-3 + 1e-6 * normal.trace()  # of a picture of stripes, which moves along them unseen
    lacking = -torch.linalg.solve(normal + ridge * torch.eye(2), weighted @ difference)
    down, right = lacking.clamp(-0.5, 0.5).tolist()
    return down, right
