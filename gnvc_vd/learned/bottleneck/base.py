"""The base class of latent codecs: latents to one payload per clip, and back, latent by latent.

Each kind defines its symbols and their order (`_code`). What the kinds have in common is here: entropy coding, the
check of decoded symbols by their hash, and bounds for the integers of untrusted files.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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

LAYER_BOUNDS = {  # bounds of the integers that decide symbols, by the last part of their name
    "weight_integers": (-WEIGHT_REACH, WEIGHT_REACH),
    "bias_integers": (-(1 << 50), 1 << 50),
    "shift": (1, 40),
    "level_integers": (-(1 << 20), 1 << 20),
    "quality_integers": (-REACH, REACH),
    "table_frequencies": (0, TOTAL),
    "frozen": (1, 1),
}


class SymbolHashes:
    """Hashes of the symbols of each clip, in the same byte order on every machine; they leave a device at the end."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def update(self, symbols: Tensor) -> None:
        self._parts.append(symbols.flatten(1).int())

    def digests(self) -> list[bytes]:
        clips = torch.cat(self._parts, dim=1).cpu().numpy()
        return [hashlib.blake2b(clip, digest_size=4).digest() for clip in clips]


class BottleneckOutput(NamedTuple):
    """Result of a training pass."""

    latents: Tensor  # l̂, B 16 T h w
    features: Tensor  # f, B F T h w
    bits: Tensor  # B T


@dataclass(frozen=True)
class Payload:
    """The coded latents of one clip."""

    data: bytes
    symbol_hash: bytes
    estimated_bits: float  # information of its symbols, without the coder's overhead


class Bottleneck(nn.Module):
    """A latent codec: `forward` for training, `freeze` writes the integers that `compress` and `decompress` use.

    Args:
        thrift: of the encoder's rounding (likelihoods.round_symbols), in training too, except where noise replaces it.
    """

    preset: Any  # of the kind's own type
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
        """The decoded latents and their rate, differentiable.

        Args:
            latents: B 16 T h w with even h and w.
            quality: quality of each latent, B T.
            uniform: draws the noise that replaces rounding.
            rotation: as for `compress`.
        """

    @abstractmethod
    def measure(self, latents: Tensor, smallest: float, largest: float) -> None:
        """Initialise the weights from statistics of latents, to the best codec without training.

        Args:
            latents: latents of training clips, N 16 T h w, with the training's T.
            smallest, largest: λ of the lowest and the highest quality.
        """

    @abstractmethod
    def initial_tensors(self) -> dict[str, Tensor]:
        """The tensors that `measure` sets, by name; a file of statistics stores them."""

    @abstractmethod
    def usual_rotation(self, latents: int) -> int:
        """The default rotation for this number of latents; 0 for a kind without rotations."""

    @abstractmethod
    def unsupported_reason(self, quality: Sequence[int], rotation: int) -> str | None:
        """Error message if the codec does not support these qualities or this rotation; else None."""

    @abstractmethod
    def _freeze(self, places: Tensor) -> None:
        """Write every integer that decides a symbol, for the 64 qualities at `places` of the trained scale."""

    @abstractmethod
    def _code(
        self,
        coders: Coders,
        hashes: SymbolHashes,
        size: Sequence[int],
        quality: Sequence[int],
        rotation: int,
        latents: Tensor | None,
    ) -> Iterator[DecodedLatent]:
        """Code in either direction: encode `latents` with encoders or, if it is None, decode with decoders."""

    def freeze(self, places: Tensor | None = None) -> None:
        """For export: write the integers that decide symbols, check their bounds, and build the tables.

        Args:
            places: place of each of the 64 qualities on the trained scale 0…63; default: 0, 1, … 63.
        """
        places = torch.arange(QUALITIES) if places is None else places
        self._freeze(places.to(self.table_frequencies.device))
        self.table_frequencies.copy_(normal_tables())
        cast(Tensor, self.frozen).fill_(1)

    def check(self, where: str) -> None:
        """Refuse tensors that no export writes, so that no integers of an untrusted file cause an overflow."""
        for name, value in self.state_dict().items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise GnvcError(f"{where}: {name} holds a number that is not finite")
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
            raise GnvcError(f"{where}: a frequency table is invalid ({error})") from error

    def compress(
        self, latents: Tensor, quality: Sequence[int], rotation: int | None = None
    ) -> tuple[list[Payload], list[DecodedLatent]]:
        """Compress latents to one payload for each clip; also return the decoded latents.

        Args:
            quality: quality of each latent.
            rotation: number of latents that are transformed together; default: the usual one.
        """
        check_latents(latents)
        rotation = self.usual_rotation(latents.shape[2]) if rotation is None else rotation
        reason = self.unsupported_reason(quality, rotation)
        if reason:
            raise UsageError(reason)
        tables = self._tables()
        encoders, hashes = [Encoder(tables) for _ in latents], SymbolHashes()
        decoded = list(self._code(encoders, hashes, latents.shape[3:], quality, rotation, latents))
        coded = zip(encoders, hashes.digests(), strict=True)
        return [Payload(encoder.finish(), digest, encoder.bits) for encoder, digest in coded], decoded

    def decompress(
        self,
        payloads: Sequence[bytes],
        symbol_hashes: Sequence[bytes],
        size: tuple[int, int],
        quality: Sequence[int],
        rotation: int | None = None,
    ) -> Iterator[DecodedLatent]:
        """Decompress payloads of clips of equal length, latent by latent; after the last, check the symbol hashes.

        Raises:
            BitstreamError: a payload is damaged, or its symbols are not those that were encoded.
        """
        rotation = self.usual_rotation(len(quality)) if rotation is None else rotation
        reason = self.unsupported_reason(quality, rotation)
        if reason:
            raise BitstreamError(reason)
        tables = self._tables()
        decoders, hashes = [Decoder(payload, tables) for payload in payloads], SymbolHashes()
        yield from self._code(decoders, hashes, size, quality, rotation, None)
        for decoder, digest, wanted in zip(decoders, hashes.digests(), symbol_hashes, strict=True):
            decoder.finish()
            if digest != wanted:
                raise BitstreamError("the symbols are not those that were coded")

    def _tables(self) -> Tables:
        if not bool(self.frozen) or self.training:
            raise GnvcError("the model has no integers to code with: call freeze() and eval() first")
        return tables_of(self.table_frequencies)


def check_latents(latents: Tensor) -> None:
    if latents.ndim != 5 or latents.shape[3] % 2 or latents.shape[4] % 2:
        raise ValueError(f"expected latents B 16 T h w with even h and w, not {tuple(latents.shape)}")
