"""GNVC-VD's latent codec: a GOP's latents to one payload, and back latent by latent.

    l_1 ─▶ y_1 = g_a(l_1)          ─▶ entropy model (anchor)    ─▶ ŷ_1 ─▶ l̂_1 = g_s(ŷ_1)                     ─▶ f_1
    l_t ─▶ y_t = g_a(l_t | past)   ─▶ entropy model (predicted) ─▶ ŷ_t ─▶ l̂_t = l̂_{t−1} + g_s(ŷ_t, f_{t−1})  ─▶ f_t
                   l̂_{t−1}, f_{t−1}     ▲ integer state of ŷ_1 … ŷ_{t−1}

Integers decide symbols (docs/architecture.md, the coded world); g_a, g_s and f are floats. The recursion over g_s
runs in the precision of its weights, which is float32 unless someone asks otherwise, whatever autocast says.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.conventions import QUALITIES, GnvcError
from gnvc_vd.entropy.cdf_tables import LEVELS, TOTAL, Tables, normal_tables, tables_of
from gnvc_vd.entropy.coder import Decoder, Encoder
from gnvc_vd.entropy.integer import REACH, UNITS, WEIGHT_REACH, IntegerConv
from gnvc_vd.learned.bottleneck.gains import Gains, rise_of
from gnvc_vd.learned.bottleneck.hyperprior import Coded, EntropyModel, Reading, Uniform, Writing
from gnvc_vd.learned.bottleneck.networks import Analysis, DecodedLatent, Extractor, Synthesis, convolution
from gnvc_vd.learned.bottleneck.temporal_state import TemporalState
from gnvc_vd.presets import BottleneckPreset

ARITHMETIC = 1  # changes whenever the same integers and bytes would decode to other symbols
HASH_BYTES = 4


class Trained(NamedTuple):
    """What training sees of a clip."""

    latents: Tensor  # l̂, B 16 T h w
    features: Tensor  # f, B F T h w
    bits: Tensor  # B T


@dataclass(frozen=True)
class Payload:
    """One clip's GOP."""

    data: bytes
    symbol_hash: bytes
    estimated_bits: float  # what its symbols should take by the tables, beside the coder's overhead


