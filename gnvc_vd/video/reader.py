"""Frames in: one pass over any video file, folder of PNGs or pipe, one frame in memory at a time.

    source ──libav demux, decode──▶ frame ──colour.to_rgb──▶ H W 3 uint8 ──alpha, rotation──▶ yield

Policies, for what a codec with one frame size and one frame rate has to decide:
    variable frame rate   every coded frame exactly once, at the stream's average rate; a notice says so
    rotation metadata     applied; size is the size as shown
    alpha                 composited onto black
    pixel aspect, HDR     sample values pass through as they are; a notice says so
    audio, subtitles      not carried; a notice says so
    interlaced            frames as coded, not deinterlaced; a notice says so
Damaged or cut input yields every whole frame before the damage, then raises.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal

import av
import numpy as np

from gnvc_vd.conventions import Colour, Frame, GnvcError, UsageError
from gnvc_vd.video.colour import Converter, colour_of, has_alpha, to_rgb

RawFormat = Literal["yuv420p", "yuv420p10le"]
RAW_SUFFIXES = frozenset({".yuv", ".raw"})
DEFAULT_RATE = Fraction(25)  # of a folder of pictures that nobody gave a rate
MAX_RATE_DENOMINATOR = 16383  # what the container can say (docs/format.md)
VARIABLE_RATE_TOLERANCE = Fraction(1, 500)

# What strangers' files may make libav do: read this file, as one of these formats. No playlists, no network.
OPEN_OPTIONS = {
    "protocol_whitelist": "file,pipe",
    "format_whitelist": (
        "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,yuv4mpegpipe,rawvideo,mpeg,mpegts,mpegvideo,m4v,"
        "h264,hevc,vvc,ivf,obu,flv,asf,ogg,mxf,nut,gif,png_pipe,jpeg_pipe"
    ),
}


class VideoError(GnvcError):
    """A video cannot be read or written."""


@dataclass(frozen=True)
class RawVideo:
    """What a headerless YUV file does not say itself."""

    width: int
    height: int
    rate: Fraction = DEFAULT_RATE
    pixel_format: RawFormat = "yuv420p"

    def frame_bytes(self) -> int:
        chroma = ((self.width + 1) // 2) * ((self.height + 1) // 2)
        return (self.width * self.height + 2 * chroma) * (2 if self.pixel_format == "yuv420p10le" else 1)


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video once its first frame is read."""

    width: int
    height: int
    rate: Fraction
    frames: int | None  # as the container counts them; None where only reading to the end tells
    colour: Colour
    pixel_format: str
    codec: str
    notices: tuple[str, ...] = ()


class Video:
    """An open video: `info`, and one iteration over its frames (H W 3 uint8 RGB, as shown)."""

    def __init__(self, info: VideoInfo, frames: Iterator[Frame]) -> None:
        self.info = info
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        closing_generator = getattr(self._frames, "close", None)
        if closing_generator is not None:
            closing_generator()


def open_video(
    source: str | Path,
    raw: RawVideo | None = None,
    rate: Fraction | None = None,
    colour: Colour | None = None,
) -> Video:
    """Open a video file, a folder of PNGs, or `-` (standard input).

    Args:
        raw: size, rate and pixel format of a headerless YUV file; needed for .yuv, refused elsewhere.
        rate: overrides the source's frame rate (a folder of pictures has none of its own).
        colour: overrides matrix and range where the file lies or says nothing.
    """
    path = Path(source)
    name = "standard input" if str(source) == "-" else str(source)
    if str(source) != "-" and not path.exists():
        raise VideoError(f"{name}: no such file or folder")
    if path.suffix.lower() in RAW_SUFFIXES and raw is None and not path.is_dir():
        raise UsageError(f"{name}: raw YUV has no header; say --size WxH (and --fps, --pix)")
    if path.is_dir():
        decoded, frame_count = _picture_frames(path), len(_pictures(path))
    else:
        decoded, frame_count = _file_frames(path, name, raw), None
    try:
        first = next(decoded)
    except StopIteration:
        raise VideoError(f"{name}: holds no video frame") from None

    base = first.info if frame_count is None else replace(first.info, frames=frame_count)
    info = _with_overrides(base, rate, colour)
    return Video(info, _rgb_frames(first, decoded, info, name))


