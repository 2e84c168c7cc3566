"""What symbols cost while training: the same normal distribution that the tables are made of, differentiable."""

import math

import torch
from torch import Tensor

from gnvc_vd.entropy.integer import bounded, straight_round
from gnvc_vd.entropy.tables import LEVELS, SMALLEST, STEP, TOTAL


def scale_of(level: Tensor) -> Tensor:
    """The scale of a table, by its index; rounding passes gradients straight through."""
    return SMALLEST * torch.exp(STEP * bounded(straight_round(level), 0, LEVELS - 1))


def bits(residual: Tensor, scale: Tensor) -> Tensor:
    """−log2 of the normal mass in a unit step about the residual, never less likely than a table's smallest bin."""
    distance = residual.abs()
    mass = torch.special.ndtr((0.5 - distance) / scale) - torch.special.ndtr((-0.5 - distance) / scale)
    return -torch.log(bounded(mass, 1 / TOTAL, 1.0)) / math.log(2)
