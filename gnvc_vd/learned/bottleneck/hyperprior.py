"""The entropy model of one kind of latent: which table every symbol is coded with, and what integer it stands for.

    y ──float──▶ z ──integers──▶ h ─┐
    integer state of earlier ŷ ─────┼─▶ base ──▶ first half of ŷ ──▶ second half of ŷ
                                                (checkerboard over places, opposite for the two halves of the channels)

It sees only integers that the decoder has: the hyper-latent, the state, and the half already decoded. A network says
a mean μ in 1/64 steps and a table's index; an integer s near y − μ is coded, ŷ = μ + s.

One routine codes in both directions: a coder is asked to exchange symbols, and only it knows whether it writes
or reads.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from gnvc_vd.conventions import QUALITIES
from gnvc_vd.entropy import likelihoods
from gnvc_vd.entropy.cdf_tables import LEVELS, Integers, Tables
from gnvc_vd.entropy.coder import LIMIT, Decoder, Encoder
from gnvc_vd.entropy.integer import (
    REACH,
    UNITS,
    IntegerConv,
    IntegerLeaky,
    IntegerShuffle,
    saturated,
    straight_round,
)
from gnvc_vd.learned.bottleneck.gains import FINER, KNOTS, LEVEL_UNITS, Gains, through_knots
from gnvc_vd.learned.bottleneck.networks import convolution
from gnvc_vd.presets import BottleneckPreset

Z_STRIDE = 4  # places of y, each way, that one of z covers
MIDDLE = 23  # the table of a network that says zero: a scale of about 1.1
PARAMETER_REACH = (1 << 15) - 1

Uniform = Callable[[Tensor], Tensor]  # numbers in [0, 1), as many as another tensor's


class Likely(NamedTuple):
    """While training: ŷ in steps of its quality, its normalised form, and what it costs."""

    symbols: Tensor
    values: Tensor
    bits: Tensor  # one number per clip


class Coded(NamedTuple):
    """While coding: ŷ as integers in 1/64 steps, its normalised form, and ẑ."""

    symbols: Tensor
    values: Tensor
    hyper: Tensor


class Exchange(Protocol):
    def symbols(self, indexes: Integers, wanted: Integers | None) -> Integers: ...


class Writing:
    """Puts the wanted symbols into a payload."""

    def __init__(self, encoder: Encoder, tables: Tables) -> None:
        self.encoder, self.tables = encoder, tables

    def symbols(self, indexes: Integers, wanted: Integers | None) -> Integers:
        assert wanted is not None
        self.encoder.put(wanted, indexes, self.tables)
        return wanted


class Reading:
    """Takes them out of one."""

    def __init__(self, decoder: Decoder, tables: Tables) -> None:
        self.decoder, self.tables = decoder, tables

    def symbols(self, indexes: Integers, wanted: Integers | None) -> Integers:
        return self.decoder.get(indexes, self.tables)


class EntropyModel(nn.Module):
    """Anchor latents have one without state, predicted latents one with it.

    Args:
        state: its channels.
        context: whether the second half sees the first. Off only to measure what that is worth.
        thrift: how an encoder rounds (likelihoods.rounded).
    """

    def __init__(self, preset: BottleneckPreset, state: int, context: bool = True, thrift: float = 0.0) -> None:
        super().__init__()
        self.channels, self.context, self.thrift = preset.symbols, context, thrift
        prior, hyper = preset.prior, preset.hyper
        self.gains = Gains(preset.symbols, lowest=0.5, highest=8.0)
        self.hyper_gains = Gains(hyper, lowest=0.5, highest=4.0)
        self.analysis = nn.Sequential(
            convolution(preset.symbols, prior, 2, stride=2),
            nn.LeakyReLU(0.1),
            convolution(prior, prior, 3, padding=1),
            nn.LeakyReLU(0.1),
            convolution(prior, hyper, 2, stride=2),
        )
        self.synthesis = nn.Sequential(
            IntegerConv(hyper, 4 * prior, 1),
            IntegerLeaky(),
            IntegerShuffle(),
            IntegerConv(prior, 4 * prior, 1),
            IntegerLeaky(),
            IntegerShuffle(),
        )
        self.enter = IntegerConv(prior + state, prior, 1)
        self.fuse = nn.Sequential(IntegerLeaky(), IntegerConv(prior, prior, 1), IntegerLeaky())
        self.first = _head(preset)
        self.neighbours = IntegerConv(preset.symbols, prior)
        self.second = _head(preset)
        self.quality_knots = nn.Parameter(torch.zeros(KNOTS, prior))
        self.hyper_levels = nn.Parameter(torch.zeros(hyper))  # in tables, about the middle one
        self.register_buffer("quality_integers", torch.zeros(QUALITIES, prior, dtype=torch.int64))
        self.register_buffer("hyper_level_integers", torch.zeros(QUALITIES, hyper, dtype=torch.int64))

    def freeze(self, places: Tensor) -> None:
        """Write every integer that decides a symbol, for qualities at these places of the trained scale."""
        places = places.to(self.quality_knots.device)
        for layer in self.modules():
            if isinstance(layer, IntegerConv):
                layer.freeze()
            elif isinstance(layer, Gains):
                layer.freeze(places)
        with torch.no_grad():
            bias = through_knots(self.quality_knots, places) * UNITS
            cast(Tensor, self.quality_integers).copy_(bias.round().clamp(-REACH, REACH))
            level = self.hyper_levels + MIDDLE + self.hyper_gains.float_level(places)[:, :, 0, 0] / LEVEL_UNITS
            cast(Tensor, self.hyper_level_integers).copy_(level.round().clamp(0, LEVELS - 1))

    def forward(self, y: Tensor, state: Tensor | None, quality: Tensor, uniform: Uniform = torch.rand_like) -> Likely:
        """y at the scale of its quality. B N h w, B S h w, B; `uniform` draws in [0, 1) what stands for rounding."""
        z = self.hyper_gains.multiply(self.analysis(self._normalised_float(y, quality)), quality)
        level = self.hyper_levels[None, :, None, None] + MIDDLE + self.hyper_gains.level(quality) / LEVEL_UNITS
        z_hat = straight_round(z)
        bits = self._bits(z, z_hat, torch.zeros_like(z), level, uniform).sum((1, 2, 3))
        base = self._base(self.hyper_gains.normalised(z_hat, quality), state, quality, y.shape[-2:])
        first = self._first_half(y)
        symbols, mean, scale = torch.zeros_like(y), torch.zeros_like(y), torch.zeros_like(y)
        for head, mask in ((self.first, first), (self.second, ~first)):
            means, levels = self._mean_and_level(head, base, symbols, quality)
            residual = y - means
            chosen = likelihoods.rounded(residual, likelihoods.scale_of(levels), self.thrift)
            rounded = means + residual + (chosen - residual).detach()
            symbols, mean, scale = (
                torch.where(mask, new, old) for new, old in ((rounded, symbols), (means, mean), (levels, scale))
            )
        bits = bits + self._bits(y, symbols, mean, scale, uniform).sum((1, 2, 3))
        return Likely(symbols, self.gains.normalised(symbols, quality), bits)

    def compress(self, y: Tensor, state: Tensor | None, quality: Tensor, into: list[Writing]) -> Coded:
        """Each clip's symbols into its own payload."""
        y = torch.nan_to_num(y).clamp(-LIMIT / 2, LIMIT / 2)
        z = self.hyper_gains.multiply(self._analysed(y, quality), quality)
        wanted = torch.nan_to_num(z.double()).round().clamp(-LIMIT, LIMIT).long()
        return self._code(y, wanted, state, quality, into, y.shape[-2:])

    def decompress(self, size: Sequence[int], state: Tensor | None, quality: Tensor, out_of: list[Reading]) -> Coded:
        """The same symbols back; `size` is y's height and width."""
        return self._code(None, None, state, quality, out_of, size)

    def _code(
        self,
        y: Tensor | None,
        z: Tensor | None,
        state: Tensor | None,
        quality: Tensor,
        coders: Sequence[Exchange],
        size: Sequence[int],
    ) -> Coded:
        height, width = size
        shape = (len(coders), self.hyper_gains.knots.shape[1], -(-height // Z_STRIDE), -(-width // Z_STRIDE))
        levels = cast(Tensor, self.hyper_level_integers)[quality][:, :, None, None].expand(shape)
        everywhere = torch.ones(shape, dtype=torch.bool, device=quality.device)
        z_hat = _exchange(coders, levels, everywhere, z) * UNITS
        base = self._base(self.hyper_gains.normalised(z_hat, quality), state, quality, size)
        symbols = torch.zeros(len(coders), self.channels, height, width, dtype=torch.int64, device=quality.device)
        first = self._first_half(symbols)
        for head, mask in ((self.first, first), (self.second, ~first)):
            means, levels = self._mean_and_level(head, base, symbols, quality)
            wanted = None
            if y is not None:
                residual = y.double() - means.double() / UNITS
                chosen = likelihoods.rounded(residual, likelihoods.scale_of(levels.double()), self.thrift)
                wanted = chosen.clamp(-LIMIT, LIMIT).long()
            symbols = torch.where(mask, means + UNITS * _exchange(coders, levels, mask, wanted), symbols)
        return Coded(symbols, self.gains.normalised(symbols, quality), z_hat)

    def _base(self, hyper: Tensor, state: Tensor | None, quality: Tensor, size: Sequence[int]) -> Tensor:
        """What both halves are given. Networks below decide by their input whether they are floats or integers."""
        seen = self.synthesis(hyper)[:, :, : size[0], : size[1]]
        entered = self.enter(seen if state is None else torch.cat([seen, state], dim=1))
        if entered.is_floating_point():
            bias = straight_round(through_knots(self.quality_knots, quality) * UNITS) / UNITS
        else:
            bias = cast(Tensor, self.quality_integers)[quality]
        return cast(Tensor, self.fuse(saturated(entered + bias[:, :, None, None])))

    def _mean_and_level(self, head: nn.Module, base: Tensor, decoded: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Means in steps (integers: in 1/64 of them) and tables' indexes (integers: whole)."""
        if head is self.second:
            known = self.gains.normalised(decoded, quality)
            base = saturated(base + self.neighbours(known if self.context else torch.zeros_like(known)))
        raw_mean, raw_level = head(base).chunk(2, dim=1)
        level = self.gains.level(quality)
        if raw_level.is_floating_point():
            index = MIDDLE + (raw_level * (UNITS << FINER) + level) / LEVEL_UNITS
        else:
            index = (MIDDLE + (raw_level + level + LEVEL_UNITS // 2 >> 8)).clamp(0, LEVELS - 1)
        return self.gains.mean(raw_mean, quality), index

    def _bits(self, y: Tensor, decoded: Tensor, mean: Tensor, level: Tensor, uniform: Uniform) -> Tensor:
        """While training, noise stands for rounding: the cost is then smooth in y."""
        residual = y + uniform(y) - 0.5 - mean if self.training else decoded - mean
        return likelihoods.bits(residual, likelihoods.scale_of(level))

    def _normalised_float(self, y: Tensor, quality: Tensor) -> Tensor:
        return _padded(self.gains.divide(y, quality))

    def _analysed(self, y: Tensor, quality: Tensor) -> Tensor:
        weight = cast(nn.Conv2d, self.analysis[0]).weight
        with torch.autocast(y.device.type, enabled=False):
            return cast(Tensor, self.analysis(self._normalised_float(y, quality).to(weight.dtype)))

    def _first_half(self, like: Tensor) -> Tensor:
        """1 N h w: the places that are coded first."""
        channels, height, width = like.shape[1:]
        row = torch.arange(height, device=like.device)[:, None]
        column = torch.arange(width, device=like.device)
        half = (torch.arange(channels, device=like.device) >= channels // 2).long()[:, None, None]
        return ((row + column + half) % 2 == 0)[None]


def _head(preset: BottleneckPreset) -> nn.Sequential:
    leave = IntegerConv(preset.prior, 2 * preset.symbols, 1, finer=FINER, reach=PARAMETER_REACH)
    leave.weight.data.mul_(0.1)
    return nn.Sequential(IntegerConv(preset.prior, preset.prior, 1), IntegerLeaky(), leave)


def _exchange(coders: Sequence[Exchange], indexes: Tensor, mask: Tensor, wanted: Tensor | None) -> Tensor:
    """The masked symbols of every clip, through its coder; zero elsewhere."""
    home, shape = indexes.device, indexes.shape
    out = np.zeros((shape[0], mask[0].numel()), dtype=np.int64)
    tables = indexes.reshape(shape[0], -1).cpu().numpy()
    given = None if wanted is None else wanted.reshape(shape[0], -1).cpu().numpy()
    places = np.flatnonzero(mask[0].cpu().numpy())
    for clip, coder in enumerate(coders):
        out[clip, places] = coder.symbols(tables[clip, places], None if given is None else given[clip, places])
    return torch.from_numpy(out).view(shape).to(home)


def _padded(y: Tensor) -> Tensor:
    """y up to the grid of z, by repeating its edge."""
    height, width = y.shape[-2:]
    return nn.functional.pad(y, (0, -width % Z_STRIDE, 0, -height % Z_STRIDE), mode="replicate")
