"""Frames out: mp4, lossless mkv, y4m, raw YUV, a folder of PNGs, or y4m on standard output.

H W 3 uint8 ──colour.to_yuv──▶ YUV frame ──libav encode, mux──▶ file beside the target ──rename──▶ target

suffix      what                                            RGB comes back
.mp4 .mov   H.264, CRF 12, 4:2:0 (4:4:4 at odd sizes,       visually lossless
            because H.264's 4:2:0 has even sizes only)
.mkv        FFV1, RGB                                       bit for bit
.y4m .yuv   4:2:0, 8 bit (10 on request)                    within rounding, chroma at half resolution
folder      PNGs 000000.png …                               bit for bit
-           y4m
"""

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av

from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import Colour, Frame, UsageError, assert_frame
from gnvc_vd.video.colour import MATRIX_OUT, RANGE_OUT, TRANSFER_OUT, Converter, assumed_matrix, to_yuv
from gnvc_vd.video.pictures import write_picture
from gnvc_vd.video.planes import PlanesOf
from gnvc_vd.video.reader import RawFormat, VideoError, check_shape

H264 = ("libx264", {"crf": "12", "preset": "medium"})
CONTAINERS = {".mp4": ("mp4", *H264), ".mov": ("mov", *H264), ".mkv": ("matroska", "ffv1", {"level": "3"})}
PLANES = (".y4m", ".yuv")
Y4M_FORMATS = {"yuv420p": "420mpeg2", "yuv420p10le": "420p10"}  # "mpeg2" says that chroma sits left
PICTURE_NAME = re.compile(r"\d{6,}\.png")


class FrameWriter:
    """Takes frames of one size, one by one. Made by `create_video`, which decides what becomes of them."""

    def __init__(self, width: int, height: int) -> None:
        self.shape = (height, width, 3)
        self.count = 0

    def write(self, frame: Frame) -> None:
        assert_frame(frame)
        if frame.shape != self.shape:
            raise ValueError(f"frame {self.count} is {frame.shape}, the video is {self.shape}")
        self._put(frame)
        self.count += 1

    def _put(self, frame: Frame) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Write what is still held back."""

    def close(self) -> None:
        """Let go of the output, whole or not."""


class EncodedWriter(FrameWriter):
    """mp4, mov and mkv through libav."""

    def __init__(self, path: Path, suffix: str, width: int, height: int, rate: Fraction, colour: Colour) -> None:
        super().__init__(width, height)
        container_format, codec, options = CONTAINERS[suffix]
        options_of_muxer = {} if suffix == ".mkv" else {"movflags": "+faststart"}
        self._container = av.open(f"file:{path.absolute()}", "w", format=container_format, options=options_of_muxer)
        stream = self._container.add_stream(codec, rate=rate, options=dict(options))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = width, height
        stream.time_base = 1 / rate
        self._convert: Converter | None = None
        if codec == "ffv1":
            stream.pix_fmt = "bgr0"
        else:
            stream.pix_fmt = pixel_format = "yuv444p" if width % 2 or height % 2 else "yuv420p"
            self._convert = to_yuv(colour, pixel_format)
            context = stream.codec_context
            context.color_range, context.colorspace = RANGE_OUT[colour.range], MATRIX_OUT[colour.matrix]
            context.color_primaries, context.color_trc = MATRIX_OUT[colour.matrix], TRANSFER_OUT[colour.matrix]
        stream.codec_context.thread_type = "AUTO"
        self._stream, self._rate = stream, rate

    def _put(self, frame: Frame) -> None:
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture = self._convert(picture) if self._convert else picture
        picture.pts, picture.time_base = self.count, 1 / self._rate
        self._container.mux(self._stream.encode(picture))

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def close(self) -> None:
        self._container.close()


class PlanesWriter(FrameWriter):
    """Raw 4:2:0 planes, with y4m's few words around them if it is that. By hand: libav's y4m misstates the siting."""

    def __init__(
        self, stream: BinaryIO, width: int, height: int, colour: Colour, pixel_format: str, y4m_rate: Fraction | None
    ) -> None:
        super().__init__(width, height)
        self._stream, self._planes = stream, PlanesOf(colour, pixel_format)
        self._marker = b"FRAME\n" if y4m_rate else b""
        if y4m_rate:
            rate = f"F{y4m_rate.numerator}:{y4m_rate.denominator}"
            kind = f"C{Y4M_FORMATS[pixel_format]} XCOLORRANGE={colour.range.upper()}"
            stream.write(f"YUV4MPEG2 W{width} H{height} {rate} Ip A1:1 {kind}\n".encode())

    def _put(self, frame: Frame) -> None:
        self._stream.write(self._marker + self._planes(frame).tobytes())

    def finish(self) -> None:
        self._stream.flush()


class PictureWriter(FrameWriter):
    """A folder of PNGs, each of them whole when it is written."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        super().__init__(width, height)
        folder.mkdir()
        self._folder = folder

    def _put(self, frame: Frame) -> None:
        write_picture(self._folder / f"{self.count:06d}.png", frame)


