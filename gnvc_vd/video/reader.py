"""Read videos: one pass over a video file, folder of PNGs or pipe, with one frame in memory at a time.

    source ──libav demux, decode──▶ frame ──colour.to_rgb──▶ H W 3 uint8 ──alpha, rotation──▶ yield

Rules for features that a codec with one frame size and one frame rate does not have:
    variable frame rate   every coded frame exactly once, at the stream's average rate; a notice says so
    rotation, mirroring   applied; size is the size as shown
    alpha                 composited onto black
    pixel aspect, HDR     sample values pass through as they are; a notice says so, and `Colour` which transfer function
    audio, subtitles      not carried; a notice says so
    interlaced            frames as coded, not deinterlaced; a notice says so
If libav detects damage or truncation, the frames before it are yielded, then an error is raised. It does not detect
everything: flipped bits inside H.264, HEVC or VP9 pictures decode to wrong pixels, and a truncated y4m or MPEG-TS pipe
just ends.
"""

import re
import sys
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import av

from gnvc_vd.conventions import (
    COMMON_RATES,
    HDR_TRANSFERS,
    MAX_PIXELS,
    MAX_RATE,
    MAX_RATE_DENOMINATOR,
    MAX_SIDE,
    UNSPECIFIED,
    Colour,
    Frame,
    GnvcError,
    UsageError,
)
from gnvc_vd.video.colour import colour_of, has_alpha, to_rgb
from gnvc_vd.video.orientation import Orientation
from gnvc_vd.video.planes import Planes, planes_of

RawFormat = Literal["yuv420p", "yuv420p10le"]
RAW_SUFFIXES = frozenset({".yuv", ".raw"})
DEFAULT_RATE = Fraction(25)  # of folders of pictures and raw YUV without a given rate
HEADED_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".y4m", ".png"})
RATE_TOLERANCE = Fraction(1, 4000)  # a quarter of the relative difference of 30 and 30000/1001
SAMPLED_PACKETS = 300

# Restrictions for untrusted files: libav reads this file only, in one of these formats; no playlists, no network.
OPEN_OPTIONS = {
    "protocol_whitelist": "file,pipe",
    "max_pixels": str(MAX_PIXELS),
    "format_whitelist": (
        "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,yuv4mpegpipe,rawvideo,mpeg,mpegts,mpegvideo,m4v,"
        "h264,hevc,vvc,ivf,obu,flv,asf,ogg,mxf,nut,gif,png_pipe,jpeg_pipe"
    ),
}
STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}  # of decoders: damage is an error


class VideoError(GnvcError):
    """A video cannot be read or written."""


