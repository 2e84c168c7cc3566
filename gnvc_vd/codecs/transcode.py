"""Files in, files out: what `gnvc-vd encode`, `decode` and `verify` do once the call is understood."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from gnvc_vd.backbone.prompt import NoTextEncoderError
from gnvc_vd.bitstream import BitstreamError, Damage, Header, Reader, Unit, Writer
from gnvc_vd.bitstream.playback import Decoding
from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import MAX_PIXELS, Frame, UsageError, bits_per_pixel
from gnvc_vd.learned.codec import Encoding, GnvcVd
from gnvc_vd.video import RawVideo, VideoInfo, create_video, open_video
from gnvc_vd.zeroshot.codec import Gvc, GvcDecoder
from gnvc_vd.zeroshot.encoding import GvcEncoding

CodecFor = Callable[[Header], GnvcVd | Gvc]  # the codec of a stream, once its header is known


@dataclass(frozen=True)
class Encoded:
    """What `encode --json` says."""

    bytes: int
    bpp: float
    frames: int
    width: int
    height: int
    seconds: float
    gops: int
    quality: int
    model: str


@dataclass(frozen=True)
class Decoded:
    """What `decode --json` says."""

    frames: int
    width: int
    height: int
    seconds: float
    drift: float | None = None  # of a GVC stream: the furthest GOP's latents from the encoder's


@dataclass(frozen=True)
class Verified:
    """What `verify` says: every GOP's verdict, None where it is whole."""

    gops: dict[int, str | None]
    damages: tuple[Damage, ...]
    drifts: dict[int, float]  # of a GVC stream's replayed GOPs: how far their latents are from the encoder's

    @property
    def whole(self) -> bool:
        return not self.damages and not any(self.gops.values())


def encode_file(
    codec: GnvcVd | Gvc,
    source: str,
    target: str,
    encoding: Encoding | GvcEncoding,
    bpp: float | None = None,
    frames: int | None = None,
    raw: RawVideo | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Encoded:
    """`bpp` searches GNVC-VD's quality; `frames` ends after so many; `say` hears what the reader assumed or dropped."""
    start = time.perf_counter()
    with open_video(source, raw) as video, _output(target) as stream:
        info = video.info
        for notice in info.notices:
            say(notice)
        total = info.frames if frames is None or info.frames is None else min(frames, info.frames)
        clip = islice(video, frames) if frames is not None else iter(video)
        if isinstance(codec, Gvc):
            assert isinstance(encoding, GvcEncoding)
            header, units, quality = codec.header(info, encoding), iter(codec.encode_units(clip, encoding)), 0
        else:
            assert isinstance(encoding, Encoding)
            header, quality = codec.header(info, encoding), encoding.quality
            found = codec.encode_units(clip, encoding) if bpp is None else None
            units = iter(_searched(codec, clip, encoding, info, bpp or 0, total)) if found is None else found
        writer = Writer(stream, header)
        count = gops = 0
        with tqdm(total=total, unit="frame", desc="encoding", disable=None) as progress:
            for unit in units:
                writer.write(unit)
                count, gops, quality = count + unit.frames, gops + 1, unit.quality
                progress.update(unit.frames)
                progress.set_postfix(bpp=f"{bits_per_pixel(writer.bytes_written, info.width, info.height, count):.5f}")
        writer.close()
    rate = bits_per_pixel(writer.bytes_written, info.width, info.height, count)
    seconds = time.perf_counter() - start
    return Encoded(writer.bytes_written, rate, count, info.width, info.height, seconds, gops, quality, codec.name)


def _searched(
    codec: GnvcVd, clip: Iterator[Frame], encoding: Encoding, info: VideoInfo, bpp: float, total: int | None
) -> list[Unit]:
    with (
        tqdm(clip, total=total, unit="frame", desc="reading", disable=None) as frames,
        tqdm(total=None, unit="pass", desc="searching", disable=None) as passes,
    ):

        def tried(quality: int, found: float) -> None:
            passes.update()
            passes.set_postfix(quality=quality, bpp=f"{found:.5f}")

        return codec.encode_to_bpp(frames, encoding, info, bpp, tried)


def decode_file(codec_for: CodecFor, source: str, target: str, decoding: Decoding) -> Decoded:
    start = time.perf_counter()
    with _input(source) as stream:
        reader = Reader(stream, decoding.max_pixels)
        header = reader.header
        codec = codec_for(header)
        count, drifts = 0, list[float]()
        windows = (
            codec.decode_from(reader, decoding, lambda _, drift: drifts.append(drift))
            if isinstance(codec, Gvc)
            else codec.decode_from(reader, decoding)
        )
        with (
            create_video(target, header.width, header.height, header.rate, header.colour) as writer,
            tqdm(unit="frame", desc="decoding", disable=None) as progress,
        ):
            for window in windows:
                for frame in window:
                    writer.write(frame)
                count += len(window)
                progress.update(len(window))
    seconds = time.perf_counter() - start
    return Decoded(count, header.width, header.height, seconds, max(drifts) if drifts else None)


def verify_file(codec_for: CodecFor, source: str, max_pixels: int = MAX_PIXELS) -> Verified:
    """Read all: every CRC, every symbol against its unit's hash. GVC is replayed as far as its model is here."""
    gops: dict[int, str | None] = {}
    drifts: dict[int, float] = {}
    damages: list[Damage] = []
    with _input(source) as stream:
        reader = Reader(stream, max_pixels)
        header = reader.header
        codec = codec_for(header)
        codec.check(header, allow_other_weights=True)
        decoder = None
        if isinstance(codec, Gvc) and header.shown_identity == codec.shown_identity:
            decoder = GvcDecoder(codec, header)
        for part in tqdm(reader, unit="GOP", desc="verifying", disable=None):
            if isinstance(part, Damage):
                damages.append(part)
            elif isinstance(part, Unit):
                gops[part.index] = _verdict(codec, header, part)
                if decoder is not None and gops[part.index] is None:
                    try:
                        gops[part.index] = _replayed(decoder, part, drifts)
                    except NoTextEncoderError:
                        decoder = None
    return Verified(gops, tuple(damages), drifts)


def _verdict(codec: GnvcVd | Gvc, header: Header, unit: Unit) -> str | None:
    try:
        if isinstance(codec, Gvc):
            codec.symbols(header, unit)
        else:
            for _ in codec.symbols(header, unit):
                pass
    except BitstreamError as error:
        return str(error)
    return None


def _replayed(decoder: GvcDecoder, unit: Unit, drifts: dict[int, float]) -> str | None:
    try:
        replayed = decoder.replay(unit)
        drifts[unit.index] = replayed.drift
        for _ in decoder.show(unit, replayed):  # the next GOP may begin with its last picture
            pass
    except BitstreamError as error:
        return str(error)
    return None


@contextmanager
def _input(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed")
        yield sys.stdin.buffer
    else:
        with Path(source).open("rb") as stream:
            yield stream


@contextmanager
def _output(target: str) -> Iterator[BinaryIO]:
    if target == "-":
        yield sys.stdout.buffer
        return
    path = Path(target).absolute()
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a stream cannot replace it")
    with ExitStack() as stack:
        yield stack.enter_context(stack.enter_context(replacing(path)).open("wb"))
