"""What symbols cost by the normal distribution that the tables are made of: differentiable, for whoever encodes."""

import math

import torch
from torch import Tensor

from gnvc_vd.entropy.cdf_tables import LEVELS, SMALLEST, STEP, TOTAL
from gnvc_vd.entropy.integer import clamp_with_gradient, straight_round


def scale_of(level: Tensor) -> Tensor:
    """The scale of a table, by its index; rounding passes gradients straight through."""
    return SMALLEST * torch.exp(STEP * clamp_with_gradient(straight_round(level), 0, LEVELS - 1))


def bits(residual: Tensor, scale: Tensor) -> Tensor:
    """−log2 of the normal mass in a unit step about the residual, never less likely than a table's smallest bin."""
    distance = residual.abs()
    mass = torch.special.ndtr((0.5 - distance) / scale) - torch.special.ndtr((-0.5 - distance) / scale)
    return -torch.log(clamp_with_gradient(mass, 1 / TOTAL, 1.0)) / math.log(2)


@torch.no_grad()
def round_symbols(residual: Tensor, scale: Tensor, thrift: float = 0.0) -> Tensor:
    """The nearest integers, or with thrift the next towards zero where the bits that these save outweigh their error.

    An encoder's choice: a decoder takes whatever symbols come.

    Args:
        thrift: squared error, in steps, that a bit is worth; a fine uniform quantiser has the slope ln 2 / 6, or 0.12.
    """
    nearest = residual.round()
    if not thrift:
        return nearest
    lower = nearest - nearest.sign()
    saved = bits(nearest, scale) - bits(lower, scale)
    error = (residual - lower).square() - (residual - nearest).square()
    return torch.where(thrift * saved > error, lower, nearest)
