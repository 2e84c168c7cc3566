"""Learned transforms between a latent and its symbols, in floats; depth-wise convolution blocks throughout.

    anchor     l_1 ──analysis──▶ y_1 ──synthesis──▶ l̂_1
    predicted  l_t − l̂_{t−1}, l̂_{t−1}, f_{t−1} ──analysis──▶ y_t        y_t, f_{t−1} ──synthesis──▶ l̂_t − l̂_{t−1}
    context    l̂_t ──extractor──▶ f_t

Latents and features are at an eighth of the picture, y at a sixteenth. The design follows DCVC-RT's inter model without
its pixel-unshuffle, since latents are downsampled already. The previous latent is also subtracted before, and added
after, the transforms: static content then costs nothing from the first training step on (docs/log.md).
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from gnvc_vd.conventions import LATENT_CHANNELS
from gnvc_vd.presets import ContextualPreset

# Bounds that keep the recursion stable: soft for f, and beyond all normalised latents for l̂.
FEATURE_REACH, LATENT_REACH = 4.0, 32.0


class DecodedLatent(NamedTuple):
    """A decoded latent and its features, the context of the next latent."""

    latent: Tensor  # l̂_t, B 16 h w
    feature: Tensor  # f_t, B F h w


class Analysis(nn.Module):
    """Analysis transform: a latent, with the previous one as context if there is one, to y."""

    def __init__(self, preset: ContextualPreset, context: bool) -> None:
        super().__init__()
        width = preset.width
        inputs = 2 * LATENT_CHANNELS + preset.features if context else LATENT_CHANNELS
        self.enter = convolution(inputs, width, 3, padding=1)
        self.fine = _blocks(width, preset.blocks)
        self.down = convolution(width, width, 2, stride=2)
        self.coarse = _blocks(width, preset.blocks)
        self.leave = convolution(width, preset.symbols, 1)

    def forward(self, latent: Tensor, past: DecodedLatent | None) -> Tensor:
        seen = latent if past is None else torch.cat([latent - past.latent, past.latent, past.feature], dim=1)
        x = self.fine(self.enter(channels_last(seen, self.enter)))
        return cast(Tensor, self.leave(self.coarse(self.down(x))).float())


class Synthesis(nn.Module):
    """Synthesis transform: y to a latent or, with a context, to its difference from the previous latent."""

    def __init__(self, preset: ContextualPreset, context: bool) -> None:
        super().__init__()
        width = preset.width
        self.enter = convolution(preset.symbols, width, 1)
        self.coarse = _blocks(width, preset.blocks)
        self.up = nn.Sequential(convolution(width, 4 * width, 1), nn.PixelShuffle(2))
        self.meet = convolution(width + context * preset.features, width, 1)
        self.fine = _blocks(width, preset.blocks)
        self.leave = convolution(width, LATENT_CHANNELS, 3, padding=1)
        if context:
            self.leave.weight.data.mul_(0.1)  # initially, nearly a copy of the previous latent

    def forward(self, y: Tensor, past: DecodedLatent | None) -> Tensor:
        x = self.up(self.coarse(self.enter(channels_last(y, self.enter))))
        seen = x if past is None else torch.cat([x, past.feature.to(x.dtype)], dim=1)
        residual = cast(Tensor, self.leave(self.fine(self.meet(seen))).float())
        return (residual if past is None else past.latent + residual).clamp(-LATENT_REACH, LATENT_REACH)


class Extractor(nn.Module):
    """Features of a decoded latent, for the next latent and for the refiner."""

    def __init__(self, preset: ContextualPreset) -> None:
        super().__init__()
        self.enter = convolution(LATENT_CHANNELS, preset.features, 3, padding=1)
        self.blocks = _blocks(preset.features, preset.blocks)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.blocks(self.enter(channels_last(latent, self.enter))).float()
        return FEATURE_REACH * torch.tanh(x / FEATURE_REACH)


class DepthBlock(nn.Module):
    """A depth-wise 3×3 between two 1×1, then a gated 1×1 pair, each added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Sequential(
            nn.Conv2d(width, width, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, 3, padding=1, groups=width),
            nn.Conv2d(width, width, 1),
        )
        self.widen = nn.Conv2d(width, 4 * width, 1)
        self.narrow = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, bend, neighbours, last = self.spatial
        x = x + pointwise(last, neighbours(bend(pointwise(first, x))))
        gate, value = pointwise(self.widen, x).chunk(2, dim=1)
        return x + pointwise(self.narrow, nn.functional.silu(gate) * value)


def pointwise(layer: nn.Module, x: Tensor) -> Tensor:
    """A 1×1 convolution as what it is, a matrix over channels: where they lie last in memory, without a copy."""
    weight, bias = cast(Tensor, layer.weight), cast(Tensor, layer.bias)
    return nn.functional.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def channels_last(x: Tensor, like: nn.Conv2d) -> Tensor:
    return x.to(like.weight.dtype).contiguous(memory_format=torch.channels_last)


def convolution(inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """One that leaves the variance as it was: symbols and hyper-latents that begin as zeros would not train."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding)
    if not layer.weight.is_meta:  # as in IntegerConv
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    return layer


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(DepthBlock(width) for _ in range(count)))
