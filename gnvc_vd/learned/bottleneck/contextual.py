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
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.conventions import QUALITIES, GnvcError
from gnvc_vd.entropy.cdf_tables import LEVELS, TOTAL, Tables, normal_tables, tables_of
from gnvc_vd.entropy.coder import Decoder, Encoder
from gnvc_vd.entropy.integer import REACH, UNITS, WEIGHT_REACH, IntegerConv, in_one_pass
from gnvc_vd.learned.bottleneck.hyperprior import Coders, EntropyModel, TemporalState, Uniform, freeze
from gnvc_vd.learned.bottleneck.networks import Analysis, DecodedLatent, Extractor, Synthesis
from gnvc_vd.presets import BottleneckPreset

ARITHMETIC = 1  # changes whenever the same integers and bytes would decode to other symbols
new_hash = partial(hashlib.blake2b, digest_size=4)  # of the symbols


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
        thrift: how its encoder rounds (likelihoods.rounded). So does training, but where noise stands for rounding.
    """

    table_frequencies: Tensor

    def __init__(self, preset: BottleneckPreset, thrift: float = 0.0) -> None:
        super().__init__()
        self.preset, self.thrift = preset, thrift
        self.anchor_analysis = Analysis(preset, context=False)
        self.anchor_synthesis = Synthesis(preset, context=False)
        self.analysis = Analysis(preset, context=True)
        self.synthesis = Synthesis(preset, context=True)
        self.extractor = Extractor(preset)
        self.anchor_entropy = EntropyModel(preset, 0, thrift)
        self.entropy = EntropyModel(preset, preset.state, thrift)
        self.state = TemporalState(preset)
        self.register_buffer("table_frequencies", normal_tables())
        self.register_buffer("frozen", torch.zeros((), dtype=torch.int64))

    @in_one_pass
    def forward(self, latents: Tensor, quality: Tensor, uniform: Uniform = torch.rand_like) -> Trained:
        """B 16 T h w with even h and w; each latent's quality, B T; where noise comes from while training."""
        check_latents(latents)
        decoded, features, bits = [], [], []
        past: DecodedLatent | None = None
        state = None
        for latent, level in zip(latents.unbind(2), quality.unbind(1), strict=True):
            model = self.entropy_model(past)
            with torch.autocast(latents.device.type, enabled=False):
                y = model.gains.multiply(self._analyse(latent, past), level)
                likely = model(y, state, level, uniform)
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
        freeze(self, places.to(self.table_frequencies.device))
        self.table_frequencies.copy_(normal_tables())
        cast(Tensor, self.frozen).fill_(1)

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
        integers = {name: value for name, value in self.named_buffers() if not value.is_floating_point()}
        for name, value in integers.items():
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

    def compress(self, latents: Tensor, quality: Sequence[int]) -> tuple[list[Payload], list[DecodedLatent]]:
        """One payload for each clip of the batch, and what a decoder will have; a quality for each latent."""
        check_latents(latents)
        tables = self._tables()
        encoders, hashes = [Encoder(tables) for _ in latents], [new_hash() for _ in latents]
        decoded = list(self._code(encoders, hashes, latents.shape[3:], quality, latents.unbind(2)))
        coded = zip(encoders, hashes, strict=True)
        return [Payload(encoder.finish(), digest.digest(), encoder.bits) for encoder, digest in coded], decoded

    def decompress(
        self, payloads: Sequence[bytes], symbol_hashes: Sequence[bytes], size: tuple[int, int], quality: Sequence[int]
    ) -> Iterator[DecodedLatent]:
        """Latents of h × w as they come, clips of one length side by side. The last is followed by the proof.

        Raises:
            BitstreamError: the bytes are none of ours, or decoded to other symbols than were coded.
        """
        tables = self._tables()
        decoders, hashes = [Decoder(payload, tables) for payload in payloads], [new_hash() for _ in payloads]
        yield from self._code(decoders, hashes, size, quality, [None] * len(quality))
        for decoder, digest, wanted in zip(decoders, hashes, symbol_hashes, strict=True):
            decoder.finish()
            if digest.digest() != wanted:
                raise BitstreamError("the symbols are not those that were coded")

    def entropy_model(self, past: DecodedLatent | None) -> EntropyModel:
        return self.anchor_entropy if past is None else self.entropy

    def _code(
        self,
        coders: Coders,
        hashes: "list[hashlib.blake2b]",
        size: Sequence[int],
        quality: Sequence[int],
        clip: Sequence[Tensor | None],
    ) -> Iterator[DecodedLatent]:
        """Either direction: latents into encoders, or where there are none out of decoders."""
        device, past, state = self.table_frequencies.device, None, None
        for latent, level in zip(clip, quality, strict=True):
            with torch.inference_mode(), torch.autocast(device.type, enabled=False):
                model, levels = self.entropy_model(past), torch.full((len(coders),), level, device=device)
                y = None if latent is None else model.gains.multiply(self._analyse(latent, past), levels)
                coded = model.code(coders, (size[0] // 2, size[1] // 2), state, levels, y)
                for digest, *integers in zip(hashes, coded.hyper, coded.symbols, strict=True):
                    for one in integers:
                        digest.update(one.to("cpu", torch.int32).contiguous().numpy().tobytes())
                past = self._synthesise(model.gains.divide(coded.symbols.float() / UNITS, levels), past)
                state = self.state(state, coded.values)
            yield past

    def _tables(self) -> Tables:
        if not bool(self.frozen) or self.training:
            raise GnvcError("this model has no frozen integers to code with: freeze() and eval() come first")
        return tables_of(self.table_frequencies)

    def _analyse(self, latent: Tensor, past: DecodedLatent | None) -> Tensor:
        return cast(Tensor, (self.anchor_analysis if past is None else self.analysis)(latent, past))

    def _synthesise(self, y: Tensor, past: DecodedLatent | None) -> DecodedLatent:
        latent = (self.anchor_synthesis if past is None else self.synthesis)(y, past)
        return DecodedLatent(latent, self.extractor(latent))


def check_latents(latents: Tensor) -> None:
    if latents.ndim != 5 or latents.shape[3] % 2 or latents.shape[4] % 2:
        raise ValueError(f"expected latents B 16 T h w with even h and w, not {tuple(latents.shape)}")
