"""Gains: per-channel factors of the symbols that depend on the quality, so that one model serves all rates.

A gain is a fixed exponential rise over the 64 qualities times a learned curve per channel, interpolated between a few
knots. With the rise, a higher quality has finer steps from the start of training on; knots are few parameters, each of
which is trained by all clips with a quality near it.

Frozen gains and their inverses are integers; the quality enters the coded world only through these tables.
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
GAIN_AT_ONE = 1.5 / math.sqrt(0.605)  # gain for λ = 1 that training arrives at from a measured start
SMALLEST_SCALE = 1e-3  # lower bound of measured scales
FINER = 4  # extra fractional bits of the network's means
LEVEL_UNITS = 256  # the network's table indexes are in units of 1/256


class HasValues:
    """Whether a tensor is anything but zeros. Its device is asked, and waited for, once for each content."""

    def __init__(self) -> None:
        self._known: tuple[Tensor, int, bool] | None = None

    def __call__(self, values: Tensor) -> bool:
        if values.is_inference():  # such tensors do not count their changes
            return bool(values.any())
        if self._known is None or self._known[0] is not values or self._known[1] != values._version:
            self._known = values, values._version, bool(values.any())
        return self._known[2]


class Gains(nn.Module):
    """Per-channel gains of every quality.

    Args:
        lowest, highest: ends of the fixed rise, at quality 0 and 63.
    """

    gain_integers: Tensor  # 64 C
    inverse_integers: Tensor  # 64 C
    level_integers: Tensor  # 64 C: ln(gain) as an offset of table indexes, in 1/256

    def __init__(self, channels: int, lowest: float, highest: float) -> None:
        super().__init__()
        self._has_integers = HasValues()
        # Initial log gains at the knots. No file holds them, so they are on the CPU even if the model is built on meta.
        rise = torch.linspace(math.log(lowest), math.log(highest), KNOTS, device="cpu")[:, None]
        self.register_buffer("rise", rise, persistent=False)
        self.knots = nn.Parameter(torch.zeros(KNOTS, channels))
        for name in ("gain", "inverse", "level"):
            self.register_buffer(f"{name}_integers", torch.zeros(QUALITIES, channels, dtype=torch.int64))

    def log_gain(self, quality: Tensor) -> Tensor:
        """Logarithm of the gain for qualities B: B C 1 1."""
        limit = math.log(LARGEST_GAIN)
        curve = cast(Tensor, self.rise) + self.knots
        return clamp_with_gradient(interpolate_knots(curve, quality), -limit, limit)[:, :, None, None]

    def freeze(self, places: Tensor) -> None:
        """Write the integers for the 64 qualities, at `places` of the trained scale."""
        with torch.no_grad():
            logarithm = self.log_gain(places)[:, :, 0, 0].double()
            one = 1 << GAIN_BITS
            self.gain_integers.copy_((logarithm.exp() * one).round())
            self.inverse_integers.copy_(((-logarithm).exp() * one).round())
            self.level_integers.copy_((logarithm / STEP * LEVEL_UNITS).round())

    def multiply(self, y: Tensor, quality: Tensor) -> Tensor:
        """Multiply y by the gain, which gives it in steps of this quality; frozen gains are used if there are any."""
        return y * self._float_gain(quality)

    def divide(self, y: Tensor, quality: Tensor) -> Tensor:
        return y / self._float_gain(quality)

    def normalise(self, symbols: Tensor, quality: Tensor) -> Tensor:
        """Divide decoded symbols by their gain: values whose scale does not depend on the quality."""
        if symbols.is_floating_point():
            return in_units(symbols * torch.exp(-self.log_gain(quality)))
        inverse = self.inverse_integers[quality][:, :, None, None]
        return round_shift(symbols * inverse, GAIN_BITS).clamp(-REACH, REACH)

    def mean(self, raw: Tensor, quality: Tensor) -> Tensor:
        """The network's mean, multiplied by the gain: in 1/64 steps of this quality."""
        if raw.is_floating_point():
            return straight_round(raw * torch.exp(self.log_gain(quality)) * UNITS) / UNITS
        return round_shift(raw * self.gain_integers[quality][:, :, None, None], GAIN_BITS + FINER)

    def level(self, quality: Tensor) -> Tensor:
        """Offset of table indexes for the gain, in units of 1/256; a float in training."""
        if self.frozen:
            return self.level_integers[quality][:, :, None, None]
        return self.float_level(quality)

    def float_level(self, quality: Tensor) -> Tensor:
        return self.log_gain(quality) / STEP * LEVEL_UNITS

    @property
    def frozen(self) -> bool:
        return not self.training and self._has_integers(self.gain_integers)

    def _float_gain(self, quality: Tensor) -> Tensor:
        if self.frozen:
            return self.gain_integers[quality][:, :, None, None].float() / (1 << GAIN_BITS)
        return torch.exp(self.log_gain(quality))


def initial_log_gains(smallest: float, largest: float) -> Tensor:
    """Log gains at the knots for a measured start, with steps proportional to 1/√λ."""
    return math.log(GAIN_AT_ONE) + torch.linspace(math.log(smallest), math.log(largest), KNOTS) / 2


def interpolate_knots(curve: Tensor, quality: Tensor) -> Tensor:
    """Interpolate a curve, knots × C, linearly at qualities B: B C."""
    place = quality.to(curve.dtype) / (QUALITIES - 1) * (KNOTS - 1)
    below = place.floor().clamp(0, KNOTS - 2).long()
    part = (place - below)[:, None]
    return curve[below] * (1 - part) + curve[below + 1] * part
