"""The entropy model of anchor or predicted latents: each symbol's table and mean.

    y ──float──▶ z ──integers──▶ h ─┐
    integer state of earlier ŷ ─────┼─▶ base ──▶ first half of ŷ ──▶ second half of ŷ
                                                (a spatial checkerboard, inverted for one half of the channels)

Its inputs are integers that the decoder has: the hyper-latent, the state, and the half already decoded. A network
predicts a mean μ in 1/64 steps and the index of a table; the integer s nearest to y − μ is coded, and ŷ = μ + s.

`code` is one routine for both directions: the coder either writes symbols or reads them.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from gnvc_vd.conventions import QUALITIES
from gnvc_vd.entropy import integer, likelihoods
from gnvc_vd.entropy.cdf_tables import LEVELS
from gnvc_vd.entropy.coder import LIMIT
from gnvc_vd.entropy.integer import REACH, UNITS, IntegerConv, IntegerLeaky
from gnvc_vd.learned.bottleneck.gains import FINER, KNOTS, LEVEL_UNITS, Gains, interpolate_knots
from gnvc_vd.learned.bottleneck.networks import convolution
from gnvc_vd.learned.bottleneck.symbol_coding import MIDDLE, PARAMETER_REACH, Coders, Uniform, code_symbols
from gnvc_vd.presets import ContextualPreset

Z_STRIDE = 4  # stride of z on y's grid


class LatentLikelihood(NamedTuple):
    """Result of a training pass: ŷ in steps of its quality, ŷ normalised, and its bits."""

    symbols: Tensor
    values: Tensor
    bits: Tensor  # one number per clip


class CodedLatent(NamedTuple):
    """Result of coding: ŷ as integers in 1/64 steps, ŷ normalised, and ẑ."""

    symbols: Tensor
    values: Tensor
    hyper: Tensor


class EntropyModel(nn.Module):
    """Hyperprior and spatial context, for predicted latents also the temporal state.

    Args:
        state: number of the state's channels; 0 for anchor latents, which have none.
        thrift: of the encoder's rounding (likelihoods.round_symbols).
    """

    def __init__(self, preset: ContextualPreset, state: int, thrift: float = 0.0) -> None:
        super().__init__()
        self.channels, self.thrift = preset.symbols, thrift
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
            nn.PixelShuffle(2),
            IntegerConv(prior, 4 * prior, 1),
            IntegerLeaky(),
            nn.PixelShuffle(2),
        )
        self.enter = IntegerConv(prior + state, prior, 1)
        self.fuse = nn.Sequential(IntegerLeaky(), IntegerConv(prior, prior, 1), IntegerLeaky())
        self.first = _head(preset)
        self.neighbours = IntegerConv(preset.symbols, prior)
        self.second = _head(preset)
        self.quality_knots = nn.Parameter(torch.zeros(KNOTS, prior))
        self.hyper_levels = nn.Parameter(torch.zeros(hyper))  # table indexes, relative to the middle one
        self.register_buffer("quality_integers", torch.zeros(QUALITIES, prior, dtype=torch.int64))
        self.register_buffer("hyper_level_integers", torch.zeros(QUALITIES, hyper, dtype=torch.int64))

    def freeze(self, places: Tensor) -> None:
        """Write the integers of this module; its layers write their own."""
        with torch.no_grad():
            bias = interpolate_knots(self.quality_knots, places) * UNITS
            cast(Tensor, self.quality_integers).copy_(bias.round().clamp(-REACH, REACH))
            level = self.hyper_levels + MIDDLE + self.hyper_gains.float_level(places)[:, :, 0, 0] / LEVEL_UNITS
            cast(Tensor, self.hyper_level_integers).copy_(level.round().clamp(0, LEVELS - 1))

    def forward(
        self, y: Tensor, state: Tensor | None, quality: Tensor, uniform: Uniform = torch.rand_like
    ) -> LatentLikelihood:
        """Symbols and bits of y (B N h w, in steps of its quality), given the state (B S h w) and the quality (B)."""
        z = self._hyper_analysis(y, quality)
        level = self.hyper_levels[None, :, None, None] + MIDDLE + self.hyper_gains.level(quality) / LEVEL_UNITS
        z_hat = integer.straight_round(z)
        bits = self._bits(z, z_hat, torch.zeros_like(z), level, uniform).sum((1, 2, 3))
        base = self._base(self.hyper_gains.normalise(z_hat, quality), state, quality, y.shape[-2:])
        first = first_half(y.shape[1:], y.device)[None]
        symbols, mean, scale = torch.zeros_like(y), torch.zeros_like(y), torch.zeros_like(y)
        for head, mask in ((self.first, first), (self.second, ~first)):
            means, levels = self._mean_and_level(head, base, symbols, quality)
            residual = y - means
            chosen = likelihoods.round_symbols(residual, likelihoods.scale_of(levels), self.thrift)
            rounded = means + residual + (chosen - residual).detach()
            symbols, mean, scale = (
                torch.where(mask, new, old) for new, old in ((rounded, symbols), (means, mean), (levels, scale))
            )
        bits = bits + self._bits(y, symbols, mean, scale, uniform).sum((1, 2, 3))
        return LatentLikelihood(symbols, self.gains.normalise(symbols, quality), bits)

    def code(
        self, coders: Coders, size: Sequence[int], state: Tensor | None, quality: Tensor, y: Tensor | None = None
    ) -> CodedLatent:
        """Encode y or, if it is None, decode it; `size` is its height and width."""
        height, width = size
        z = None
        if y is not None:
            y = torch.nan_to_num(y).clamp(-LIMIT / 2, LIMIT / 2)
            z = torch.nan_to_num(self._hyper_analysis(y, quality).double()).round().clamp(-LIMIT, LIMIT).long()
        shape = (len(coders), self.hyper_gains.knots.shape[1], -(-height // Z_STRIDE), -(-width // Z_STRIDE))
        levels = cast(Tensor, self.hyper_level_integers)[quality][:, :, None, None].expand(shape)
        z_hat = code_symbols(coders, levels.flatten(1), None if z is None else z.flatten(1)).view(shape) * UNITS
        base = self._base(self.hyper_gains.normalise(z_hat, quality), state, quality, size)
        symbols = torch.zeros(len(coders), self.channels, height, width, dtype=torch.int64, device=quality.device)
        halves = half_positions(symbols.shape[1:], quality.device)
        for head, places in zip((self.first, self.second), halves, strict=True):
            both, each = self._mean_and_level(head, base, symbols, quality), places.expand(len(coders), -1)
            means, levels = (one.flatten(1).gather(1, each) for one in both)
            wanted = None
            if y is not None:
                residual = y.flatten(1).gather(1, each).double() - means.double() / UNITS
                scale = likelihoods.scale_of(levels.double()) if self.thrift else None
                chosen = likelihoods.round_symbols(residual, scale, self.thrift)
                wanted = chosen.clamp(-LIMIT, LIMIT).long()
            symbols.flatten(1).index_copy_(1, places, means + UNITS * code_symbols(coders, levels, wanted))
        return CodedLatent(symbols, self.gains.normalise(symbols, quality), z_hat)

    def _base(self, hyper: Tensor, state: Tensor | None, quality: Tensor, size: Sequence[int]) -> Tensor:
        """Features for both halves, from hyper-latent, state and quality; float or integer, as `hyper` is."""
        seen = self.synthesis(hyper)[:, :, : size[0], : size[1]]
        entered = self.enter(seen if state is None else torch.cat([seen, state], dim=1))
        if entered.is_floating_point():
            bias = integer.straight_round(interpolate_knots(self.quality_knots, quality) * UNITS) / UNITS
        else:
            bias = cast(Tensor, self.quality_integers)[quality]
        return cast(Tensor, self.fuse(integer.saturate(entered + bias[:, :, None, None])))

    def _mean_and_level(self, head: nn.Module, base: Tensor, decoded: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Means in steps (integers: in 1/64 steps), and indexes of tables (integers: rounded)."""
        if head is self.second:
            base = integer.saturate(base + self.neighbours(self.gains.normalise(decoded, quality)))
        raw_mean, raw_level = head(base).chunk(2, dim=1)
        level = self.gains.level(quality)
        if raw_level.is_floating_point():
            index = MIDDLE + (raw_level * (UNITS << FINER) + level) / LEVEL_UNITS
        else:
            index = (MIDDLE + (raw_level + level + LEVEL_UNITS // 2 >> 8)).clamp(0, LEVELS - 1)
        return self.gains.mean(raw_mean, quality), index

    def _bits(self, y: Tensor, decoded: Tensor, mean: Tensor, level: Tensor, uniform: Uniform) -> Tensor:
        """Bits of symbols; in training, those of y with uniform noise, which are smooth in y."""
        residual = y + uniform(y) - 0.5 - mean if self.training else decoded - mean
        return likelihoods.bits(residual, likelihoods.scale_of(level))

    def _hyper_analysis(self, y: Tensor, quality: Tensor) -> Tensor:
        """z of y, which is padded to a multiple of z's stride by repeating its edge."""
        height, width = y.shape[-2:]
        beyond = (0, -width % Z_STRIDE, 0, -height % Z_STRIDE)
        normalised = nn.functional.pad(self.gains.divide(y, quality), beyond, mode="replicate")
        weight = cast(nn.Conv2d, self.analysis[0]).weight
        return self.hyper_gains.multiply(self.analysis(normalised.to(weight.dtype)), quality)


def first_half(shape: torch.Size, device: torch.device) -> Tensor:
    """Mask N h w of the symbols that are coded first."""
    channels, height, width = shape
    row = torch.arange(height, device=device)[:, None]
    column = torch.arange(width, device=device)
    half = (torch.arange(channels, device=device) >= channels // 2).long()[:, None, None]
    return (row + column + half) % 2 == 0


@functools.lru_cache(maxsize=16)
def half_positions(shape: torch.Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions, in a flat latent, of either half; cached, since a GPU must be waited for to count them."""
    with torch.inference_mode(False):  # usable outside inference mode too
        first = first_half(shape, device).flatten()
        return first.nonzero()[:, 0], (~first).nonzero()[:, 0]


class TemporalState(nn.Module):
    """The temporal context of predicted latents: an integer state, updated with every ŷ.

    A separate layer makes the first state from ŷ_1; every later ŷ updates it. Values saturate.
    """

    def __init__(self, preset: ContextualPreset) -> None:
        super().__init__()
        self.begin = IntegerConv(preset.symbols, preset.state)
        self.move = nn.Sequential(
            IntegerConv(preset.symbols + preset.state, preset.state),
            IntegerLeaky(),
            IntegerConv(preset.state, preset.state),
        )

    def forward(self, state: Tensor | None, values: Tensor) -> Tensor:
        """The next state, from normalised ŷ in floats or integers."""
        if state is None:
            return cast(Tensor, self.begin(values))
        half = integer.straight_floor(state * (UNITS / 2)) / UNITS if state.is_floating_point() else state >> 1
        return integer.saturate(half + self.move(torch.cat([values, state], dim=1)))


def freeze(model: nn.Module, places: Tensor) -> None:
    """Write all of a model's integers that decide symbols, for qualities at `places` of the trained scale."""
    for layer in model.modules():
        if isinstance(layer, IntegerConv):
            layer.freeze()
        elif isinstance(layer, Gains | EntropyModel):
            layer.freeze(places)


def _head(preset: ContextualPreset) -> nn.Sequential:
    leave = IntegerConv(preset.prior, 2 * preset.symbols, 1, extra_bits=FINER, reach=PARAMETER_REACH)
    leave.weight.data.mul_(0.1)
    return nn.Sequential(IntegerConv(preset.prior, preset.prior, 1), IntegerLeaky(), leave)