@dataclass(frozen=True)
class _Decoded:
    """A frame as libav decoded it, and what its stream says."""

    frame: av.VideoFrame
    info: VideoInfo
    damaged: bool = False


def _with_overrides(info: VideoInfo, rate: Fraction | None, colour: Colour | None) -> VideoInfo:
    if rate is not None and not 0 < rate <= 1000:
        raise UsageError(f"a frame rate of {rate} is not between 0 and 1000")
    if colour is not None:
        info = replace(info, notices=tuple(n for n in info.notices if "assumed" not in n))
    return replace(info, rate=rate or info.rate, colour=colour or info.colour)


def _rgb_frames(first: _Decoded, rest: Iterator[_Decoded], info: VideoInfo, name: str) -> Iterator[Frame]:
    converter: Converter | None = None
    kind: tuple[str, int, int] | None = None
    decoded: _Decoded | None = first
    count = 0
    while decoded is not None:
        frame = decoded.frame
        if (frame.width, frame.height) != (first.frame.width, first.frame.height):
            raise VideoError(
                f"{name}: frame {count} is {frame.width}×{frame.height} after "
                f"{first.frame.width}×{first.frame.height}; the size must not change"
            )
        if kind != (frame.format.name, frame.width, frame.height):
            kind = (frame.format.name, frame.width, frame.height)
            converter = to_rgb(frame, info.colour, info.codec)
        assert converter is not None
        yield _as_shown(converter(frame), first.frame.rotation)
        count += 1
        if decoded.damaged:
            raise VideoError(f"{name}: damaged at frame {count - 1}")
        decoded = next(rest, None)


def _as_shown(frame: av.VideoFrame, rotation: int) -> Frame:
    pixels = frame.to_ndarray()
    if has_alpha(frame):
        alpha = pixels[..., 3:].astype(np.uint16)
        pixels = ((pixels[..., :3] * alpha + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.rot90(pixels, k=round(rotation / 90)))


def _file_frames(path: Path, name: str, raw: RawVideo | None) -> Iterator[_Decoded]:
    """Decode a file or standard input; libav's errors become sentences."""
    options = dict(OPEN_OPTIONS)
    container_format = None
    if raw is not None:
        _check_raw(path, name, raw)
        container_format = "rawvideo"
        options |= {
            "video_size": f"{raw.width}x{raw.height}",
            "framerate": str(raw.rate),
            "pixel_format": raw.pixel_format,
        }
    source: str | BinaryIO = sys.stdin.buffer if name == "standard input" else os.fspath(path)
    try:
        container = av.open(source, "r", format=container_format, options=options)
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"{name}: not a video that can be read ({_said(error)})") from error
    with closing(container):
        if not container.streams.video:
            held = "audio only" if container.streams.audio else "no streams"
            raise VideoError(f"{name}: holds no video ({held})")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield from _stream_frames(container, stream, name)


def _stream_frames(container: "av.container.InputContainer", stream: av.VideoStream, name: str) -> Iterator[_Decoded]:
    info: VideoInfo | None = None
    count = 0
    end = _End()
    truncated = False
    try:
        for packet in container.demux(stream):
            end.pass_over(packet)
            truncated = truncated or packet.is_corrupt
            for frame in packet.decode():
                if info is None:
                    info = _stream_info(frame, container, stream)
                if frame.is_corrupt and truncated:
                    raise VideoError(f"{name}: damaged or cut after {count} whole frames")
                yield _Decoded(frame, info)
                count += 1
    except av.error.FFmpegError as error:
        raise VideoError(f"{name}: damaged or cut after {count} whole frames ({_said(error)})") from error
    if truncated:
        raise VideoError(f"{name}: damaged or cut after {count} whole frames")
    if _cut_short(stream, end, name):
        raise VideoError(f"{name}: cut short; {count} whole frames are there")


