"""Moving pictures from still ones: a background, and perhaps a nearer layer that moves faster.

background ──path──▶ far ─┐
nearer ────path─────▶ near ┼─▶ near·m + far·(1 − m) ──grain──▶ 3 T H W uint8
blob ──the same path──▶ m ─┘
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gnvc_vd.data.camera import Motion, draw_motion, draw_shrink, path_of, place_path, warp
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.samples import Draws

TWO_LAYERS = 0.4  # the part of the clips with a nearer layer
GRAINY = 0.2  # the part with noise that is new in every frame
STRONGEST_GRAIN = 6.0  # grey levels
NEARER = (1.5, 4.0)  # how many times faster the nearer layer moves
COVERED = (0.15, 0.6)  # the part of the frame it covers
EDGE = 1.5  # pixels over which it ends
BLOB = 2  # how many times the frame the mask is, each way


def moving_clip(draws: Draws, background: Tensor, nearer: Tensor, spec: ClipSpec) -> Tensor:
    """A clip of two pictures 3 H W uint8 on one device, the second seen only where there are two layers."""
    height, width = spec.height, spec.width
    motion = draw_motion(draws, height, width)
    angle = draws.uniform(-0.2, 0.2) if draws.chance(0.5) else 0.0
    far = _somewhere(draws, background, motion, angle, spec)
    seen = warp(background, far, height, width)
    if draws.chance(TWO_LAYERS):
        near = _somewhere(draws, nearer, motion.faster(draws.uniform(*NEARER)), angle, spec)
        mask = blob(draws, height, width, seen.device)
        mask = warp(mask, attach_path(near, height, width), height, width).clamp(0, 1)
        seen = seen + mask * (warp(nearer, near, height, width) - seen)
    if draws.chance(GRAINY):
        strength, generator = draws.uniform(0.5, STRONGEST_GRAIN), draws.generator(seen.device)
        seen = seen + strength * torch.randn(seen.shape, generator=generator, device=seen.device)
    if spec.flip and draws.chance(0.5):
        seen = seen.flip(3)
    return seen.round().clamp(0, 255).to(torch.uint8)


def blob(draws: Draws, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """A mask of 0 and 1 with soft edges, 1 2h 2w: the heights of a smooth field that reach a level."""
    generator = draws.generator()
    cells = 3 + draws.below(4)
    field = torch.rand(1, 1, cells, cells, generator=generator).to(device)
    field = interpolate(field, (BLOB * height, BLOB * width), mode="bicubic", align_corners=True)[0, 0]
    level = torch.quantile(field[::4, ::4].flatten(), 1 - draws.uniform(*COVERED))
    slope = field.diff(dim=0).abs().mean() + field.diff(dim=1).abs().mean()
    return (0.5 + (field - level) / (EDGE * slope)).clamp(0, 1)[None]


def attach_path(path: Tensor, height: int, width: int) -> Tensor:
    """The path over a picture 2h 2w that is fastened to what `path` shows, and lies on its middle frame."""
    middle = path[len(path) // 2]
    undone = torch.linalg.inv(middle[:, :2])
    fastened = torch.cat([undone @ path[..., :2], undone @ path[..., 2:] + -undone @ middle[:, 2:]], -1)
    fastened[..., 2] += torch.tensor([BLOB * width - 1, BLOB * height - 1], dtype=path.dtype) / 2
    return fastened


def _somewhere(draws: Draws, picture: Tensor, motion: Motion, angle: float, spec: ClipSpec) -> Tensor:
    size = (picture.shape[1], picture.shape[2])
    path = path_of(motion, spec.frames, draw_shrink(draws, spec.height, spec.width, size), angle)
    return place_path(path, draws, spec.height, spec.width, size)