@dataclass(frozen=True)
class RawVideo:
    """Size, rate and format of a raw YUV file, which has no header."""

    width: int
    height: int
    rate: Fraction = DEFAULT_RATE
    pixel_format: RawFormat = "yuv420p"

    def frame_bytes(self) -> int:
        chroma = ((self.width + 1) // 2) * ((self.height + 1) // 2)
        return (self.width * self.height + 2 * chroma) * (2 if self.pixel_format == "yuv420p10le" else 1)


def is_raw(source: str | Path) -> bool:
    """Whether a file name is that of raw YUV, which needs a RawVideo."""
    return Path(source).suffix.lower() in RAW_SUFFIXES


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video, known after its first frame is read."""

    width: int
    height: int
    rate: Fraction
    frames: int | None  # by the container; None if that does not store it
    colour: Colour
    pixel_format: str
    codec: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A frame in RGB, and its stored YUV planes; None if it is not stored as YUV, or rotated."""

    rgb: Frame
    planes: Planes | None


DecodedFrame = tuple[av.VideoFrame, VideoInfo]  # libav's frame, and the properties of its stream


class Video(AbstractContextManager["Video"]):
    """An open video: `info`, and one iteration over its frames (H W 3 uint8 RGB, as shown), or over pictures."""

    def __init__(self, info: VideoInfo, frames: "Generator[tuple[Frame, av.VideoFrame | None]]") -> None:
        self.info = info
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        for frame, _ in self._frames:
            yield frame

    def pictures(self) -> Iterator[Picture]:
        for frame, stored in self._frames:
            yield Picture(frame, None if stored is None else planes_of(stored, self.info.colour))

    def __exit__(self, *_: object) -> None:
        self._frames.close()


def open_video(
    source: str | Path, raw: RawVideo | None = None, rate: Fraction | None = None, colour: Colour | None = None
) -> Video:
    """Open a video file, a folder of PNGs, or `-` (standard input).

    Args:
        raw: size, rate and pixel format of a headerless YUV file; needed for .yuv, refused elsewhere.
        rate: overrides the source's frame rate (a folder of pictures has none of its own).
        colour: overrides matrix and range where the file lies or says nothing, and its transfer if it states one.
    """
    path = None if str(source) == "-" else Path(source)
    name = _name(path)
    if path is not None and not path.exists():
        raise VideoError(f"{name}: no such file or folder")
    _check_raw(path, raw)
    pictures = _pictures(path) if path is not None and path.is_dir() else None
    decoded = _file_frames(path, raw) if pictures is None else _picture_frames(pictures)
    head = next(decoded, None)
    if head is None:
        raise VideoError(f"{name}: holds no video frame")
    first, info = head
    if pictures is not None:
        info = replace(info, frames=len(pictures), rate=DEFAULT_RATE)
    if rate is not None and not 0 < rate <= MAX_RATE:
        raise UsageError(f"a frame rate of {rate} is not between 0 and {MAX_RATE}")
    if colour is not None:
        info = replace(info, notices=tuple(notice for notice in info.notices if "assumed" not in notice))
        colour = replace(colour, transfer=info.colour.transfer) if colour.transfer == UNSPECIFIED else colour
    info = replace(info, rate=rate or info.rate, colour=colour or info.colour)
    return Video(info, _rgb_frames(first, decoded, info, name))


def _rgb_frames(
    first: av.VideoFrame, rest: Iterator[DecodedFrame], info: VideoInfo, name: str
) -> Generator[tuple[Frame, av.VideoFrame | None]]:
    size = (first.width, first.height)
    orientation, convert = Orientation.of(first, info.codec), to_rgb(info.colour, info.codec)
    for count, frame in enumerate(chain([first], (frame for frame, _ in rest))):
        if (frame.width, frame.height) != size:
            raise VideoError(
                f"{name}: frame {count} is {frame.width}×{frame.height} after {size[0]}×{size[1]}; "
                "the size must not change"
            )
        yield orientation.apply(convert(frame)), frame if orientation == Orientation() else None


@contextmanager
def open_container(
    path: Path | None, raw: RawVideo | None = None, threads: int | None = None, damage: str = "damaged or cut"
) -> Iterator[tuple["av.container.InputContainer", av.VideoStream]]:
    """Open a file or standard input, and its first video stream that is no cover picture.

    Args:
        threads: number of decoder threads; None: libav's default.
        damage: error message if libav finds an error in the file.
    """
    name, options = _name(path), dict(OPEN_OPTIONS)
    if raw is not None:
        size = f"{raw.width}x{raw.height}"
        options |= {"video_size": size, "framerate": str(raw.rate), "pixel_format": raw.pixel_format}
    # "file:" and an absolute path: a colon in a name is not a protocol
    source: str | BinaryIO = sys.stdin.buffer if path is None else f"file:{path.absolute()}"
    try:
        container = av.open(source, "r", format="rawvideo" if raw else None, options=options)
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"{name}: not a video that can be read") from error
    with closing(container):
        covers = av.stream.Disposition.attached_pic
        stream = next((one for one in container.streams.video if not one.disposition & covers), None)
        if stream is None:
            held = "audio only" if container.streams.audio else "no streams"
            raise VideoError(f"{name}: holds no video ({held})")
        context = stream.codec_context
        if context.width * context.height > MAX_PIXELS:
            raise VideoError(f"{name}: a picture of more than {MAX_PIXELS} pixels")
        context.options = dict(STRICT)
        stream.thread_type = "AUTO" if threads is None else "SLICE"
        if threads is not None:
            context.thread_count = threads
        try:
            yield container, stream
        except av.error.FFmpegError as error:
            raise VideoError(f"{name}: {damage}") from error