def _cut_short(stream: av.VideoStream, end: "_End", name: str) -> bool:
    """For the formats whose demuxers take a cut for an end: y4m fills its file, Matroska states its duration."""
    if stream.container.format.name == "yuv4mpegpipe" and name != "standard input":
        return end.byte < Path(name).stat().st_size
    stated = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if stated is None or not stream.average_rate:
        return False
    hours, minutes, seconds = (float(part) for part in stated.groups())
    return 3600 * hours + 60 * minutes + seconds > end.second + 1.5 / float(stream.average_rate)


@dataclass
class _End:
    """How far the packets reached."""

    byte: int = 0
    second: float = 0.0

    def pass_over(self, packet: "av.Packet[av.VideoStream]") -> None:
        self.byte = max(self.byte, (packet.pos or 0) + packet.size)
        if packet.pts is not None and packet.time_base is not None:
            self.second = max(self.second, float((packet.pts + (packet.duration or 0)) * packet.time_base))


def _check_raw(path: Path, name: str, raw: RawVideo) -> None:
    if not (0 < raw.width <= 16383 and 0 < raw.height <= 16383):
        raise UsageError(f"a picture of {raw.width}×{raw.height} is not between 1 and 16383 pixels each way")
    if name != "standard input" and path.stat().st_size < raw.frame_bytes():
        raise VideoError(
            f"{name}: {path.stat().st_size} bytes are less than one {raw.width}×{raw.height} {raw.pixel_format} frame"
        )


def _picture_frames(folder: Path) -> Iterator[_Decoded]:
    for picture in _pictures(folder):
        decoded = next(_file_frames(picture, str(picture), None), None)
        if decoded is None:
            raise VideoError(f"{picture}: holds no picture")
        yield replace(decoded, info=replace(decoded.info, rate=DEFAULT_RATE))


def _pictures(folder: Path) -> list[Path]:
    """The folder's PNGs, in the order of the numbers in their names."""
    pictures = [path for path in folder.iterdir() if path.suffix.lower() == ".png"]
    if not pictures:
        raise VideoError(f"{folder}: a folder without PNG files")
    return sorted(pictures, key=lambda path: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", path.name)])


def _stream_info(frame: av.VideoFrame, container: "av.container.InputContainer", stream: av.VideoStream) -> VideoInfo:
    colour, notices = colour_of(frame)
    rate, rate_notices = _frame_rate(stream)
    turned = round(frame.rotation / 90) % 2 == 1
    width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
    return VideoInfo(
        width=width,
        height=height,
        rate=rate,
        frames=stream.frames or None,
        colour=colour,
        pixel_format=frame.format.name,
        codec=stream.codec_context.name,
        notices=(*notices, *rate_notices, *_oddities(frame, container, stream)),
    )


def _frame_rate(stream: av.VideoStream) -> tuple[Fraction, tuple[str, ...]]:
    """The constant rate the container names, or the average where frame times do not keep to it."""
    average, base = stream.average_rate, stream.base_rate
    if not average:
        return (base or DEFAULT_RATE), ()
    average = Fraction(average).limit_denominator(MAX_RATE_DENOMINATOR)
    if not base or Fraction(base) in (average, 2 * average):  # twice: interlaced fields
        return average, ()
    base = Fraction(base)
    if abs(average / base - 1) < VARIABLE_RATE_TOLERANCE:
        return base.limit_denominator(MAX_RATE_DENOMINATOR), ()
    return average, (
        f"frame times vary (average {float(average):.3f}/s): every frame is kept once and evenly spaced at the average",
    )


def _oddities(frame: av.VideoFrame, container: "av.container.InputContainer", stream: av.VideoStream) -> Iterator[str]:
    aspect = stream.sample_aspect_ratio
    if aspect not in (None, 0, 1):
        yield f"pixels are not square ({aspect}): samples are carried as they are, the aspect is not"
    if int(frame.color_trc) in (16, 18):
        yield "HDR transfer (PQ or HLG): code values are carried as they are, without tone mapping"
    if frame.interlaced_frame:
        yield "interlaced: frames are carried as coded, not deinterlaced"
    if has_alpha(frame):
        yield "alpha is composited onto black"
    if container.streams.audio:
        yield "audio is not carried"


def _said(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).strip().rstrip(".")
