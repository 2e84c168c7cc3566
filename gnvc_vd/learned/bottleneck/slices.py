"""The entropy model of a slice: one temporal frequency of a rotation, 64 channels on a grid of 2×2 blocks.

A rotation is a run of latents that are transformed together over time (DCT). Its first slice is the lowest frequency;
in a GOP's first rotation that slice is coded as four bands (pyramid.py), each like a slice.

    ŷ_0, |ŷ_0|, ŷ_a−1, |ŷ_a−1|, decaying Σ|ŷ| ─▶ base ──▶ first stage of ŷ_a ──▶ … ──▶ last stage

The networks' inputs are integers that the decoder has too: earlier slices and the decoded stages of this one, each
with its magnitude, all whitened: divided by the gain of their quality and the measured scale of their channel. So a
network whose output is zero predicts the measured scales, and compresses well before any training.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from gnvc_vd.bitstream.layout import MAX_ROTATION
from gnvc_vd.conventions import QUALITIES
from gnvc_vd.entropy import likelihoods
from gnvc_vd.entropy.cdf_tables import LEVELS, STEP
from gnvc_vd.entropy.coder import LIMIT
from gnvc_vd.entropy.integer import (
    REACH,
    UNITS,
    IntegerConv,
    IntegerLeaky,
    clamp_with_gradient,
    in_units,
    round_shift,
    saturate,
    straight_floor,
    straight_round,
)
from gnvc_vd.learned.bottleneck.gains import FINER, GAIN_BITS, KNOTS, LEVEL_UNITS, HasValues, interpolate_knots
from gnvc_vd.learned.bottleneck.symbol_coding import MIDDLE, MIDDLE_SCALE, PARAMETER_REACH, Coders, code_symbols
from gnvc_vd.presets import TransformPreset

CHANNELS = 64  # of a slice: 16 latent channels at 2×2 positions
LONGEST = MAX_ROTATION  # most latents in a rotation
DETAILS = (1, 2, 3)  # detail bands of a lowest slice; band 0 is the smooth one
BANDS = 6  # frequency bands above the lowest, each with its own gains; predicted lowest slices have their own too
LARGEST = 512.0  # maximum gain
LARGEST_INTEGER, LARGEST_SCALE_INTEGER = 512 << GAIN_BITS, 1024 << GAIN_BITS  # gains, scales, and their inverses
ORDER_OF_FOUR = ((0, 2), (3, 1))  # coding stage of a position, by row and column parity

SliceIndex = tuple[int, int]  # rotation length, slice (or band) number


class SliceScales(NamedTuple):
    """A slice in training: per channel, standard deviation in quantisation steps, its inverse, and table index, B C."""

    deviation: Tensor
    unit: Tensor  # B C 1 1
    level: Tensor


class SliceLikelihood(NamedTuple):
    """A slice in training: ŷ in quantisation steps, whitened ŷ, table indexes, and bits per clip."""

    symbols: Tensor
    values: Tensor
    levels: Tensor
    bits: Tensor


class CodedSlice(NamedTuple):
    """A slice in coding: ŷ as integers in 1/64 of a step, whitened ŷ, and table indexes."""

    symbols: Tensor
    values: Tensor
    levels: Tensor


Part = Literal["smooth", "details", "higher"]  # the first band of a lowest slice, its other three, all other slices


def rows_of(part: Part) -> list[SliceIndex]:
    """All rows of the table of measured scales: (rotation length, slice or band number)."""
    lengths = range(1, LONGEST + 1)
    numbers = {"smooth": lambda length: [0], "details": lambda length: DETAILS, "higher": range}[part]
    return [(length, number) for length in lengths for number in numbers(length)]


class SliceEntropy(nn.Module):
    """Entropy model of one part of a rotation.

    In rotations after the first, the lowest slice is coded as its difference from a prediction (transform.py). Its
    context is the previous rotation's slices, where a higher slice has the earlier slices of its own rotation.

    Args:
        part: which slices it codes. The smooth band comes first and has no context, so it is coded in more stages.
        thrift: trade-off of bits and error in the encoder's rounding (likelihoods.round_symbols).
    """

    gain_integers: Tensor  # 64 bands C
    inverse_integers: Tensor  # 64 bands C
    level_integers: Tensor  # 64 bands C, in 1/256 of a table index
    scale_integers: Tensor  # rows C
    inverse_scale_integers: Tensor  # rows C
    row_level_integers: Tensor  # rows C, in 1/256 of a table index
    quality_integers: Tensor  # 64 P
    row_integers: Tensor  # rows P
    start: Tensor  # log gain at the knots before training
    log_scale: Tensor  # rows C, measured

    def __init__(self, preset: TransformPreset, part: Part, thrift: float = 0.0) -> None:
        super().__init__()
        self.part, self.thrift, prior = part, thrift, preset.prior
        self._has_integers = HasValues()
        self.rows = {row: place for place, row in enumerate(rows_of(part))}
        first = part == "smooth"
        self.stages = 4 if first else 2
        bands = {"smooth": 1, "details": len(DETAILS), "higher": 1 + BANDS}[part]
        self.context = None if first else nn.Sequential(
            IntegerConv(5 * CHANNELS, preset.state), IntegerConv(preset.state, prior, 1)
        )  # fmt: skip
        self.fuse = nn.Sequential(IntegerLeaky(), IntegerConv(prior, prior, 1), IntegerLeaky())
        self.neighbours = nn.ModuleList(IntegerConv(2 * CHANNELS, prior) for _ in range(self.stages - 1))
        self.deeper = nn.ModuleList(
            nn.Sequential(IntegerLeaky(), IntegerConv(prior, prior), IntegerLeaky()) if first else nn.Identity()
            for _ in range(self.stages - 1)
        )
        self.heads = nn.ModuleList(_head(prior) for _ in range(self.stages))
        self.knots = nn.Parameter(torch.zeros(KNOTS, bands, CHANNELS))
        self.band_gain = nn.Parameter(torch.zeros(bands, 1))
        self.band_levels = nn.Parameter(torch.zeros(bands, CHANNELS))
        self.level_knots = nn.Parameter(torch.zeros(KNOTS, CHANNELS))
        self.quality_knots = nn.Parameter(torch.zeros(KNOTS, prior))
        self.row_bias = nn.Parameter(torch.zeros(len(self.rows), prior))
        self.register_buffer("start", torch.zeros(KNOTS))
        self.register_buffer("log_scale", torch.zeros(len(self.rows), CHANNELS))
        shapes = {
            **dict.fromkeys(("gain", "inverse", "level"), (QUALITIES, bands, CHANNELS)),
            **dict.fromkeys(("scale", "inverse_scale", "row_level"), (len(self.rows), CHANNELS)),
            "quality": (QUALITIES, prior),
            "row": (len(self.rows), prior),
        }
        for name, shape in shapes.items():
            self.register_buffer(f"{name}_integers", torch.zeros(shape, dtype=torch.int32))

    def freeze(self, places: Tensor) -> None:
        """Set this module's integers from its parameters; its layers set their own."""
        with torch.no_grad():
            one = 1 << GAIN_BITS
            gain = torch.stack([self._log_gain(places, band) for band in range(len(self.band_gain))], 1).double()
            scale = self.log_scale.double()
            levels = LEVEL_UNITS * (4 * self._band_level(places).double() + gain / STEP)
            self.gain_integers.copy_((gain.exp() * one).round().clamp(1, LARGEST_INTEGER))
            self.inverse_integers.copy_(((-gain).exp() * one).round().clamp(1, LARGEST_INTEGER))
            self.level_integers.copy_(levels.round())
            self.scale_integers.copy_((scale.exp() * one).round().clamp(1, LARGEST_SCALE_INTEGER))
            self.inverse_scale_integers.copy_(((-scale).exp() * one).round().clamp(1, LARGEST_SCALE_INTEGER))
            self.row_level_integers.copy_((4 * LEVEL_UNITS * self._row_level().double()).round())
            bias = interpolate_knots(self.quality_knots, places)
            self.quality_integers.copy_((bias * UNITS).round().clamp(-REACH, REACH))
            self.row_integers.copy_((self.row_bias * UNITS).round().clamp(-REACH, REACH))

    def band_of(self, at: SliceIndex) -> int:
        """Index of the gains that a band, or a slice of this frequency, uses."""
        length, number = at
        if self.part == "details":
            return number - 1
        return 1 + (2 * number * BANDS - BANDS) // (2 * (length - 1)) if number else 0

    def gain(self, quality: Tensor, at: SliceIndex) -> Tensor:
        """The gain that y is multiplied by, B C 1 1: from the frozen integers if there are any."""
        band = self.band_of(at)
        if self.frozen:
            return self.gain_integers[quality, band][:, :, None, None].float() / (1 << GAIN_BITS)
        return torch.exp(self._log_gain(quality, band))[:, :, None, None]

    @property
    def frozen(self) -> bool:
        return not self.training and self._has_integers(self.gain_integers)

    def forward(self, y: Tensor, at: SliceIndex, quality: Tensor, seen: Tensor | None) -> SliceLikelihood:
        """Likelihoods of a slice in training.

        Args:
            y: in quantisation steps, B C h w.
            at: rotation length and slice number.
            quality: B.
            seen: context, B 5C h w.
        """
        flat, spent = y.flatten(1), list[Tensor]()

        def choose(places: Tensor, mean: Tensor, level: Tensor) -> Tensor:
            scale = likelihoods.scale_of(level)
            residual = flat.index_select(1, places) - mean
            chosen = residual + (likelihoods.round_symbols(residual, scale, self.thrift) - residual).detach()
            spent.append(likelihoods.bits(chosen, scale).sum(1))
            return mean + chosen

        curves = self._curves(at, quality)
        symbols, levels = self._code_stages(self._base(y, at, quality, seen), at, quality, choose, curves)
        bits = torch.stack(spent).sum(0)
        return SliceLikelihood(symbols, self.whiten(symbols, at, quality, curves), levels, bits)

    def code(
        self,
        coders: Coders,
        size: Sequence[int],
        at: SliceIndex,
        quality: Tensor,
        seen: Tensor | None,
        y: Tensor | None = None,
    ) -> CodedSlice:
        """Encode y, or decode it if `y` is None; `size` is its height and width."""
        like = torch.zeros(len(coders), CHANNELS, *size, dtype=torch.int64, device=quality.device)
        flat = None if y is None else torch.nan_to_num(y).clamp(-LIMIT / 2, LIMIT / 2).double().flatten(1)

        def choose(places: Tensor, mean: Tensor, level: Tensor) -> Tensor:
            wanted = None
            if flat is not None:
                residual = flat.index_select(1, places) - mean.double() / UNITS
                scale = likelihoods.scale_of(level.double()) if self.thrift else None
                chosen = likelihoods.round_symbols(residual, scale, self.thrift)
                wanted = chosen.clamp(-LIMIT, LIMIT).long()
            return mean + UNITS * code_symbols(coders, level, wanted)

        symbols, levels = self._code_stages(self._base(like, at, quality, seen), at, quality, choose)
        return CodedSlice(symbols, self.whiten(symbols, at, quality), levels)

    def _curves(self, at: SliceIndex, quality: Tensor) -> SliceScales:
        """A slice's standard deviations and table indexes in training."""
        row, band = self.rows[at], self.band_of(at)
        log_gain = self._log_gain(quality, band)
        deviation = log_gain + self.log_scale[row]
        start = self._row_level()[row] + self._band_level(quality)[:, band]
        return SliceScales(deviation.exp(), (-deviation).exp()[:, :, None, None], MIDDLE + 4 * start + log_gain / STEP)

    def whiten(self, symbols: Tensor, at: SliceIndex, quality: Tensor, curves: SliceScales | None = None) -> Tensor:
        """ŷ divided by gain and measured scale: standard deviation about 1 for any quality, channel and length."""
        if curves is not None:
            return in_units(symbols * curves.unit)
        row, band = self.rows[at], self.band_of(at)
        part = symbols * self.inverse_integers[quality, band].long()[:, :, None, None] >> GAIN_BITS - 8
        scale = self.inverse_scale_integers[row].long()[:, None, None]
        return round_shift(part.clamp(-(1 << 32), 1 << 32) * scale, GAIN_BITS + 8).clamp(-REACH, REACH)

    def _code_stages(
        self,
        base: Tensor,
        at: SliceIndex,
        quality: Tensor,
        choose: Callable[[Tensor, Tensor, Tensor], Tensor],
        curves: SliceScales | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Process a slice stage by stage; returns ŷ and the table indexes.

        Args:
            choose: returns a stage's symbols, B N, given their flat positions, means and table indexes.
            curves: scales for training; None: integer coding.
        """
        symbols = base.new_zeros(len(base), CHANNELS, *base.shape[2:])
        levels, area = torch.zeros_like(symbols), base.shape[2] * base.shape[3]
        # Cached per size, except for fake tensors, which hold no data (lab/training_cost.py).
        listed = stage_positions if type(base) is Tensor else stage_positions.__wrapped__
        for stage, places in enumerate(listed(self.stages, *base.shape[2:], base.device)):
            features = base
            if stage:
                near = self.neighbours[stage - 1](with_magnitude(self.whiten(symbols, at, quality, curves)))
                features = self.deeper[stage - 1](saturate(base + near))
            raw, channels = self.heads[stage](features).flatten(1), places // area
            mean, level = raw.index_select(1, places), raw.index_select(1, places + CHANNELS * area)
            if curves is None:
                mean, level = self._mean(mean, at, quality, channels), self._level(level, at, quality, channels)
            else:
                mean = in_units(mean * curves.deviation.index_select(1, channels), reach=LIMIT)
                level = 4 * level + curves.level.index_select(1, channels)
            chosen = choose(places, mean, level)
            symbols = symbols.flatten(1).index_copy(1, places, chosen).view_as(symbols)
            levels = levels.flatten(1).index_copy(1, places, level.detach()).view_as(symbols)
        return symbols, levels

    def _base(self, like: Tensor, at: SliceIndex, quality: Tensor, seen: Tensor | None) -> Tensor:
        row, bias = self.rows[at], self.quality_integers[quality].long() + self.row_integers[self.rows[at]].long()
        if like.is_floating_point():
            bias = straight_round((interpolate_knots(self.quality_knots, quality) + self.row_bias[row]) * UNITS) / UNITS
        features = bias[:, :, None, None].expand(-1, -1, *like.shape[2:])
        if self.context is not None:
            features = features + self.context(cast(Tensor, seen))
        return cast(Tensor, self.fuse(saturate(features)))

    def _mean(self, raw: Tensor, at: SliceIndex, quality: Tensor, channels: Tensor) -> Tensor:
        """Means of the symbols of these channels, B N, as integers in 1/64 of a step."""
        row, band = self.rows[at], self.band_of(at)
        gain = self.gain_integers[quality, band].long()[:, channels]
        scaled = round_shift(raw * self.scale_integers[row].long()[channels], 8)
        return round_shift(scaled * gain, 2 * GAIN_BITS - 8 + FINER).clamp(-LIMIT, LIMIT)

    def _level(self, raw: Tensor, at: SliceIndex, quality: Tensor, channels: Tensor) -> Tensor:
        """Table indexes of the symbols of these channels, B N."""
        row, band = self.rows[at], self.band_of(at)
        level = self.level_integers[quality, band].long() + self.row_level_integers[row].long()
        index = MIDDLE + (raw + level[:, channels] + LEVEL_UNITS // 2 >> 8)
        return index.clamp(0, LEVELS - 1)

    def _log_gain(self, quality: Tensor, band: int) -> Tensor:
        """Log gains, B C."""
        curve = self.start[:, None] + self.knots[:, band] + self.band_gain[band]
        return clamp_with_gradient(interpolate_knots(curve, quality), -math.log(LARGEST), math.log(LARGEST))

    def _band_level(self, quality: Tensor) -> Tensor:
        """Learned offsets of the table indexes / 4, B bands C."""
        return interpolate_knots(self.level_knots, quality)[:, None] + self.band_levels

    def _row_level(self) -> Tensor:
        """Measured scales as table indexes / 4, rows C."""
        return (self.log_scale - math.log(MIDDLE_SCALE)) / STEP / 4


@functools.lru_cache(maxsize=16)
def stage_positions(stages: int, height: int, width: int, device: torch.device) -> tuple[Tensor, ...]:
    """Positions, in a flat slice of this size, that each stage codes.

    Every stage codes equally many channels of a position, so the positions are a stable sort by stage, split evenly.
    Their number depends on no data, so costs can be computed on fake tensors (lab/training_cost.py).
    """
    with torch.inference_mode(False):  # usable outside inference mode too
        row = torch.arange(height, device=device)[:, None]
        column = torch.arange(width, device=device)
        channel = torch.arange(CHANNELS, device=device)[:, None, None]
        if stages == 2:
            stage = (row + column + channel) % 2
        else:
            stage = (torch.tensor(ORDER_OF_FOUR, device=device)[row % 2, column % 2] + channel) % 4
        return stage.flatten().to(torch.uint8).argsort(stable=True).chunk(stages)  # sorting bytes is fast


def with_magnitude(values: Tensor) -> Tensor:
    """Concatenate integers or floats with their magnitudes: a shallow network needs both."""
    return torch.cat([values, values.abs()], dim=1)


class SliceHistory:
    """Context from earlier slices: the lowest, the last, and a decaying sum of the magnitudes after the lowest."""

    def __init__(self, lowest: Tensor) -> None:
        self._lowest, self._last = lowest, torch.zeros_like(lowest)
        self._spent = torch.zeros_like(lowest)

    def context(self) -> Tensor:
        """Context of the next slice, B 5C h w, detached: no gradient flows from a slice to earlier ones."""
        parts = [with_magnitude(self._lowest), with_magnitude(self._last), self._spent]
        return torch.cat(parts, dim=1).detach()

    def add(self, values: Tensor) -> None:
        """Add the next slice, whitened; the sum of earlier magnitudes is halved, then its magnitude is added."""
        spent = self._spent
        half = straight_floor(spent * (UNITS / 2)) / UNITS if spent.is_floating_point() else spent >> 1
        self._last, self._spent = values, saturate(half + values.abs())


def _head(prior: int) -> nn.Sequential:
    """A stage's output layers; the last is initialised to zero, for means of zero and the measured scales."""
    leave = IntegerConv(prior, 2 * CHANNELS, 1, extra_bits=FINER, reach=PARAMETER_REACH)
    nn.init.zeros_(leave.weight)
    return nn.Sequential(IntegerConv(prior, prior, 1), IntegerLeaky(), leave)
