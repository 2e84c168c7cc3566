"""One model, all rates: what a quality multiplies the symbols by.

A level's gain is a fixed rise, one step of log gain after another, times a learned curve per channel that is drawn
through a few knots. The rise keeps training stable (quality can only mean more from the first step on); the knots leave
64 levels a few dozen times fewer parameters, so that each is trained by every clip near it.

Frozen, a gain and its inverse are integers, and a quality enters the coded world through these tables alone.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from gnvc_vd.conventions import QUALITIES
from gnvc_vd.entropy.cdf_tables import STEP
from gnvc_vd.entropy.integer import REACH, UNITS, clamp_with_gradient, in_units, round_shift, straight_round

KNOTS = 8
GAIN_BITS = 16  # a gain of one is 2^16
LARGEST_GAIN = 64.0
GAIN_AT_ONE = 1.5 / math.sqrt(0.605)  # of a quality with λ = 1, where training leads from a measured start
SMALLEST_SCALE = 1e-3  # that is measured
FINER = 4  # means leave their network this much finer than a value
LEVEL_UNITS = 256  # a table's index leaves its network in units of 1/256


class Gains(nn.Module):
    """Per-channel gains of every quality.

    Args:
        lowest, highest: the fixed rise, from quality 0 to the last.
    """

    gain_integers: Tensor  # 64 C
    inverse_integers: Tensor  # 64 C
    level_integers: Tensor  # 64 C: ln(gain) in units of 1/256 table

    def __init__(self, channels: int, lowest: float, highest: float) -> None:
        super().__init__()
        # Log gains at the knots before anything is learned: no file holds them, so they are numbers on any device.
        rise = torch.linspace(math.log(lowest), math.log(highest), KNOTS, device="cpu")[:, None]
        self.register_buffer("rise", rise, persistent=False)
        self.knots = nn.Parameter(torch.zeros(KNOTS, channels))
        for name in ("gain", "inverse", "level"):
            self.register_buffer(f"{name}_integers", torch.zeros(QUALITIES, channels, dtype=torch.int64))

    def log_gain(self, quality: Tensor) -> Tensor:
        """B → B C 1 1."""
        limit = math.log(LARGEST_GAIN)
        curve = cast(Tensor, self.rise) + self.knots
        return clamp_with_gradient(interpolate_knots(curve, quality), -limit, limit)[:, :, None, None]

    def freeze(self, places: Tensor) -> None:
        """Integers for each of 64 qualities, by its place on the scale that was trained."""
        with torch.no_grad():
            logarithm = self.log_gain(places)[:, :, 0, 0].double()
            one = 1 << GAIN_BITS
            self.gain_integers.copy_((logarithm.exp() * one).round())
            self.inverse_integers.copy_(((-logarithm).exp() * one).round())
            self.level_integers.copy_((logarithm / STEP * LEVEL_UNITS).round())

    def multiply(self, y: Tensor, quality: Tensor) -> Tensor:
        """The shown world's y, in steps of this quality. Frozen integers are used where there are some."""
        return y * self._float_gain(quality)

    def divide(self, y: Tensor, quality: Tensor) -> Tensor:
        return y / self._float_gain(quality)

    def normalise(self, symbols: Tensor, quality: Tensor) -> Tensor:
        """Decoded symbols in 1/64 steps of this quality, as values that mean the same at every quality."""
        if symbols.is_floating_point():
            return in_units(symbols * torch.exp(-self.log_gain(quality)))
        inverse = self.inverse_integers[quality][:, :, None, None]
        return round_shift(symbols * inverse, GAIN_BITS).clamp(-REACH, REACH)

    def mean(self, raw: Tensor, quality: Tensor) -> Tensor:
        """What the network says of the mean, in 1/64 steps of this quality."""
        if raw.is_floating_point():
            return straight_round(raw * torch.exp(self.log_gain(quality)) * UNITS) / UNITS
        return round_shift(raw * self.gain_integers[quality][:, :, None, None], GAIN_BITS + FINER)

    def level(self, quality: Tensor) -> Tensor:
        """What the gain adds to a table's index, in units of 1/256; a float while training."""
        if self.frozen:
            return self.level_integers[quality][:, :, None, None]
        return self.float_level(quality)

    def float_level(self, quality: Tensor) -> Tensor:
        return self.log_gain(quality) / STEP * LEVEL_UNITS

    @property
    def frozen(self) -> bool:
        return not self.training and bool(self.gain_integers.any())

    def _float_gain(self, quality: Tensor) -> Tensor:
        if self.frozen:
            return self.gain_integers[quality][:, :, None, None].float() / (1 << GAIN_BITS)
        return torch.exp(self.log_gain(quality))


def initial_log_gains(smallest: float, largest: float) -> Tensor:
    """What a measured start sets at the knots, for λ from the smallest to the largest: a step goes as 1/√λ."""
    return math.log(GAIN_AT_ONE) + torch.linspace(math.log(smallest), math.log(largest), KNOTS) / 2


def interpolate_knots(curve: Tensor, quality: Tensor) -> Tensor:
    """Knots × C read at each quality, linear between knots: B → B C."""
    place = quality.to(curve.dtype) / (QUALITIES - 1) * (KNOTS - 1)
    below = place.floor().clamp(0, KNOTS - 2).long()
    part = (place - below)[:, None]
    return curve[below] * (1 - part) + curve[below + 1] * part
