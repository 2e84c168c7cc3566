"""The contract that every codec meets: all that files, evaluation and the command line know of a codec.

    settings, frames ──encode_units──▶ units        units ──decoder(header)──▶ frames
                                       header says which codec, which model and its parameters

GNVC-VD (learned/) and GVC (zeroshot/) meet it without knowing one another, or this file.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Self, TypeVar

from gnvc_vd.bitstream import CodecId, Header, Unit
from gnvc_vd.bitstream.playback import DecodeOptions, UnitDecoder
from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.conventions import QUALITIES, Frame
from gnvc_vd.zeroshot.combinadic import MAX_ATOMS

if TYPE_CHECKING:
    import torch

    from gnvc_vd.video import Video, VideoInfo
    from gnvc_vd.zeroshot.parameters import Parameters


class EncoderSettings(Protocol):
    """What an encoder decides: each codec has its own frozen dataclass."""

    @property
    def gop(self) -> int: ...

    def target_bytes(self, info: "VideoInfo", frames: int) -> float | None:
        """Of the whole file of so many frames, where a rate is asked for."""


Settings = TypeVar("Settings", bound=EncoderSettings, contravariant=True)


class Decoder(UnitDecoder, Protocol):
    """A stream's units to frames, in order."""

    drifts: dict[int, float]  # by GOP, how far its latents were from the encoder's; empty where that decides nothing

    def verify(self, unit: Unit) -> None:
        """Read every symbol, and what else can be checked.

        Raises:
            BitstreamError: the unit is damaged.
        """


class Codec(Protocol[Settings]):
    """A codec on a model."""

    name: str
    note: str  # what its user must know
    coded_identity: bytes
    shown_identity: bytes

    def to(self, device: "torch.device | str") -> Self: ...

    def header(self, info: "VideoInfo", settings: Settings) -> Header: ...

    def encode_units(
        self,
        frames: Iterable[Frame],
        settings: Settings,
        info: "VideoInfo | None" = None,
        on_trial: Callable[[int, float], object] = ...,
        notify: Callable[[str], object] = ...,
    ) -> Iterator[Unit]:
        """Units as the frames come; what follows `settings` is for those that ask for the rate of a whole file."""

    def decoder(self, header: Header, decoding: DecodeOptions | None = None, pictures: bool = True) -> Decoder:
        """For one stream, whose parameters it parses; without pictures, for what can be verified without its model."""

    def encode(self, video: "Video", settings: Any = None, **options: Any) -> bytes: ...

    def decode(
        self, stream: bytes | BinaryIO, decoding: DecodeOptions | None = None, **options: Any
    ) -> Iterator[Frame]: ...


@dataclass(frozen=True)
class RateOption:
    """The option of the command line that sets a codec's rate; more is better and larger."""

    option: str
    largest: int


RATE_OPTIONS = {"gnvc-vd": RateOption("--quality", QUALITIES - 1), "gvc": RateOption("--atoms", MAX_ATOMS)}


def parameters_of(header: Header) -> "Parameters | Refinement":
    """What a header says of how a decoder is meant to go about it, by its codec; this needs no model.

    Raises:
        BitstreamError: it is out of bounds.
    """
    if header.codec is CodecId.GVC:
        from gnvc_vd.zeroshot.parameters import Parameters  # which need torch, as GNVC-VD's do not

        return Parameters.parse(header.parameters)
    return Refinement.parse(header.parameters)
