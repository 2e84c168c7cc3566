"""Pictures cut into overlapping tiles and joined again with a cross-fade, as diffusers does it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnvc_vd.conventions import SPATIAL_STRIDE

DEFAULT_SIZE = 256  # pixels
Grid = list[list[Tensor]]  # rows of tiles, each … H W


@dataclass(frozen=True)
class Tiling:
    """Squares of `size` pixels every `stride` pixels. Less memory; a seam where they overlap."""

    size: int = DEFAULT_SIZE
    stride: int = DEFAULT_SIZE * 3 // 4

    def __post_init__(self) -> None:
        if self.size % SPATIAL_STRIDE or self.stride % SPATIAL_STRIDE or not 0 < self.stride <= self.size:
            raise ValueError(f"tiles of {self.size} every {self.stride} pixels do not overlap in whole latents")

    @classmethod
    def of_size(cls, size: int) -> "Tiling":
        """Tiles that overlap by about a quarter."""
        return cls(size, size * 3 // 4 // SPATIAL_STRIDE * SPATIAL_STRIDE)


def cut(x: Tensor, tiling: Tiling | None, scale: float = 1) -> Grid:
    """Tiles of x; `scale` is x's resolution as a part of the picture's. One tile where the picture is no larger."""
    height, width = x.shape[-2:]
    if tiling is None or max(height, width) <= tiling.size * scale:
        return [[x]]
    size, stride = round(tiling.size * scale), round(tiling.stride * scale)
    return [
        [x[..., top : top + size, left : left + size] for left in range(0, width, stride)]
        for top in range(0, height, stride)
    ]


def join(grid: Grid, tiling: Tiling | None, size: Sequence[float], scale: float = 1) -> Tensor:
    """The picture that the tiles make; `size` is the picture's height and width before scaling."""
    if tiling is None or len(grid) == len(grid[0]) == 1:
        return grid[0][0]
    stride, overlap = round(tiling.stride * scale), round((tiling.size - tiling.stride) * scale)
    faded: Grid = []
    for row in grid:
        faded.append([])
        for left, tile in enumerate(row):
            if len(faded) > 1:
                tile = _fade(faded[-2][left], tile, overlap, dim=-2)
            if left:
                tile = _fade(faded[-1][left - 1], tile, overlap, dim=-1)
            faded[-1].append(tile)
    joined = torch.cat([torch.cat([tile[..., :stride, :stride] for tile in row], dim=-1) for row in faded], dim=-2)
    return joined[..., : round(size[0] * scale), : round(size[1] * scale)]


def _fade(before: Tensor, tile: Tensor, overlap: int, dim: int) -> Tensor:
    """The tile with its first lines faded in over the last lines of the tile before it."""
    extent = min(before.shape[dim], tile.shape[dim], overlap)
    weight = torch.arange(extent, dtype=torch.float64, device=tile.device).view(-1, *[1] * (-1 - dim)) / extent
    old, new = (1 - weight).to(tile.dtype), weight.to(tile.dtype)
    lines = before.narrow(dim, before.shape[dim] - extent, extent) * old + tile.narrow(dim, 0, extent) * new
    return torch.cat([lines, tile.narrow(dim, extent, tile.shape[dim] - extent)], dim=dim)
