"""The contextual latent codec, GNVC-VD's published one: each latent is coded given the ones before it.

    l_1 ─▶ y_1 = g_a(l_1)          ─▶ entropy model (anchor)    ─▶ ŷ_1 ─▶ l̂_1 = g_s(ŷ_1)                     ─▶ f_1
    l_t ─▶ y_t = g_a(l_t | past)   ─▶ entropy model (predicted) ─▶ ŷ_t ─▶ l̂_t = l̂_{t−1} + g_s(ŷ_t, f_{t−1})  ─▶ f_t
                   l̂_{t−1}, f_{t−1}     ▲ integer state of ŷ_1 … ŷ_{t−1}

Integers decide symbols (docs/architecture.md, the coded world); g_a, g_s and f are floats. The recursion over g_s
runs in the precision of its weights, float32 by default, without autocast.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor

from gnvc_vd.common.float32 import full_float32
from gnvc_vd.entropy.cdf_tables import LEVELS
from gnvc_vd.entropy.integer import UNITS, quantise_weights_once
from gnvc_vd.learned.bottleneck import contextual_start
from gnvc_vd.learned.bottleneck.base import LAYER_BOUNDS, Bottleneck, BottleneckOutput, SymbolHashes, check_latents
from gnvc_vd.learned.bottleneck.hyperprior import EntropyModel, TemporalState, freeze
from gnvc_vd.learned.bottleneck.networks import Analysis, DecodedLatent, Extractor, Synthesis
from gnvc_vd.learned.bottleneck.symbol_coding import Coders, Uniform
from gnvc_vd.presets import ContextualPreset


class Contextual(Bottleneck):
    """A latent codec with temporal context: latent by latent, each given those before it."""

    preset: ContextualPreset
    bounds = LAYER_BOUNDS | {
        "gain_integers": (1, 1 << 22),
        "inverse_integers": (1, 1 << 22),
        "hyper_level_integers": (0, LEVELS - 1),
    }

    def __init__(self, preset: ContextualPreset, thrift: float = 0.0) -> None:
        super().__init__(thrift)
        self.preset = preset
        self.anchor_analysis = Analysis(preset, context=False)
        self.anchor_synthesis = Synthesis(preset, context=False)
        self.analysis = Analysis(preset, context=True)
        self.synthesis = Synthesis(preset, context=True)
        self.extractor = Extractor(preset)
        self.anchor_entropy = EntropyModel(preset, 0, thrift)
        self.entropy = EntropyModel(preset, preset.state, thrift)
        self.state = TemporalState(preset)

    @quantise_weights_once
    def forward(
        self, latents: Tensor, quality: Tensor, uniform: Uniform = torch.rand_like, rotation: int = 0
    ) -> BottleneckOutput:
        check_latents(latents)
        decoded, features, bits = [], [], []
        past: DecodedLatent | None = None
        state = None
        for latent, level in zip(latents.unbind(2), quality.unbind(1), strict=True):
            model = self.entropy_model(past)
            with full_float32(latents.device):
                y = model.gains.multiply(self._analyse(latent, past), level)
                likely = model(y, state, level, uniform)
                past = self._synthesise(model.gains.divide(likely.symbols, level), past)
                # Detached: the state serves prediction and must not shape the symbols.
                state = self.state(state, likely.values.detach())
            decoded.append(past.latent)
            features.append(past.feature)
            bits.append(likely.bits)
        return BottleneckOutput(torch.stack(decoded, 2), torch.stack(features, 2), torch.stack(bits, 1))

    def measure(self, latents: Tensor, smallest: float, largest: float) -> None:
        contextual_start.measure(self, latents, smallest, largest)

    def initial_tensors(self) -> dict[str, Tensor]:
        return dict(self.named_parameters())

    def usual_rotation(self, latents: int) -> int:
        return 0

    def unsupported_reason(self, quality: Sequence[int], rotation: int) -> str | None:
        return "the contextual codec codes latent after latent and has no rotation" if rotation else None

    def entropy_model(self, past: DecodedLatent | None) -> EntropyModel:
        return self.anchor_entropy if past is None else self.entropy

    def _code(
        self,
        coders: Coders,
        hashes: SymbolHashes,
        size: Sequence[int],
        quality: Sequence[int],
        rotation: int,
        latents: Tensor | None,
    ) -> Iterator[DecodedLatent]:
        device, past, state = self.table_frequencies.device, None, None
        clip: Sequence[Tensor | None] = [None] * len(quality) if latents is None else latents.unbind(2)
        for latent, level in zip(clip, quality, strict=True):
            with torch.inference_mode(), full_float32(device):
                model, levels = self.entropy_model(past), torch.full((len(coders),), level, device=device)
                y = None if latent is None else model.gains.multiply(self._analyse(latent, past), levels)
                coded = model.code(coders, (size[0] // 2, size[1] // 2), state, levels, y)
                for integers in (coded.hyper, coded.symbols):
                    hashes.update(integers)
                past = self._synthesise(model.gains.divide(coded.symbols.float() / UNITS, levels), past)
                state = self.state(state, coded.values)
            yield past

    def _freeze(self, places: Tensor) -> None:
        freeze(self, places)

    def _analyse(self, latent: Tensor, past: DecodedLatent | None) -> Tensor:
        return cast(Tensor, (self.anchor_analysis if past is None else self.analysis)(latent, past))

    def _synthesise(self, y: Tensor, past: DecodedLatent | None) -> DecodedLatent:
        latent = (self.anchor_synthesis if past is None else self.synthesis)(y, past)
        return DecodedLatent(latent, self.extractor(latent))