class Bottleneck(nn.Module):
    """The latent codec. `forward` trains it, `freeze` makes its integers, `compress` and `decompress` use them.

    Args:
        temporal: whether predicted latents' entropy model has the state. Off only to measure what that is worth.
        spatial: whether half of the symbols see the other half. Likewise.
        float_prior: a float entropy model that also sees f, which no stream could be decoded with. It trains only, to
            measure what exactness costs.
        thrift: how its encoder rounds (likelihoods.rounded). So does training, but where noise stands for rounding.
    """

    table_frequencies: Tensor

    def __init__(
        self,
        preset: BottleneckPreset,
        temporal: bool = True,
        spatial: bool = True,
        float_prior: bool = False,
        thrift: float = 0.0,
    ) -> None:
        super().__init__()
        self.preset, self.temporal, self.float_prior, self.thrift = preset, temporal, float_prior, thrift
        self.anchor_analysis = Analysis(preset, context=False)
        self.anchor_synthesis = Synthesis(preset, context=False)
        self.analysis = Analysis(preset, context=True)
        self.synthesis = Synthesis(preset, context=True)
        self.extractor = Extractor(preset)
        self.anchor_entropy = EntropyModel(preset, 0, spatial, thrift)
        self.entropy = EntropyModel(preset, (1 + float_prior) * preset.state, spatial, thrift)
        self.state = TemporalState(preset)
        if float_prior:
            self.peek = convolution(preset.features, preset.state, 2, stride=2)
            for layer in self.modules():
                if isinstance(layer, IntegerConv):
                    layer.pretends = False
        self.register_buffer("table_frequencies", normal_tables())
        self.register_buffer("frozen", torch.zeros((), dtype=torch.int64))

    def forward(self, latents: Tensor, quality: Tensor, uniform: Uniform = torch.rand_like) -> Trained:
        """B 16 T h w with even h and w; each latent's quality, B T; where noise comes from while training."""
        _check(latents)
        decoded, features, bits = [], [], []
        past: DecodedLatent | None = None
        state = None
        for latent, level in zip(latents.unbind(2), quality.unbind(1), strict=True):
            model = self._model(past)
            with torch.autocast(latents.device.type, enabled=False):
                y = model.gains.multiply(self._analyse(latent, past), level)
                likely = model(y, self._seen(state, past), level, uniform)
                past = self._synthesise(model.gains.divide(likely.symbols, level), past)
                state = self.state(state, likely.values.detach())  # it learns to foretell, not to be foretold
            decoded.append(past.latent)
            features.append(past.feature)
            bits.append(likely.bits)
        return Trained(torch.stack(decoded, 2), torch.stack(features, 2), torch.stack(bits, 1))

    def freeze(self, places: Tensor | None = None) -> None:
        """The export: write the integers that decide symbols, prove their bounds, and make the tables.

        Args:
            places: where each of the 64 qualities lies on the scale 0…63 that was trained; as trained by default.
        """
        places = torch.arange(QUALITIES) if places is None else places
        self.anchor_entropy.freeze(places)
        self.entropy.freeze(places)
        self.state.freeze()
        self.table_frequencies.copy_(normal_tables())
        cast(Tensor, self.frozen).fill_(1)

    def restore(self) -> None:
        """Constants that no file holds, after building on the meta device."""
        for layer in self.modules():
            if isinstance(layer, Gains):
                layer.rise = rise_of(layer.lowest, layer.highest)

    def check(self, where: str) -> None:
        """Refuse integers that no export writes: a stranger's file must not reach arithmetic that overflows."""
        bounds = {
            "weight_integers": (-WEIGHT_REACH, WEIGHT_REACH),
            "bias_integers": (-(1 << 50), 1 << 50),
            "shift": (1, 40),
            "gain_integers": (1, 1 << 22),
            "inverse_integers": (1, 1 << 22),
            "level_integers": (-(1 << 20), 1 << 20),
            "quality_integers": (-REACH, REACH),
            "hyper_level_integers": (0, LEVELS - 1),
            "table_frequencies": (0, TOTAL),
            "frozen": (1, 1),
        }
        for name, value in self.integers().items():
            low, high = bounds[name.rpartition(".")[2]]
            if value.min() < low or value.max() > high:
                raise GnvcError(f"{where}: {name} holds an integer that is not between {low} and {high}")
        for layer in self.modules():
            if isinstance(layer, IntegerConv) and layer.shift.min() <= layer.finer:
                raise GnvcError(f"{where}: a layer's shift is too small")
        try:
            tables_of(self.table_frequencies)
        except (ValueError, IndexError) as error:
            raise GnvcError(f"{where}: a table is none ({error})") from error

    def integers(self) -> dict[str, Tensor]:
        """Everything that decides a symbol."""
        return {name: value for name, value in self.named_buffers() if not value.is_floating_point()}

    @torch.inference_mode()
    def compress(self, latents: Tensor, quality: Sequence[int]) -> tuple[list[Payload], list[DecodedLatent]]:
        """One payload for each clip of the batch, and what a decoder will have; a quality for each latent."""
        _check(latents)
        tables = self._tables()
        writing = [Writing(Encoder(), tables) for _ in latents]
        hashes = [_hash() for _ in latents]
        decoded: list[DecodedLatent] = []
        past, state = None, None
        for latent, level in zip(latents.unbind(2), quality, strict=True):
            model, levels = self._model(past), torch.full((len(latents),), level, device=latents.device)
            with torch.autocast(latents.device.type, enabled=False):
                y = model.gains.multiply(self._analyse(latent, past), levels)
                coded = model.compress(y, self._seen(state, past), levels, writing)
                past, state = self._after(model, coded, past, state, levels, hashes)
            decoded.append(past)
        payloads = [
            Payload(one.encoder.finish(), digest.digest(), one.encoder.bits)
            for one, digest in zip(writing, hashes, strict=True)
        ]
        return payloads, decoded

    def decompress(
        self,
        payloads: Sequence[bytes],
        symbol_hashes: Sequence[bytes],
        size: tuple[int, int],
        quality: Sequence[int],
    ) -> Iterator[DecodedLatent]:
        """Latents of h × w as they come, clips of one length side by side. The last is followed by the proof.

        Raises:
            BitstreamError: the bytes are none of ours, or decoded to other symbols than were coded.
        """
        height, width = size[0] // 2, size[1] // 2
        device = self.table_frequencies.device
        tables = self._tables()
        reading = [Reading(Decoder(payload), tables) for payload in payloads]
        hashes = [_hash() for _ in payloads]
        past: DecodedLatent | None = None
        state = None
        for level in quality:
            with torch.inference_mode(), torch.autocast(device.type, enabled=False):
                model, levels = self._model(past), torch.full((len(payloads),), level, device=device)
                coded = model.decompress((height, width), self._seen(state, past), levels, reading)
                past, state = self._after(model, coded, past, state, levels, hashes)
            yield past
        for one, digest, wanted in zip(reading, hashes, symbol_hashes, strict=True):
            one.decoder.finish()
            if digest.digest() != wanted:
                raise BitstreamError("the symbols are not those that were coded")

    def _model(self, past: DecodedLatent | None) -> EntropyModel:
        return self.anchor_entropy if past is None else self.entropy

    def _tables(self) -> Tables:
        if not bool(self.frozen) or self.training or self.float_prior:
            raise GnvcError("this model has no frozen integers to code with: freeze() and eval() come first")
        return tables_of(self.table_frequencies)

    def _after(
        self,
        model: EntropyModel,
        coded: Coded,
        past: DecodedLatent | None,
        state: Tensor | None,
        levels: Tensor,
        hashes: "list[hashlib.blake2b]",
    ) -> tuple[DecodedLatent, Tensor]:
        """What both sides do with a latent's symbols once they have them."""
        for clip, digest in enumerate(hashes):
            digest.update(coded.hyper[clip].to("cpu", torch.int32).contiguous().numpy().tobytes())
            digest.update(coded.symbols[clip].to("cpu", torch.int32).contiguous().numpy().tobytes())
        y = model.gains.divide(coded.symbols.float() / UNITS, levels)
        return self._synthesise(y, past), self.state(state, coded.values)

    def _seen(self, state: Tensor | None, past: DecodedLatent | None) -> Tensor | None:
        """What an entropy model is shown of the past."""
        if state is None or past is None:
            return None
        seen = state if self.temporal else torch.zeros_like(state)
        return torch.cat([seen, self.peek(past.feature)], dim=1) if self.float_prior else seen

    def _analyse(self, latent: Tensor, past: DecodedLatent | None) -> Tensor:
        return cast(Tensor, (self.anchor_analysis if past is None else self.analysis)(latent, past))

    def _synthesise(self, y: Tensor, past: DecodedLatent | None) -> DecodedLatent:
        latent = (self.anchor_synthesis if past is None else self.synthesis)(y, past)
        return DecodedLatent(latent, self.extractor(latent))


def _hash() -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=HASH_BYTES)


def _check(latents: Tensor) -> None:
    if latents.ndim != 5 or latents.shape[3] % 2 or latents.shape[4] % 2:
        raise ValueError(f"expected latents B 16 T h w with even h and w, not {tuple(latents.shape)}")
