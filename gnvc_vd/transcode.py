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

from gnvc_vd.bitstream import BitstreamError, Damage, Reader, Unit, Writer
from gnvc_vd.codec import Encoding, GnvcVd
from gnvc_vd.conventions import MAX_PIXELS, Frame, UsageError, bits_per_pixel
from gnvc_vd.files import replacing
from gnvc_vd.playback import Decoding
from gnvc_vd.video import RawVideo, VideoInfo, create_video, open_video


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


@dataclass(frozen=True)
class Verified:
    """What `verify` says: every GOP's verdict, None where it is whole."""

    gops: dict[int, str | None]
    damages: tuple[Damage, ...]

    @property
    def whole(self) -> bool:
        return not self.damages and not any(self.gops.values())


def encode_file(
    codec: GnvcVd,
    source: str,
    target: str,
    encoding: Encoding,
    bpp: float | None = None,
    frames: int | None = None,
    raw: RawVideo | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Encoded:
    """`bpp` searches the quality; `frames` ends after so many; `say` is told what the reader assumed or dropped."""
    start = time.perf_counter()
    with open_video(source, raw) as video, _output(target) as stream:
        info = video.info
        for notice in info.notices:
            say(notice)
        total = info.frames if frames is None or info.frames is None else min(frames, info.frames)
        clip = islice(video, frames) if frames is not None else iter(video)
        writer = Writer(stream, codec.header(info, encoding))
        units = (
            codec.encode_units(clip, encoding) if bpp is None else _searched(codec, clip, encoding, info, bpp, total)
        )
        count = gops = 0
        quality = encoding.quality
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


def decode_file(codec: GnvcVd, source: str, target: str, decoding: Decoding) -> Decoded:
    start = time.perf_counter()
    with _input(source) as stream:
        reader = Reader(stream, decoding.max_pixels)
        header = reader.header
        count = 0
        with (
            create_video(target, header.width, header.height, header.rate, header.colour) as writer,
            tqdm(unit="frame", desc="decoding", disable=None) as progress,
        ):
            for window in codec.decode_from(reader, decoding):
                for frame in window:
                    writer.write(frame)
                count += len(window)
                progress.update(len(window))
    return Decoded(count, header.width, header.height, time.perf_counter() - start)


def verify_file(codec: GnvcVd, source: str, max_pixels: int = MAX_PIXELS) -> Verified:
    """Read all: every CRC, and every symbol against its unit's hash. No picture is made."""
    gops: dict[int, str | None] = {}
    damages: list[Damage] = []
    with _input(source) as stream:
        reader = Reader(stream, max_pixels)
        codec.check(reader.header, allow_other_weights=True)
        for part in tqdm(reader, unit="GOP", desc="verifying", disable=None):
            if isinstance(part, Damage):
                damages.append(part)
            elif isinstance(part, Unit):
                gops[part.index] = _verdict(codec, reader, part)
    return Verified(gops, tuple(damages))


def _verdict(codec: GnvcVd, reader: Reader, unit: Unit) -> str | None:
    try:
        for _ in codec.symbols(reader.header, unit):
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