def _file_frames(path: Path | None, raw: RawVideo | None) -> Iterator[DecodedFrame]:
    """Decode a file or standard input; libav's errors become sentences."""
    info: VideoInfo | None = None
    name, count = _name(path), 0
    truncated = clean = False
    end, end_byte = 0.0, 0  # how far the packets reached, in seconds and in the file
    with open_container(path, raw) as (container, stream):
        uneven_rate = None if path is None or raw is not None else _uneven_rate(path)
        try:
            for packet in container.demux(stream):
                end_byte = max(end_byte, (packet.pos or 0) + packet.size)
                if packet.pts is not None and packet.time_base is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                truncated = truncated or packet.is_corrupt
                for frame in packet.decode():
                    info = info or _stream_info(frame, stream, uneven_rate, name)
                    if frame.is_corrupt and (clean or truncated):  # a stream may begin with frames that lack references
                        raise VideoError(f"{name}: damaged or cut after {count} whole frames")
                    clean = clean or not frame.is_corrupt
                    yield frame, info
                    count += 1
        except av.error.FFmpegError as error:
            reason = (error.strerror or str(error)).strip().rstrip(".")
            raise VideoError(f"{name}: damaged or cut after {count} whole frames ({reason})") from error
        if truncated or _cut_short(stream, end, end_byte, path):
            raise VideoError(f"{name}: damaged or cut after {count} whole frames")


def is_shown(packet: "av.Packet[av.VideoStream]") -> bool:
    """Whether a packet holds a frame to show: none that an edit list leaves out, and none that VP8 only refers to."""
    # bit 4 of VP8's first byte is show_frame (RFC 6386, 9.1)
    hidden = packet.size and packet.stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10
    return bool(packet.size) and not packet.is_discard and not hidden


def _cut_short(stream: av.VideoStream, end: float, end_byte: int, path: Path | None) -> bool:
    """Whether a y4m or Matroska file is truncated, which their demuxers do not report."""
    if stream.container.format.name == "yuv4mpegpipe" and path is not None and path.is_file():
        return end_byte < path.stat().st_size
    stated = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if stated is None or not stream.average_rate:
        return False
    hours, minutes, seconds = (float(part) for part in stated.groups())
    return 3600 * hours + 60 * minutes + seconds > end + 1.5 / float(stream.average_rate)


def _uneven_rate(path: Path) -> Fraction | None:
    """The average rate of a file with a variable frame rate, else None.

    Reads packets without decoding: the first few hundred, and all of them only if those are uneven.
    """
    if not path.is_file():
        return None
    with open_container(path) as (container, stream):
        shown = (packet for packet in container.demux(stream) if is_shown(packet))
        # AVI states no pts
        stamps = ((p.dts if container.format.name == "avi" else p.pts, p.dts) for p in shown)
        packets = ((time, dts) for time, dts in stamps if time is not None)
        try:
            sample = list(islice(packets, SAMPLED_PACKETS))
            times = [time for time, _ in sample]
            # In decoding order: between frames that are shown after the last packet's dts, some may not be sampled yet.
            last = sample[-1][1] if len(sample) == SAMPLED_PACKETS else None
            if not _uneven([time for time in times if last is None or time <= last]):
                return None
            times += [time for time, _ in packets]
        except av.error.FFmpegError:
            return None  # damage is for the decoder to report
        span = (max(times) - min(times)) * Fraction(stream.time_base or 1)
    return ((len(times) - 1) / span).limit_denominator(MAX_RATE_DENOMINATOR) if _uneven(times) else None


def _uneven(times: list[int]) -> bool:
    gaps = [late - early for early, late in pairwise(sorted(times))]
    return bool(gaps) and max(gaps) >= 1.5 * max(min(gaps), 1e-6)


