"""Encode, decode and verify files: the work of `gnvc-vd encode`, `decode` and `verify`."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from tqdm import tqdm

from gnvc_vd.bitstream import BitstreamError, Damage, Header, Reader, Unit, Writer
from gnvc_vd.bitstream.gop import MIN_TAIL
from gnvc_vd.bitstream.playback import DecodeOptions, Playback
from gnvc_vd.codecs.contract import Codec, EncoderSettings
from gnvc_vd.codecs.gops_ahead import decode_ahead
from gnvc_vd.common.files import input_stream, replacing
from gnvc_vd.conventions import MAX_PIXELS, UsageError, bits_per_pixel, kilobits_per_second
from gnvc_vd.video import Video, create_video

CodecFor = Callable[[Header], Codec[Any]]  # loads the codec that a stream's header asks for
S = TypeVar("S", bound=EncoderSettings)
Notify = Callable[[str], None]  # called with each message for the user


@dataclass(frozen=True)
class EncodeResult:
    """The result of an encoding; its fields are the keys of `encode --json`."""

    bytes: int
    bpp: float
    frames: int
    width: int
    height: int
    seconds: float  # of coding, from file to file, without loading the model
    gops: int
    quality: int
    model: str
    kbps: float
    target_bytes: float | None  # target for the whole file, if a rate or a size was set
    loading_seconds: float = 0.0


@dataclass(frozen=True)
class DecodeResult:
    """The result of a decoding; its fields are the keys of `decode --json`."""

    frames: int
    width: int
    height: int
    seconds: float  # of decoding, from file to file, without loading the model
    loading_seconds: float
    drift: float | None = None  # GVC: the largest distance of a GOP's latents from the encoder's
    held: int = 0  # frames repeated in place of lost ones, with --conceal
    refined_gops: int = 0
    tile: int | None = None  # of the refiner, where pictures were larger


@dataclass(frozen=True)
class VerifyResult:
    """The result of `verify`: the error of every GOP, or None if the GOP is intact."""

    gops: dict[int, str | None]
    damages: tuple[Damage, ...]
    drifts: dict[int, float]  # GVC: distance of each GOP's latents from the encoder's

    @property
    def whole(self) -> bool:
        return not self.damages and not any(self.gops.values())


def encode_video(
    codec: Codec[S],
    video: Video,
    target: str,
    settings: S,
    frames: int | None = None,
    notify: Notify = lambda _: None,
    on_unit: Callable[[Unit], object] = lambda _: None,
) -> EncodeResult:
    """Encode up to `frames` frames to a file; `notify` is called with the notices of the reader and the encoder."""
    start, info = time.perf_counter(), video.info
    for notice in info.notices:
        notify(notice)
    with _output(target) as stream:
        total = info.frames if frames is None or info.frames is None else min(frames, info.frames)
        writer = Writer(stream, codec.header(info, settings))
        count = gops = quality = longest = 0
        with tqdm(islice(video, frames), total=total, unit="frame", desc="encoding", disable=None) as clip:

            def on_trial(quality: int, bpp: float) -> None:
                clip.set_postfix(quality=quality, bpp=f"{bpp:.5f}")

            for unit in codec.encode_units(clip, settings, info, on_trial, notify):
                writer.write(unit)
                on_unit(unit)
                count, gops, quality = count + unit.frames, gops + 1, unit.quality
                longest = max(longest, unit.frames)
                clip.set_postfix(bpp=f"{bits_per_pixel(writer.bytes_written, info.width, info.height, count):.5f}")
        writer.close()
    if longest > settings.gop:
        least = min(MIN_TAIL, settings.gop)
        notify(f"a tail of fewer than {least} frames joins the GOP before it: the longest GOP has {longest} frames")
    size, wanted = writer.bytes_written, settings.target_bytes(info, count)
    rates = bits_per_pixel(size, info.width, info.height, count), kilobits_per_second(size, count, info.rate)
    seconds = time.perf_counter() - start
    picture = info.width, info.height
    return EncodeResult(size, rates[0], count, *picture, seconds, gops, quality, codec.name, rates[1], wanted)


def decode_file(
    codec_for: CodecFor, source: str, target: str, decoding: DecodeOptions, notify: Notify = lambda _: None
) -> DecodeResult:
    """Decode a file; `notify` is called with what the output format cannot hold and what damage is concealed."""
    start = time.perf_counter()
    with input_stream(source) as stream:
        reader = Reader(stream, decoding.max_pixels)
        header = reader.header
        codec = codec_for(header)
        loading, late = time.perf_counter() - start, codec.late_seconds
        decoder, count = codec.decoder(header, decoding), 0
        with (
            create_video(target, header.width, header.height, header.rate, header.colour) as writer,
            tqdm(unit="frame", desc="decoding", disable=None) as progress,
            decode_ahead(reader, decoder, decoding, stream) as (parts, ahead),
        ):
            for notice in writer.notices:
                notify(notice)
            playback = Playback(parts, decoding, ahead, notify)
            for window in playback.frames():
                for frame in window:
                    writer.write(frame)
                count += len(window)
                progress.update(len(window))
    loading += codec.late_seconds - late
    seconds = time.perf_counter() - start - loading
    drift, refined = max(decoder.drifts.values(), default=None), decoder.refined
    tile, held = max(filter(None, refined.values()), default=None), playback.repeated_frames
    return DecodeResult(count, header.width, header.height, seconds, loading, drift, held, len(refined), tile)


def verify_file(codec_for: CodecFor, source: str, max_pixels: int = MAX_PIXELS) -> VerifyResult:
    """Check a file: every CRC, every unit's symbol hash, and whatever else its codec can check."""
    gops: dict[int, str | None] = {}
    damages: list[Damage] = []
    with input_stream(source) as stream:
        reader = Reader(stream, max_pixels)
        decoder = codec_for(reader.header).decoder(reader.header, DecodeOptions(max_pixels=max_pixels), pictures=False)
        for part in tqdm(reader, unit="GOP", desc="verifying", disable=None):
            if isinstance(part, Damage):
                damages.append(part)
            elif isinstance(part, Unit):
                gops[part.index] = None
                try:
                    decoder.verify(part)
                except BitstreamError as error:
                    gops[part.index] = str(error)
    return VerifyResult(gops, tuple(damages), decoder.drifts)


@contextmanager
def _output(target: str) -> Iterator[BinaryIO]:
    if target == "-":
        yield sys.stdout.buffer
        return
    path = Path(target).absolute()
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a stream cannot replace it")
    with replacing(path) as part, part.open("wb") as stream:
        yield stream
