"""Made-up clips: textures, dead leaves, gratings and edges under a moving camera, some with noise new in every frame.

A minor share of a training: structures that photographs have too few of, and no end of them.
"""

import math

import torch
from torch import Tensor

from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.material import Material
from gnvc_vd.data.samples import Clips, Draws
from gnvc_vd.data.scenery import moving_clip

CANVAS = 1.75  # times the clip, each way
LEAVES = 120
ENDLESS = 1 << 20  # what `len` says: no item ever comes again


class ProceduralClips(Clips):
    """A new clip for every number."""

    def __init__(self, spec: ClipSpec) -> None:
        self.spec, self._material = spec, Material()

    def register_files(self, material: Material) -> None:
        self._material = material  # its device is known when it is loaded

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, number: int) -> Tensor:
        if number < 0:
            raise IndexError(f"there is no sample {number}")
        draws = Draws(self.spec.seed, number)
        height, width = (int(CANVAS * side) for side in (self.spec.height, self.spec.width))
        makers = (texture, dead_leaves, gratings, edges)
        background, nearer = (makers[draws.below(len(makers))](draws, height, width) for _ in range(2))
        device = self._material.device
        return moving_clip(draws, background.to(device), nearer.to(device), self.spec)


def texture(draws: Draws, height: int, width: int) -> Tensor:
    """Noise whose spectrum falls as a power of the frequency, in colours that go together: 3 H W uint8."""
    noise = torch.randn(3, height, width, generator=draws.generator())
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    envelope = (rows.square() + columns.square()).clamp(min=1 / max(height, width) ** 2) ** (-draws.uniform(0.3, 1.0))
    field = torch.fft.irfft2(torch.fft.rfft2(noise) * envelope, s=(height, width))
    field = field / field.std()
    shared = draws.uniform(0.3, 0.9)  # how much of the variance is grey
    field = math.sqrt(shared) * field[:1] + math.sqrt(1 - shared) * field
    return _levels(draws.uniform(60, 200) + draws.uniform(15, 60) * field)


def dead_leaves(draws: Draws, height: int, width: int) -> Tensor:
    """Discs of all sizes that hide one another, each of one colour: occlusion with natural statistics, 3 H W uint8."""
    generator = draws.generator()
    x, y, radius, red, green, blue = torch.rand(6, LEAVES, generator=generator)
    side = min(height, width)
    smallest, largest = side / 40, side / 2.5
    radius = 1 / (smallest**-2 - radius * (smallest**-2 - largest**-2)).sqrt()  # density as r^-3
    picture = torch.full((3, height, width), 128.0)
    colours = 255 * torch.stack([red, green, blue], -1)
    for column, row, reach, colour in zip((x * width).tolist(), (y * height).tolist(), radius.tolist(), colours,
                                          strict=True):  # fmt: skip
        top, bottom = max(0, int(row - reach) - 1), min(height, int(row + reach) + 2)
        left, right = max(0, int(column - reach) - 1), min(width, int(column + reach) + 2)
        distance = torch.hypot(torch.arange(top, bottom)[:, None] - row, torch.arange(left, right) - column)
        cover = (reach - distance + 0.5).clamp(0, 1)  # an edge one pixel wide
        part = picture[:, top:bottom, left:right]
        part += cover * (colour[:, None, None] - part)
    return _levels(picture)


def gratings(draws: Draws, height: int, width: int) -> Tensor:
    """A few waves across one another: 3 H W uint8."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    picture = torch.full((3, height, width), draws.uniform(80, 180))
    for _ in range(1 + draws.below(3)):
        period = math.exp(draws.uniform(math.log(3), math.log(min(height, width) / 2)))
        angle, phase = draws.uniform(0, math.pi), draws.uniform(0, 2 * math.pi)
        wave = torch.sin(2 * math.pi / period * (x * math.cos(angle) + y * math.sin(angle)) + phase)
        if draws.chance(0.3):  # stripes
            wave = (3 * wave).clamp(-1, 1)
        colour = torch.tensor([draws.uniform(0.3, 1) for _ in range(3)])
        picture += draws.uniform(15, 60) * colour[:, None, None] * wave
    return _levels(picture)


def edges(draws: Draws, height: int, width: int) -> Tensor:
    """Flat and shaded fields between straight edges: 3 H W uint8."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    picture = _shade(draws, x, y)
    for _ in range(2 + draws.below(5)):
        angle, offset = draws.uniform(0, 2 * math.pi), draws.uniform(-0.8, 0.8)
        side = x * math.cos(angle) + y * math.sin(angle) - offset
        cover = (0.5 + side * min(height, width) / 2).clamp(0, 1)
        picture = picture + cover * (_shade(draws, x, y) - picture)
    return _levels(picture)


def _shade(draws: Draws, x: Tensor, y: Tensor) -> Tensor:
    colour = torch.tensor([draws.uniform(0, 255) for _ in range(3)])
    slope = draws.uniform(0, 40)
    return colour[:, None, None] + slope * (x * draws.uniform(-1, 1) + y * draws.uniform(-1, 1))


def _levels(picture: Tensor) -> Tensor:
    return picture.round().clamp(0, 255).to(torch.uint8)
