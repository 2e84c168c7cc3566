"""Colour by name, and the one conversion between YUV and RGB.

    YUV frame ──limiter──▶ legal codes ──scale──▶ planar RGB ──▶ RGB 8 bit
    RGB 8 bit ──scale──▶ YUV frame

The conversion is libswscale's accurate path (full chroma interpolation, rounded, not truncated). Limited range comes
out as the rounded closed form, full range within a level of it; the quick path that libraries take by default is
biased and off by up to three. The accurate path's 32-bit sums wrap on codes far outside the legal range (a superwhite
blue would turn black), so limited-range input is first clamped to just inside where they hold.

Chroma siting: left, as in MPEG-2, H.264 and HEVC, and centred for JPEG and MPEG-1. Files that say otherwise are not
heard: libavfilter's buffers drop the statement, and y4m's is unreliable (tools write "420jpeg" when they do not know).
Transfer function and primaries are carried by nobody: RGB here is the source's own non-linear R'G'B'.
"""

from fractions import Fraction

import av
from av.filter import Graph
from av.filter.context import FilterContext

from gnvc_vd.conventions import Colour, ColourRange, Matrix

MATRIX_CODES: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020"}  # ISO/IEC 23091-2
MATRIX_OUT: dict[Matrix, int] = {"bt601": 6, "bt709": 1, "bt2020": 9}
PRIMARIES_OUT: dict[Matrix, int] = {"bt601": 6, "bt709": 1, "bt2020": 9}
TRANSFER_OUT: dict[Matrix, int] = {"bt601": 6, "bt709": 1, "bt2020": 14}
RANGE_CODES: dict[int, ColourRange] = {1: "limited", 2: "full"}
RANGE_OUT: dict[ColourRange, int] = {"limited": 1, "full": 2}

ACCURATE = "bilinear+accurate_rnd+full_chroma_int+full_chroma_inp"
CENTRED_CHROMA = frozenset({"mjpeg", "mpeg1video"})  # decoders whose format sites chroma between the luma samples
LEGAL_LUMA = 249  # the highest limited-range luma code for which the sums hold in every matrix
LEGAL_CHROMA = (16, 240)


def assumed_matrix(width: int, height: int) -> Matrix:
    """The rule for video that does not say: BT.709 from 1280 wide or 720 high on, BT.601 below."""
    return "bt709" if width >= 1280 or height >= 720 else "bt601"


def assumed_range(pixel_format: str) -> ColourRange:
    return "full" if pixel_format.startswith("yuvj") else "limited"


def colour_of(frame: av.VideoFrame) -> tuple[Colour, tuple[str, ...]]:
    """What the frame's metadata says, else the stated rule; and a notice for every assumption that matters."""
    notices = []
    matrix = MATRIX_CODES.get(int(frame.colorspace))
    stated_range = RANGE_CODES.get(int(frame.color_range))
    is_rgb = frame.format.is_rgb or frame.format.has_palette
    if matrix is None:
        matrix = assumed_matrix(frame.width, frame.height)
        if not is_rgb:
            code = int(frame.colorspace)
            said = "no colour matrix is stated" if code == 2 else f"colour matrix {code} is not supported"
            notices.append(f"{said}; {matrix} is assumed from the picture's size")
    if is_rgb:
        stated_range = "limited"  # of the YUV it may become; RGB itself is always full
    return Colour(matrix, stated_range or assumed_range(frame.format.name)), tuple(notices)


class Converter:
    """Frames of one kind to another through a filter graph, one in, one out.

    Args:
        like: a frame of the kind to come (format, size).
        filters: name and arguments of each filter, in order.
    """

    def __init__(self, like: av.VideoFrame, filters: list[tuple[str, str]]) -> None:
        self.graph = Graph()
        last: FilterContext = self.graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=like.time_base or Fraction(1)
        )
        for name, arguments in [*filters, ("buffersink", "")]:
            step = self.graph.add(name, arguments or None)
            last.link_to(step)
            last = step
        self.graph.configure()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        self.graph.push(frame)
        converted = self.graph.pull()
        assert isinstance(converted, av.VideoFrame)
        return converted


def to_rgb(like: av.VideoFrame, colour: Colour, codec: str) -> Converter:
    """YUV, grey or RGB of any depth to rgb24; with an alpha channel to rgba."""
    target = "rgba" if has_alpha(like) else "rgb24"
    if like.format.is_rgb or like.format.has_palette:
        return Converter(like, [("scale", f"flags={ACCURATE}"), ("format", target)])
    filters = []
    depth = max(component.bits for component in like.format.components)
    step = 1 << (depth - 8)  # one 8-bit level in the source's codes
    if colour.range == "limited" and len(like.format.components) >= 3:
        low, high = (code * step for code in LEGAL_CHROMA)
        filters.append(("limiter", f"max={LEGAL_LUMA * step}:planes=1"))
        filters.append(("limiter", f"min={low}:max={high}:planes=6"))
    if colour.range == "full" and depth > 8:  # libswscale divides by 2^(depth − 8), as if full range ended at 255·2^…
        shrink, centre = f"{255 * step}/{(1 << depth) - 1}", 128 * step
        chroma = f"(val-{centre})*{shrink}+{centre}"
        filters.append(("lutyuv", f"y=val*{shrink}:u={chroma}:v={chroma}"))
    siting = "center" if codec in CENTRED_CHROMA else "left"
    scale = (
        f"in_color_matrix={colour.matrix}:in_range={colour.range}:in_chroma_loc={siting}"
        f":out_range=full:flags={ACCURATE}"
    )
    planar = "gbrap" if target == "rgba" else "gbrp"  # libswscale's fast accurate target; packed RGB takes 4× as long
    return Converter(like, [*filters, ("scale", scale), ("format", planar), ("scale", ""), ("format", target)])


def to_yuv(like: av.VideoFrame, colour: Colour, pixel_format: str) -> Converter:
    """rgb24 to the named YUV format."""
    scale = (
        f"in_range=full:out_color_matrix={colour.matrix}:out_range={colour.range}:out_chroma_loc=left:flags={ACCURATE}"
    )
    return Converter(like, [("scale", scale), ("format", pixel_format)])


def has_alpha(frame: av.VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components)