def _check_raw(path: Path | None, raw: RawVideo | None) -> None:
    name = _name(path)
    if raw is None:
        if path is not None and is_raw(path) and not path.is_dir():
            raise UsageError(f"{name}: raw YUV has no header; say --size WxH (and --fps, --pix)")
        return
    if path is not None and (path.is_dir() or path.suffix.lower() in HEADED_SUFFIXES):
        raise UsageError(f"{name}: says its size itself; --size, --fps and --pix are for raw YUV")
    check_shape(raw.width, raw.height, raw.rate)
    if raw.pixel_format not in get_args(RawFormat):
        raise UsageError(f"raw YUV is {' or '.join(get_args(RawFormat))}, not {raw.pixel_format}")
    if path is not None and path.is_file() and path.stat().st_size < raw.frame_bytes():
        raise VideoError(
            f"{name}: {path.stat().st_size} bytes are less than one {raw.width}×{raw.height} {raw.pixel_format} frame"
        )


def check_shape(width: int, height: int, rate: Fraction) -> None:
    """Refuse sizes and rates out of bounds."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and 0 < rate <= MAX_RATE):
        raise UsageError(f"{width}×{height} at {rate}/s is not 1 to {MAX_SIDE} pixels, up to {MAX_RATE}/s")


def _picture_frames(pictures: list[Path]) -> Iterator[DecodedFrame]:
    for picture in pictures:
        decoded = next(_file_frames(picture, None), None)
        if decoded is None:
            raise VideoError(f"{picture}: holds no picture")
        yield decoded


def _pictures(folder: Path) -> list[Path]:
    """The folder's PNGs, in the order of the numbers in their names."""
    pictures = [path for path in folder.iterdir() if path.suffix.lower() == ".png"]
    if not pictures:
        raise VideoError(f"{folder}: a folder without PNG files")
    return sorted(pictures, key=lambda path: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", path.name)])


def _stream_info(frame: av.VideoFrame, stream: av.VideoStream, uneven_rate: Fraction | None, name: str) -> VideoInfo:
    colour, notices = colour_of(frame)
    rate = uneven_rate or _constant_rate(stream)
    if not 0 < rate <= MAX_RATE:
        raise VideoError(f"{name}: claims {float(rate):g} frames a second")
    uneven = f"frame times vary (average {float(rate):.3f}/s): every frame is kept once, evenly spaced at the average"
    turned = Orientation.of(frame, stream.codec_context.name).transposed
    width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
    return VideoInfo(
        width=width,
        height=height,
        rate=rate,
        frames=stream.frames or None,
        colour=colour,
        pixel_format=frame.format.name,
        codec=stream.codec_context.name,
        notices=(*notices, *([uneven] if uneven_rate is not None else []), *_oddities(frame, stream)),
    )


def average_rate(stream: av.VideoStream) -> Fraction | None:
    """The container's average rate. AVI's is that of its clock, which may tick several times for each frame."""
    average, base = stream.average_rate, stream.base_rate
    ticks = stream.container.format.name == "avi" and average and base and 2 * base <= average
    return base if ticks else average


def _constant_rate(stream: av.VideoStream) -> Fraction:
    """The container's average rate, corrected to a common rate if it differs by rounded timestamps only."""
    average, base = average_rate(stream), stream.base_rate
    if not average:
        return Fraction(base or DEFAULT_RATE)
    for candidate in (*COMMON_RATES, *([Fraction(base)] if base else [])):
        if abs(average / candidate - 1) < RATE_TOLERANCE:
            return candidate.limit_denominator(MAX_RATE_DENOMINATOR)
    return Fraction(average).limit_denominator(MAX_RATE_DENOMINATOR)


def _oddities(frame: av.VideoFrame, stream: av.VideoStream) -> Iterator[str]:
    aspect = stream.sample_aspect_ratio
    if aspect not in (None, 0, 1):
        yield f"pixels are not square ({aspect}): samples are carried as they are, the aspect is not"
    if int(frame.color_trc) in HDR_TRANSFERS:
        yield "HDR transfer (PQ or HLG): code values are carried as they are, without tone mapping"
    if frame.interlaced_frame:
        yield "interlaced: frames are carried as coded, not deinterlaced"
    if has_alpha(frame):
        yield "alpha is composited onto black"
    if not Orientation.of(frame, stream.codec_context.name).square:
        yield "turned by an angle that is no multiple of 90°: the turn is not applied"
    if stream.container.streams.audio:
        yield "audio is not carried"


def _name(path: Path | None) -> str:
    return "standard input" if path is None else str(path)
