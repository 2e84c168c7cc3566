"""Write videos: mp4, lossless mkv, y4m, raw YUV, a folder of PNGs, or y4m on standard output.

H W 3 uint8 ──colour.to_yuv──▶ YUV frame ──libav encode, mux──▶ file beside the target ──rename──▶ target

suffix      what                                            RGB comes back
.mp4 .mov   H.264, CRF 12, 4:2:0 (4:4:4 at odd sizes,       visually lossless, the same file every time
            because H.264's 4:2:0 has even sizes only)
.mkv        FFV1, RGB                                       bit for bit
.y4m .yuv   4:2:0, 8 bit (10 on request)                    within rounding, chroma at half resolution
folder      PNGs 000000.png …                               bit for bit
-           y4m
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av

from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import HDR_TRANSFERS, TRANSFER_NAMES, UNSPECIFIED, Colour, Frame, UsageError, assert_frame
from gnvc_vd.video.colour import ASSUMED_TRANSFER, MATRIX_OUT, RANGE_OUT, assumed_matrix, to_yuv
from gnvc_vd.video.pictures import write_picture
from gnvc_vd.video.planes import PlaneConverter
from gnvc_vd.video.reader import RawFormat, VideoError, check_shape

# x264's SIMD code for its macroblock tree makes streams differ between runs; its thread count, between machines.
REPRODUCIBLE = {"x264-params": "cpu-independent=1", "threads": "4"}
H264 = ("libx264", {"crf": "12", "preset": "medium", **REPRODUCIBLE})
CONTAINERS = {".mp4": ("mp4", *H264), ".mov": ("mov", *H264), ".mkv": ("matroska", "ffv1", {"level": "3"})}
PLANES = (".y4m", ".yuv")
Y4M_FORMATS = {"yuv420p": "420mpeg2", "yuv420p10le": "420p10"}  # "mpeg2" says that chroma sits left
PICTURE_NAME = re.compile(r"\d{6,}\.png")
Put = Callable[[Frame, int], object]  # writes one frame, with its number


class FrameWriter:
    """Writes frames of one size, one by one; made by `create_video`.

    `notices`: messages about what the file cannot hold, or about players that may refuse it.
    """

    def __init__(self, width: int, height: int, put: Put, notices: tuple[str, ...] = ()) -> None:
        self.shape, self._put, self.notices = (height, width, 3), put, notices
        self.count = 0

    def write(self, frame: Frame) -> None:
        assert_frame(frame)
        if frame.shape != self.shape:
            raise ValueError(f"frame {self.count} is {frame.shape}, the video is {self.shape}")
        self._put(frame, self.count)
        self.count += 1


@contextmanager
def create_video(
    target: str | Path,
    width: int,
    height: int,
    rate: Fraction,
    colour: Colour | None = None,
    pixel_format: RawFormat = "yuv420p",
) -> Iterator[FrameWriter]:
    """Context that writes a video; `target` is replaced if the block succeeds, and untouched if it raises.

    Args:
        target: decides the format by its suffix; no suffix means a folder of PNGs, `-` y4m on standard output.
        colour: matrix and range of the YUV to be written; by default limited range, and the matrix by the size rule.
            mp4, mov and mkv state its transfer function; if unspecified, for YUV, the matrix's usual one.
        pixel_format: of y4m and raw YUV.
    """
    colour = colour or Colour(assumed_matrix(width, height), "limited")
    check_shape(width, height, rate)
    path = Path(target).absolute()
    suffix = path.suffix.lower()
    header = b""
    if suffix == ".y4m" or str(target) == "-":  # y4m cannot hold a matrix: use the one that readers assume
        colour = Colour(assumed_matrix(width, height), colour.range, colour.transfer)
        size, kind = f"W{width} H{height} F{rate.numerator}:{rate.denominator}", Y4M_FORMATS[pixel_format]
        header = f"YUV4MPEG2 {size} Ip A1:1 C{kind} XCOLORRANGE={colour.range.upper()}\n".encode()
    with ExitStack() as stack:
        if str(target) == "-":
            output = _planes(sys.stdout.buffer, colour, pixel_format, header)
        elif suffix in PLANES or suffix in CONTAINERS:
            if path.is_dir():
                raise UsageError(f"{path} is a folder; a {suffix} file cannot replace it")
            part = stack.enter_context(replacing(path))
            if suffix in CONTAINERS:
                output = _encode_with_libav(part, suffix, width, height, rate, colour)
            else:
                output = _planes(stack.enter_context(part.open("wb")), colour, pixel_format, header)
        elif suffix == "" or path.is_dir():
            _check_replaceable(path)
            output = _pictures(stack.enter_context(replacing(path)))
        else:
            names = " ".join([*CONTAINERS, *PLANES])
            raise UsageError(f"{path}: cannot write {suffix} files; use one of {names}, a folder name, or -")
        try:
            with output as put:
                writer = FrameWriter(width, height, put, tuple(_notices(suffix, width, height, colour)))
                yield writer
                if writer.count == 0:
                    raise VideoError(f"{target}: no frame was written")
        except av.error.FFmpegError as error:
            raise VideoError(f"{target}: the video cannot be written ({error.strerror})") from error


def _notices(suffix: str, width: int, height: int, colour: Colour) -> Iterator[str]:
    if suffix in (".mp4", ".mov") and (width % 2 or height % 2):
        yield f"{width}×{height} is odd, so H.264 is 4:4:4, which many players refuse; .mkv is exact and plays"
    if suffix not in CONTAINERS and colour.transfer in HDR_TRANSFERS:
        name = TRANSFER_NAMES[colour.transfer].upper()
        yield f"{suffix or 'this output'} cannot say that its transfer function is {name}: .mkv, .mp4 and .mov do"


@contextmanager
def _encode_with_libav(
    path: Path, suffix: str, width: int, height: int, rate: Fraction, colour: Colour
) -> Iterator[Put]:
    """Encode mp4, mov and mkv with libav."""
    container_format, codec, options = CONTAINERS[suffix]
    options_of_muxer = {} if suffix == ".mkv" else {"movflags": "+faststart"}
    container = av.open(f"file:{path.absolute()}", "w", format=container_format, options=options_of_muxer)
    try:
        stream = container.add_stream(codec, rate=rate, options=dict(options))
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        stream.width, stream.height = width, height
        stream.time_base, context.thread_type = 1 / rate, "AUTO"
        pixel_format = "bgr0" if codec == "ffv1" else "yuv444p" if width % 2 or height % 2 else "yuv420p"
        stream.pix_fmt = pixel_format
        convert = None if codec == "ffv1" else to_yuv(colour, pixel_format)
        context.color_trc = colour.transfer
        if convert is not None:
            context.color_range, context.colorspace = RANGE_OUT[colour.range], MATRIX_OUT[colour.matrix]
            context.color_primaries = MATRIX_OUT[colour.matrix]
            if colour.transfer == UNSPECIFIED:
                context.color_trc = ASSUMED_TRANSFER[colour.matrix]

        def put(frame: Frame, number: int) -> None:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture = convert(picture) if convert else picture
            picture.pts, picture.time_base = number, 1 / rate
            container.mux(stream.encode(picture))

        yield put
        container.mux(stream.encode(None))
        container.close()
    finally:
        with suppress(av.error.FFmpegError):  # closing flushes, which fails again after a failure
            container.close()


@contextmanager
def _planes(stream: BinaryIO, colour: Colour, pixel_format: str, y4m_header: bytes) -> Iterator[Put]:
    """Raw 4:2:0 planes, with y4m's headers if one is given. Not by libav: its y4m misstates the chroma siting."""
    planes, marker = PlaneConverter(colour, pixel_format), b"FRAME\n" if y4m_header else b""
    stream.write(y4m_header)
    yield lambda frame, _: stream.write(marker + planes(frame).tobytes())
    stream.flush()


@contextmanager
def _pictures(folder: Path) -> Iterator[Put]:
    """Write a folder of PNGs."""
    folder.mkdir()
    yield lambda frame, number: write_picture(folder / f"{number:06d}.png", frame)


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but frames of an earlier output."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; give the output a suffix, or another name for a folder of PNGs")
    strangers = [p.name for p in folder.iterdir() if not PICTURE_NAME.fullmatch(p.name)] if folder.is_dir() else []
    if strangers:
        raise UsageError(f"{folder} holds other things than frames ({strangers[0]}); it will not be replaced")
