"""The interface of every codec, which the command line, the evaluation and the training call.

    settings, frames ──encode_units──▶ units        units ──decoder(header)──▶ frames
                                       the header names the codec and the model, and holds the codec's parameters

GNVC-VD (learned/) and GVC (zeroshot/) implement it; neither imports the other, nor this file.
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
    """Encoder options; each codec has its own frozen dataclass."""

    @property
    def gop(self) -> int: ...

    def target_bytes(self, info: "VideoInfo", frames: int) -> float | None:
        """Target size of the whole file in bytes, or None if the options set a quality and not a rate."""


Settings = TypeVar("Settings", bound=EncoderSettings, contravariant=True)


class Decoder(UnitDecoder, Protocol):
    """Decodes and verifies a stream's units, in order."""

    drifts: dict[int, float]  # distance of each GOP's latents from the encoder's (GVC); empty for GNVC-VD
    refined: dict[int, int | None]  # of each refined GOP (GNVC-VD) the size of its tiles, if it took any; empty for GVC

    def verify(self, unit: Unit) -> None:
        """Decode a unit's symbols and check them against the hash in the unit, and whatever else can be checked.

        Raises:
            BitstreamError: the unit is damaged.
        """


class Codec(Protocol[Settings]):
    """A codec with its model loaded."""

    name: str
    note: str  # a message for the user about the model; may be empty
    coded_identity: bytes
    shown_identity: bytes
    late_seconds: float  # of loading what is loaded when it is first used: a refiner

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
        """Encode frames to units, one per GOP, as the frames arrive.

        Args:
            info: size and frame rate of the video; needed if `settings` set a rate.
            on_trial: called with each quality that a rate search has tried and its bits per pixel.
            notify: called with a message if the target rate is out of reach.
        """

    def decoder(self, header: Header, decoding: DecodeOptions | None = None, pictures: bool = True) -> Decoder:
        """Make a decoder for one stream, whose header it parses.

        Args:
            pictures: False for a decoder that only verifies, even with another model than the stream's.
        """

    def encode(self, video: "Video", settings: Any = None, **options: Any) -> bytes: ...

    def decode(
        self, stream: bytes | BinaryIO, decoding: DecodeOptions | None = None, **options: Any
    ) -> Iterator[Frame]: ...


@dataclass(frozen=True)
class RateOption:
    """The command-line option that sets a codec's rate; higher values give better quality and larger files."""

    option: str
    largest: int


RATE_OPTIONS = {"gnvc-vd": RateOption("--quality", QUALITIES - 1), "gvc": RateOption("--atoms", MAX_ATOMS)}


def parameters_of(header: Header) -> "Parameters | Refinement":
    """Parse the codec's parameters in a header; no model is needed.

    Raises:
        BitstreamError: a parameter is out of bounds.
    """
    if header.codec is CodecId.GVC:
        from gnvc_vd.zeroshot.parameters import Parameters  # which need torch, as GNVC-VD's do not

        return Parameters.parse(header.parameters)
    return Refinement.parse(header.parameters)
