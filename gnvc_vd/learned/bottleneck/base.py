"""What every latent codec is to the rest: latents to one payload a clip, and back latent by latent.

Each kind says what its symbols are and in which order they are coded (`_code`); how they reach an entropy coder, how a
decoder proves that it read what was written, and what a stranger's integers must not exceed is said here for all.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.conventions import QUALITIES, GnvcError, UsageError
from gnvc_vd.entropy.cdf_tables import TOTAL, Tables, normal_tables, tables_of
from gnvc_vd.entropy.coder import Decoder, Encoder
from gnvc_vd.entropy.integer import REACH, WEIGHT_REACH, IntegerConv
from gnvc_vd.learned.bottleneck.networks import DecodedLatent
from gnvc_vd.learned.bottleneck.symbol_coding import Coders, Uniform

new_hash = partial(hashlib.blake2b, digest_size=4)  # of the symbols
LAYER_BOUNDS = {  # of integers that decide symbols, by the last part of their name
    "weight_integers": (-WEIGHT_REACH, WEIGHT_REACH),
    "bias_integers": (-(1 << 50), 1 << 50),
    "shift": (1, 40),
    "level_integers": (-(1 << 20), 1 << 20),
    "quality_integers": (-REACH, REACH),
    "table_frequencies": (0, TOTAL),
    "frozen": (1, 1),
}


class BottleneckOutput(NamedTuple):
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
    """A latent codec. `forward` trains it, `freeze` makes its integers, `compress` and `decompress` use them.

    Args:
        thrift: how its encoder rounds (likelihoods.rounded). So does training, but where noise stands for rounding.
    """

    preset: Any  # of its kind
    table_frequencies: Tensor
    bounds: Mapping[str, tuple[int, int]] = LAYER_BOUNDS

    def __init__(self, thrift: float = 0.0) -> None:
        super().__init__()
        self.thrift = thrift
        self.register_buffer("table_frequencies", normal_tables())
        self.register_buffer("frozen", torch.zeros((), dtype=torch.int64))

    @abstractmethod
    def forward(
        self, latents: Tensor, quality: Tensor, uniform: Uniform = torch.rand_like, rotation: int = 0
    ) -> BottleneckOutput:
        """What decoding would give, and what it would cost.

        Args:
            latents: B 16 T h w with even h and w.
            quality: each latent's, B T.
            uniform: where noise comes from while training.
            rotation: as of `compress`.
        """

    @abstractmethod
    def measure(self, latents: Tensor, smallest: float, largest: float) -> None:
        """Begin as what is best before any training, for latents like these.

        Args:
            latents: of training clips, N 16 T h w, of as many latents as training will have.
            smallest, largest: λ of the lowest and of the highest quality.
        """

    @abstractmethod
    def initial_tensors(self) -> dict[str, Tensor]:
        """The tensors that `measure` sets, by their names here: what a beginning is kept as."""

    @abstractmethod
    def usual_rotation(self, latents: int) -> int:
        """What an encoder takes for so many latents unless it is told; 0 where there is none."""

    @abstractmethod
    def unsupported_reason(self, quality: Sequence[int], rotation: int) -> str | None:
        """Why it cannot code latents so, in words."""

    @abstractmethod
    def _freeze(self, places: Tensor) -> None:
        """Write every integer that decides a symbol, for 64 qualities at these places of the trained scale."""

    @abstractmethod
    def _code(
        self,
        coders: Coders,
        hashes: "list[hashlib.blake2b]",
        size: Sequence[int],
        quality: Sequence[int],
        rotation: int,
        latents: Tensor | None,
    ) -> Iterator[DecodedLatent]:
        """Either direction: latents into encoders, or where there are none out of decoders."""

    def freeze(self, places: Tensor | None = None) -> None:
        """The export: write the integers that decide symbols, prove their bounds, and make the tables.

        Args:
            places: where each of the 64 qualities lies on the scale 0…63 that was trained; as trained by default.
        """
        places = torch.arange(QUALITIES) if places is None else places
        self._freeze(places.to(self.table_frequencies.device))
        self.table_frequencies.copy_(normal_tables())
        cast(Tensor, self.frozen).fill_(1)

    def check(self, where: str) -> None:
        """Refuse integers that no export writes: a stranger's file must not reach arithmetic that overflows."""
        for name, value in self.state_dict().items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise GnvcError(f"{where}: {name} holds what is no number")
        integers = {name: value for name, value in self.named_buffers() if not value.is_floating_point()}
        for name, value in integers.items():
            low, high = self.bounds[name.rpartition(".")[2]]
            if value.min() < low or value.max() > high:
                raise GnvcError(f"{where}: {name} holds an integer that is not between {low} and {high}")
        for layer in self.modules():
            if isinstance(layer, IntegerConv) and layer.shift.min() <= layer.extra_bits:
                raise GnvcError(f"{where}: a layer's shift is too small")
        try:
            tables_of(self.table_frequencies)
        except (ValueError, IndexError) as error:
            raise GnvcError(f"{where}: a table is none ({error})") from error

    def compress(
        self, latents: Tensor, quality: Sequence[int], rotation: int | None = None
    ) -> tuple[list[Payload], list[DecodedLatent]]:
        """One payload for each clip of the batch, and what a decoder will have.

        Args:
            quality: one for each latent.
            rotation: latents that are coded together, as its kind has it; the usual by default.
        """
        check_latents(latents)
        rotation = self.usual_rotation(latents.shape[2]) if rotation is None else rotation
        reason = self.unsupported_reason(quality, rotation)
        if reason:
            raise UsageError(reason)
        tables = self._tables()
        encoders, hashes = [Encoder(tables) for _ in latents], [new_hash() for _ in latents]
        decoded = list(self._code(encoders, hashes, latents.shape[3:], quality, rotation, latents))
        coded = zip(encoders, hashes, strict=True)
        return [Payload(encoder.finish(), digest.digest(), encoder.bits) for encoder, digest in coded], decoded

    def decompress(
        self,
        payloads: Sequence[bytes],
        symbol_hashes: Sequence[bytes],
        size: tuple[int, int],
        quality: Sequence[int],
        rotation: int | None = None,
    ) -> Iterator[DecodedLatent]:
        """Latents of h × w as they come, clips of one length side by side. The last is followed by the proof.

        Raises:
            BitstreamError: the bytes are none of ours, or decoded to other symbols than were coded.
        """
        rotation = self.usual_rotation(len(quality)) if rotation is None else rotation
        reason = self.unsupported_reason(quality, rotation)
        if reason:
            raise BitstreamError(reason)
        tables = self._tables()
        decoders, hashes = [Decoder(payload, tables) for payload in payloads], [new_hash() for _ in payloads]
        yield from self._code(decoders, hashes, size, quality, rotation, None)
        for decoder, digest, wanted in zip(decoders, hashes, symbol_hashes, strict=True):
            decoder.finish()
            if digest.digest() != wanted:
                raise BitstreamError("the symbols are not those that were coded")

    def _tables(self) -> Tables:
        if not bool(self.frozen) or self.training:
            raise GnvcError("this model has no frozen integers to code with: freeze() and eval() come first")
        return tables_of(self.table_frequencies)


def update_hashes(hashes: "list[hashlib.blake2b]", symbols: Tensor) -> None:
    """Symbols of each clip as every machine spells them."""
    for digest, one in zip(hashes, symbols, strict=True):
        digest.update(one.to("cpu", torch.int32).contiguous().numpy().tobytes())


def check_latents(latents: Tensor) -> None:
    if latents.ndim != 5 or latents.shape[3] % 2 or latents.shape[4] % 2:
        raise ValueError(f"expected latents B 16 T h w with even h and w, not {tuple(latents.shape)}")
