"""Colour by name, and the one conversion between YUV and RGB.

    YUV frame ──limiter──▶ legal codes ──scale──▶ planar RGB ──▶ RGB 8 bit
    RGB 8 bit ──scale──▶ YUV frame

The conversion is libswscale's accurate path (full chroma interpolation, rounded, not truncated). Limited range comes
out as the rounded closed form, full range within a level of it; the quick path that libraries take by default is
biased and off by up to three. The accurate path's 32-bit sums wrap on codes far outside the legal range (a superwhite
blue would turn black), so limited-range input is first clamped to just inside where they hold.

Chroma siting: left, as in MPEG-2, H.264 and HEVC, and centred for JPEG and MPEG-1. Files that say otherwise are not
heard: libavfilter's buffers drop the statement, and y4m's is unreliable (tools write "420jpeg" when they do not know).
Nothing is converted by the transfer function: RGB here is the source's own non-linear R'G'B'. Which one it is, is
carried beside the pictures; primaries are carried by nobody.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import reduce
from typing import Any, cast

import av
import numpy as np
from av.filter import Graph
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from gnvc_vd.conventions import TRANSFERS, UNSPECIFIED, Colour, ColourRange, Frame, Matrix

MATRIX_CODES: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020"}  # ISO/IEC 23091-2
MATRIX_OUT = {matrix: code for code, matrix in MATRIX_CODES.items()}  # of primaries too
ASSUMED_TRANSFER: dict[Matrix, int] = {"bt601": 6, "bt709": 1, "bt2020": 14}
RANGE_CODES: dict[int, ColourRange] = {1: "limited", 2: "full"}
RANGE_OUT = {name: code for code, name in RANGE_CODES.items()}

ACCURATE = "bilinear+accurate_rnd+full_chroma_int+full_chroma_inp"
CENTRED_CHROMA = frozenset({"mjpeg", "mpeg1video"})  # decoders whose format sites chroma between the luma samples
LEGAL_LUMA = 249  # the highest limited-range luma code for which the sums hold in every matrix
LEGAL_CHROMA = (16, 240)


def assumed_matrix(width: int, height: int) -> Matrix:
    """The rule for video that does not say: BT.709 from 1280 wide or 720 high on, BT.601 below."""
    return "bt709" if width >= 1280 or height >= 720 else "bt601"


def colour_of(frame: av.VideoFrame) -> tuple[Colour, tuple[str, ...]]:
    """What the frame's metadata says, else the stated rule; and a notice for every assumption that matters."""
    notices = []
    matrix = MATRIX_CODES.get(int(frame.colorspace))
    is_rgb = frame.format.is_rgb or frame.format.has_palette
    is_grey = not is_rgb and len(frame.format.components) < 3
    if matrix is None:
        matrix = assumed_matrix(frame.width, frame.height)
        if not is_rgb and not is_grey:
            code = int(frame.colorspace)
            reason = "no colour matrix is stated" if code == 2 else f"colour matrix {code} is not supported"
            notices.append(f"{reason}; {matrix} is assumed from the picture's size")
    transfer = int(frame.color_trc)  # libav's codes are H.273's, but for some of its own
    transfer = transfer if transfer in TRANSFERS else UNSPECIFIED
    if is_rgb:  # limited is the YUV that it may become; RGB itself is always full
        return Colour(matrix, "limited", transfer), ()
    full = frame.format.name.startswith("yuvj") or (is_grey and frame.format.name != "gray")
    colour_range = RANGE_CODES.get(int(frame.color_range), "full" if full else "limited")
    return Colour(matrix, colour_range, transfer), tuple(notices)


class Converter:
    """Frames of one kind to another through a filter graph, one in, one out; made for the first one's kind.

    Args:
        filters: name and arguments of each filter, in order.
    """

    def __init__(self, *filters: tuple[str, str]) -> None:
        self._filters = filters
        self._graph: Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._graph = self._graph or self._build_graph(frame)
        self._graph.push(frame)
        converted = self._graph.pull()
        assert isinstance(converted, av.VideoFrame)
        return converted

    def _build_graph(self, like: av.VideoFrame) -> Graph:
        graph = Graph()
        source = graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=like.time_base or Fraction(1)
        )
        steps = [graph.add(name, arguments or None) for name, arguments in [*self._filters, ("buffersink", "")]]
        graph.link_nodes(source, *steps).configure()
        return graph


