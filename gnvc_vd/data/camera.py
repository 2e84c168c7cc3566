"""A camera that moves over a picture: random paths, and the frames along them.

A path is T 2 3: for every frame, the affine map from positions in the frame (x right, y down, from its centre) to
positions in the picture (pixel centres are at integers), source = A·(x, y) + b.

    p_t ──A_t──▶ picture ◀──A_{t+1}── p_{t+1}            what is at p moves to A_{t+1}⁻¹·A_t·p
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from gnvc_vd.data.samples import Draws

FASTEST = 0.04  # largest shift per frame, in short sides of the frame
FASTEST_TURN = math.radians(1.5)  # largest rotation per frame
FASTEST_ZOOM = 0.012  # largest change of scale per frame
SHAKE = 0.01  # largest amplitude of shaking, in short sides
STILL = 0.1  # share of paths without motion
LARGEST_SHRINK = 8.0  # largest downscaling of the picture
BORDER = 3  # pixels around a patch, for interpolation
SAME_SIZE = 1e-3


@dataclass(frozen=True)
class Motion:
    """A camera's motion per frame, in pixels of the frame."""

    right: float = 0.0
    down: float = 0.0
    turn: float = 0.0  # radians
    zoom: float = 0.0  # logarithm of the scale
    shake: float = 0.0  # pixels
    wave: float = 0.0  # frequency of the shaking, in radians per frame
    phase: float = 0.0

    def faster(self, factor: float) -> "Motion":
        """The motion of an object nearer to the camera: larger shifts, the same rotation and zoom."""
        return replace(self, right=self.right * factor, down=self.down * factor, shake=self.shake * factor)


def draw_motion(draws: Draws, height: int, width: int) -> Motion:
    """Draw a motion: more often slow than fast, and sometimes none."""
    if draws.chance(STILL):
        return Motion()
    side = min(height, width)
    speed, heading = draws.uniform() ** 2 * FASTEST * side, draws.uniform(0, 2 * math.pi)
    return Motion(
        right=speed * math.cos(heading),
        down=speed * math.sin(heading),
        turn=FASTEST_TURN * draws.uniform(-1, 1) ** 3,
        zoom=FASTEST_ZOOM * draws.uniform(-1, 1) ** 3,
        shake=SHAKE * side * draws.uniform() ** 3,
        wave=draws.uniform(0.1, 1.0),
        phase=draws.uniform(0, 2 * math.pi),
    )


def path_of(motion: Motion, frames: int, shrink: float = 1.0, angle: float = 0.0) -> Tensor:
    """The path of a motion around the picture's origin, T 2 3 in float64."""
    time = torch.arange(frames, dtype=torch.float64) - (frames - 1) / 2
    scale, turn = shrink * (motion.zoom * time).exp(), angle + motion.turn * time
    across, along = torch.cos(turn) * scale, torch.sin(turn) * scale
    linear = torch.stack([torch.stack([across, -along], -1), torch.stack([along, across], -1)], -2)
    swing = motion.wave * time + motion.phase
    moved = torch.stack([motion.right * time, motion.down * time], -1)
    moved = moved + motion.shake * torch.stack([swing.sin(), (1.3 * swing).cos()], -1)
    turned = shrink * moved @ linear[frames // 2].T / scale[frames // 2]
    return torch.cat([linear, turned[..., None]], -1)


def place_path(path: Tensor, draws: Draws, height: int, width: int, picture: tuple[int, int]) -> Tensor:
    """Move a path to a random position in a picture H W, downscaled if it does not fit."""
    low, high = _reach(path, height, width)
    room = torch.tensor([picture[1] - 1, picture[0] - 1], dtype=torch.float64)
    fit = min(1.0, float((room / (high - low)).min()))
    free = (room - fit * (high - low)).clamp(min=0)
    offset = torch.tensor([draws.uniform(), draws.uniform()], dtype=torch.float64) * free - fit * low
    path = path * fit
    path[..., 2] += offset
    return path


def draw_shrink(draws: Draws, height: int, width: int, picture: tuple[int, int]) -> float:
    """Draw the downscaling of a picture: log-uniform from 1 to most of the picture in one frame."""
    largest = min(LARGEST_SHRINK, 0.8 * picture[0] / height, 0.8 * picture[1] / width)
    return math.exp(draws.uniform() * math.log(max(1.0, largest)))


def warp(picture: Tensor, path: Tensor, height: int, width: int) -> Tensor:
    """Frames of a picture C H W along a path T 2 3: C T h w float32 in the picture's units, on its device.

    If the frames have a lower resolution than the picture, the picture is first downscaled, with an anti-aliasing
    filter, to the scale of the path's middle frame.
    """
    frames, path = len(path), path.double().cpu()
    low, high = _reach(path, height, width)
    rows, columns = picture.shape[1:]
    left, top = (max(0, math.floor(float(edge)) - BORDER) for edge in low)
    right, bottom = (math.ceil(float(edge)) + BORDER + 1 for edge in high)
    left, top = min(left, columns - 1), min(top, rows - 1)
    patch = picture[None, :, top : max(bottom, top + 1), left : max(right, left + 1)].float()
    shrink = float(torch.linalg.det(path[frames // 2, :, :2]).abs().sqrt())
    inner = path.clone()
    inner[..., 2] -= torch.tensor([left, top], dtype=torch.float64)
    if shrink > 1 + SAME_SIZE:
        size = [max(1, round(side / shrink)) for side in patch.shape[2:]]
        factor = torch.tensor([size[1] / patch.shape[3], size[0] / patch.shape[2]], dtype=torch.float64)
        patch = interpolate(patch, size, mode="bilinear", antialias=True)
        inner[..., 2] += 0.5
        inner = inner * factor[:, None]
        inner[..., 2] -= 0.5
    # Cubic interpolation to half pixels, then linear: exact at integer positions, and twice as fast as cubic alone.
    patch = interpolate(patch, [2 * side - 1 for side in patch.shape[2:]], mode="bicubic", align_corners=True)
    reach = torch.tensor([patch.shape[3] - 1, patch.shape[2] - 1], dtype=torch.float64).clamp(min=1)
    inner = inner * (4 / reach[:, None])
    inner[..., 2] -= 1
    grid = _transform(inner.float().to(patch.device), _places(height, width).float().to(patch.device))
    grid = grid.reshape(1, frames * height, width, 2)
    seen = grid_sample(patch, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return seen.view(-1, frames, height, width)


def _reach(path: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The smallest and largest (x, y) of all frames' corners in the picture."""
    corners = _transform(path, _places(height, width)[:: max(1, height - 1), :: max(1, width - 1)]).flatten(0, 2)
    return corners.amin(0), corners.amax(0)


def _places(height: int, width: int) -> Tensor:
    """Positions (x, y) of a frame's pixels from its centre: h w 2."""
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    y = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)


def _transform(path: Tensor, places: Tensor) -> Tensor:
    """Map positions h w 2 through a path: T h w 2."""
    x, y = places[:1, :, 0, None], places[:, :1, 1, None]  # x of each column, y of each row
    to_right, to_bottom, shift = (path[:, None, None, :, k] for k in range(3))
    return to_right * x + (to_bottom * y + shift)