@contextmanager
def create_video(
    target: str | Path,
    width: int,
    height: int,
    rate: Fraction,
    colour: Colour | None = None,
    pixel_format: RawFormat = "yuv420p",
) -> Iterator[FrameWriter]:
    """Write a video; what was at `target` is replaced when the block ends well, and untouched when it does not.

    Args:
        target: decides the format by its suffix; no suffix means a folder of PNGs, `-` y4m on standard output.
        colour: matrix and range of the YUV to be written; by default limited range, and the matrix by the size rule.
        pixel_format: of y4m and raw YUV.
    """
    colour = colour or Colour(assumed_matrix(width, height), "limited")
    check_shape(width, height, rate)
    path = Path(target).absolute()
    suffix = path.suffix.lower()
    if suffix == ".y4m" or str(target) == "-":  # y4m cannot state a matrix: write the one that readers assume
        colour = Colour(assumed_matrix(width, height), colour.range)
    with ExitStack() as stack:
        writer: FrameWriter
        if str(target) == "-":
            writer = PlanesWriter(sys.stdout.buffer, width, height, colour, pixel_format, rate)
        elif suffix in PLANES or suffix in CONTAINERS:
            if path.is_dir():
                raise UsageError(f"{path} is a folder; a {suffix} file cannot replace it")
            part = stack.enter_context(replacing(path))
            if suffix in CONTAINERS:
                writer = EncodedWriter(part, suffix, width, height, rate, colour)
            else:
                stream = stack.enter_context(part.open("wb"))
                y4m_rate = rate if suffix == ".y4m" else None
                writer = PlanesWriter(stream, width, height, colour, pixel_format, y4m_rate)
        elif suffix == "" or path.is_dir():
            _check_replaceable(path)
            writer = PictureWriter(stack.enter_context(replacing(path)), width, height)
        else:
            known = " ".join([*CONTAINERS, *PLANES])
            raise UsageError(f"{path}: cannot write {suffix} files; use one of {known}, a folder name, or -")
        try:
            yield writer
            if writer.count == 0:
                raise VideoError(f"{target}: no frame was written")
            writer.finish()
        except av.error.FFmpegError as error:
            raise VideoError(f"{target}: the video cannot be written ({error.strerror})") from error
        finally:
            with suppress(av.error.FFmpegError):  # closing flushes; after a failure there is nothing left to say
                writer.close()


def _check_replaceable(folder: Path) -> None:
    """A folder is replaced as a whole, so it may hold nothing but an earlier output."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; give the output a suffix, or another name for a folder of PNGs")
    strangers = [p.name for p in folder.iterdir() if not PICTURE_NAME.fullmatch(p.name)] if folder.is_dir() else []
    if strangers:
        raise UsageError(f"{folder} holds other things than frames ({strangers[0]}); it will not be replaced")