def to_rgb(colour: Colour, codec: str) -> Callable[[av.VideoFrame], Frame]:
    """What turns frames of any kind and depth into H W 3 uint8; alpha is composited onto black.

    Args:
        codec: whose decoder gives the frames; it decides where chroma sits.
    """
    ways: dict[str, list[Callable[[Any], Any]]] = {}  # by the name of the pixel format

    def convert(frame: av.VideoFrame) -> Frame:
        if frame.format.name not in ways:
            ways[frame.format.name] = _steps(frame, colour, codec)
        rgb: Frame = reduce(lambda made, step: step(made), ways[frame.format.name], cast(Any, frame))
        return rgb

    return convert


def _steps(like: av.VideoFrame, colour: Colour, codec: str) -> list[Callable[[Any], Any]]:
    kind, depth = like.format, max(component.bits for component in like.format.components)
    if kind.is_rgb or kind.has_palette or len(kind.components) == 2:  # grey with alpha is always full range
        alpha = has_alpha(like) or kind.has_palette or not kind.is_rgb
        packed = ("rgba" if alpha else "rgb24") if depth <= 8 else ("rgba64le" if alpha else "rgb48le")
        return [Converter(("format", packed)), _composite]
    if depth == 1:  # monochrome bits
        return [Converter(("format", "gray")), _grey(8, "full")]
    if len(kind.components) == 1:
        return [_grey(depth, colour.range)]
    return [_yuv_to_rgb(like, colour, codec, depth), _composite]


def _yuv_to_rgb(like: av.VideoFrame, colour: Colour, codec: str, depth: int) -> Converter:
    filters = []
    step = 1 << (depth - 8)  # one 8-bit level in the source's codes
    if colour.range == "limited":
        low, high = (code * step for code in LEGAL_CHROMA)
        filters.append(("limiter", f"max={LEGAL_LUMA * step}:planes=1"))
        filters.append(("limiter", f"min={low}:max={high}:planes=6"))
    elif depth > 8:  # libswscale divides by 2^(depth − 8), as if full range ended at 255·2^(depth − 8)
        shrink, centre = f"{255 * step}/{(1 << depth) - 1}", 128 * step
        chroma = f"(val-{centre})*{shrink}+{centre}"
        filters.append(("lutyuv", f"y=val*{shrink}:u={chroma}:v={chroma}"))
    siting = "center" if codec in CENTRED_CHROMA else "left"
    scale = (
        f"in_color_matrix={colour.matrix}:in_range={colour.range}:in_chroma_loc={siting}"
        f":out_range=full:flags={ACCURATE}"
    )
    # Planar RGB is libswscale's fast accurate target; packed RGB takes four times as long.
    planar, packed = ("gbrap", "rgba") if has_alpha(like) else ("gbrp", "rgb24")
    return Converter(*filters, ("scale", scale), ("format", planar), ("scale", ""), ("format", packed))


def to_yuv(colour: Colour, pixel_format: str) -> Converter:
    """rgb24 to the named YUV format."""
    scale = (
        f"in_range=full:out_color_matrix={colour.matrix}:out_range={colour.range}:out_chroma_loc=left:flags={ACCURATE}"
    )
    return Converter(("scale", scale), ("format", pixel_format))


def codes_of(plane: VideoPlane, kind: "np.dtype[Any]") -> NDArray[Any]:
    """A plane's rows without what pads them."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
    return rows[:, : plane.width * kind.itemsize].copy().view(kind)


def has_alpha(frame: av.VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def _composite(frame: av.VideoFrame) -> Frame:
    """RGB or RGBA of 8 or 16 bits."""
    pixels: NDArray[Any] = frame.to_ndarray()
    if pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        return pixels
    top = 255 if pixels.dtype == np.uint8 else 65535
    alpha = pixels[..., 3:] / top if pixels.shape[2] == 4 else 1.0
    rounded: Frame = np.rint(pixels[..., :3] * alpha * (255 / top)).astype(np.uint8)
    return rounded


def _grey(depth: int, colour_range: ColourRange) -> Callable[[av.VideoFrame], Frame]:
    """The closed form, as a table over all codes."""
    step = 1 << (depth - 8)
    codes = np.arange(1 << depth)
    levels = (codes / step - 16) / 219 * 255 if colour_range == "limited" else codes * (255 / (len(codes) - 1))
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    kind = np.dtype("u1" if depth == 8 else "<u2")

    return lambda frame: np.repeat(table[codes_of(frame.planes[0], kind)][..., None], 3, axis=2)
