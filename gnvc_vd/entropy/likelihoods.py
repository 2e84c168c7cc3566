"""Differentiable bits of symbols under the tables' normal distributions, and the encoder's rounding."""

import math
from typing import Any

import torch
from torch import Tensor

from gnvc_vd.entropy.cdf_tables import LEVELS, SMALLEST, STEP, TOTAL
from gnvc_vd.entropy.integer import drop_outward


def scale_of(level: Tensor) -> Tensor:
    """The scale of a table by its index, which is rounded with a straight-through gradient."""
    return _Scale.apply(level)


def bits(residual: Tensor, scale: Tensor) -> Tensor:
    """−log2 of the normal probability of the unit interval around the residual, at least 1/TOTAL as in a table."""
    return _Bits.apply(residual, scale)


@torch.no_grad()
def round_symbols(residual: Tensor, scale: Tensor | None, thrift: float = 0.0) -> Tensor:
    """Round to the nearest integers or, with thrift, to the next towards zero if the saved bits outweigh the error.

    This is the encoder's choice; decoders take any symbols.

    Args:
        scale: of each symbol's table; only thrift needs it.
        thrift: squared error, in squared steps, that is accepted for a saved bit; ln 2 / 6 = 0.12 is the slope of a
            fine uniform quantiser.
    """
    nearest = residual.round()
    if not thrift or scale is None:
        return nearest
    lower = nearest - nearest.sign()
    saved = bits(nearest, scale) - bits(lower, scale)
    error = (residual - lower).square() - (residual - nearest).square()
    return torch.where(thrift * saved > error, lower, nearest)


class _Scale(torch.autograd.Function):
    """`scale_of` with its gradient in closed form, which takes less time than autograd through every operation."""

    @staticmethod
    def forward(ctx: Any, level: Tensor) -> Tensor:
        whole = (level + 0.5).floor_()
        scale = SMALLEST * torch.exp(STEP * whole.clamp(0, LEVELS - 1))
        ctx.save_for_backward(whole, scale)
        return scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole, scale = ctx.saved_tensors
        return drop_outward((STEP * scale).mul_(gradients[0]), whole, 0, LEVELS - 1)


class _Bits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual: Tensor, scale: Tensor) -> Tensor:
        distance = residual.abs()
        upper, lower = (0.5 - distance).div_(scale), (-0.5 - distance).div_(scale)
        mass = torch.special.ndtr(upper).sub_(torch.special.ndtr(lower))
        ctx.save_for_backward(residual, scale, upper, lower, mass)
        return -torch.log(mass.clamp(1 / TOTAL, 1.0)) / math.log(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """With φ, the density: ∂mass/∂distance = (φ(lower) − φ(upper)) / scale, ∂mass/∂scale likewise with z φ(z)."""
        residual, scale, upper, lower, mass = ctx.saved_tensors
        slope = mass.clamp(1 / TOTAL, 1.0).mul_(-math.log(2)).reciprocal_().mul_(gradients[0])
        slope = drop_outward(slope, mass, 1 / TOTAL, 1.0).div_(scale)
        above, below = _density(upper), _density(lower)
        of_scale = (lower * below).sub_(above * upper).mul_(slope)
        return below.sub_(above).mul_(slope).mul_(residual.sign()), of_scale


def _density(z: Tensor) -> Tensor:
    """The density of the standard normal distribution."""
    return (z * z).mul_(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
