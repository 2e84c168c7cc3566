"""Refinement of a large picture in overlapping tiles, so that its cost grows linearly with the picture.

A window's attention is over all its places, and a small model has seen no picture larger than its training's. At every
step the velocity is computed tile by tile, and cross-faded where tiles overlap.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gnvc_vd.conventions import SPATIAL_STRIDE

OVERLAP = 4  # latents that neighbouring tiles share at least
PATCH = 2  # latents of a transformer's patch, height and width
Velocity = Callable[[Tensor, Tensor], Tensor]  # of x and hints


def velocity_in_tiles(velocity: Velocity, x: Tensor, hints: Tensor, largest: int) -> Tensor:
    """The velocity at x, from tiles of at most `largest` × `largest` pixels."""
    rows, columns = (spans(length, largest // SPATIAL_STRIDE) for length in x.shape[-2:])
    if len(rows) == len(columns) == 1:
        return velocity(x, hints)
    fades = [fade(one, x.shape[-2])[:, None] for one in rows], [fade(one, x.shape[-1]) for one in columns]
    total, weights = torch.zeros_like(x), x.new_zeros(x.shape[-2:])
    for row, down in zip(rows, fades[0], strict=True):
        for column, across in zip(columns, fades[1], strict=True):
            weight = (down * across).to(x.device)
            total[..., row, column] += weight * velocity(x[..., row, column], hints[..., row, column])
            weights[row, column] += weight
    return total / weights


def spans(length: int, largest: int) -> list[slice]:
    """Equal parts of at most `largest` latents that cover a length in whole patches; as few as do."""
    count = math.ceil((length - OVERLAP) / (largest - OVERLAP)) if length > largest else 1
    if count == 1:
        return [slice(0, length)]
    size = PATCH * math.ceil((length + (count - 1) * OVERLAP) / count / PATCH)
    starts = [PATCH * round(index * (length - size) / (count - 1) / PATCH) for index in range(count)]
    return [slice(start, start + size) for start in starts]


def fade(span: slice, length: int) -> Tensor:
    """A tile's weights along one side: 1, falling off at those of its ends that have a neighbour."""
    weights = torch.ones(span.stop - span.start)
    ramp = (torch.arange(OVERLAP) + 0.5) / OVERLAP
    if span.start > 0:
        weights[:OVERLAP] = ramp
    if span.stop < length:
        weights[-OVERLAP:] = ramp.flip(0)
    return weights
