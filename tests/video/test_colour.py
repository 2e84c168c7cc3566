"""YUV ↔ RGB against the closed form of each standard, and chroma where it is said to sit."""

from typing import get_args

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from gnvc_vd.conventions import Colour, ColourRange, Matrix
from gnvc_vd.video.colour import LEGAL_CHROMA, LEGAL_LUMA, assumed_matrix, colour_of, to_rgb, to_yuv

LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}  # k_R, k_B
COLOURS = [Colour(matrix, colour_range) for matrix in get_args(Matrix) for colour_range in get_args(ColourRange)]
SIDE = 128
Planes = NDArray[np.integer]


def rgb_of(yuv: Planes, colour: Colour, depth: int) -> NDArray[np.float64]:
    """The standard's own formula, unrounded, in 0…255."""
    k_r, k_b = LUMA[colour.matrix]
    step = 1 << (depth - 8)
    y, u, v = yuv.astype(float)
    if colour.range == "limited":
        y, u, v = (y / step - 16) / 219, (u / step - 128) / 224, (v / step - 128) / 224
    else:
        top = (1 << depth) - 1
        y, u, v = y / top, (u - 128 * step) / top, (v - 128 * step) / top
    r, b = y + 2 * (1 - k_r) * v, y + 2 * (1 - k_b) * u
    g = (y - k_r * r - k_b * b) / (1 - k_r - k_b)
    return np.clip(255 * np.stack([r, g, b], axis=-1), 0, 255)


def yuv_of(rgb: NDArray[np.uint8], colour: Colour) -> NDArray[np.float64]:
    k_r, k_b = LUMA[colour.matrix]
    r, g, b = np.moveaxis(rgb / 255, -1, 0)
    y = k_r * r + (1 - k_r - k_b) * g + k_b * b
    u, v = (b - y) / 2 / (1 - k_b), (r - y) / 2 / (1 - k_r)
    if colour.range == "limited":
        return np.stack([219 * y + 16, 224 * u + 128, 224 * v + 128])
    return np.clip(np.stack([255 * y, 255 * u + 128, 255 * v + 128]), 0, 255)


def frame_of(planes: Planes, pixel_format: str) -> av.VideoFrame:
    frame = av.VideoFrame(planes.shape[2], planes.shape[1], pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        plane.update(np.pad(values, ((0, 0), (0, plane.line_size // values.itemsize - values.shape[1]))).tobytes())
    return frame


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_yuv_to_rgb_is_the_closed_form(colour: Colour) -> None:
    rng = np.random.default_rng(0)
    low, high = LEGAL_CHROMA if colour.range == "limited" else (0, 255)
    luma = rng.integers(0, (LEGAL_LUMA if colour.range == "limited" else 255) + 1, (1, SIDE, SIDE))
    yuv = np.concatenate([luma, rng.integers(low, high + 1, (2, SIDE, SIDE))]).astype(np.uint8)
    rgb = to_rgb(colour, "h264")(frame_of(yuv, "yuv444p"))
    assert np.abs(rgb - rgb_of(yuv, colour, 8)).max() < 0.55  # rounding is 0.5


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_ten_bit_yuv_to_rgb_is_the_closed_form(colour: Colour) -> None:
    rng = np.random.default_rng(1)
    low, high = (64, 940) if colour.range == "limited" else (0, 1023)
    yuv = rng.integers(low, high + 1, (3, SIDE, SIDE)).astype(np.uint16)
    frame = frame_of(yuv, "yuv444p10le")
    rgb = to_rgb(colour, "h264")(frame)
    limit = 0.55 if colour.range == "limited" else 1.25  # full range is first scaled in 10-bit codes
    assert np.abs(rgb - rgb_of(yuv, colour, 10)).max() < limit


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_rgb_to_yuv_is_the_closed_form(colour: Colour) -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    yuv = to_yuv(colour, "yuv444p")(frame).to_ndarray()
    limit = 0.6 if colour.range == "limited" else 1.1  # libswscale rounds full range down
    assert np.abs(yuv - yuv_of(rgb, colour)).max() < limit


def test_codes_beyond_the_legal_range_do_not_wrap_around() -> None:
    """Without the clamp, libswscale's sums overflow here and superwhite blue turns black."""
    yuv = np.full((3, 16, 16), 255, np.uint8)
    frame = frame_of(yuv, "yuv444p")
    rgb = to_rgb(Colour("bt709", "limited"), "h264")(frame)
    assert rgb[..., 0].min() == 255 and rgb[..., 2].min() == 255


@pytest.mark.parametrize(("codec", "offset"), [("h264", 0.0), ("mjpeg", -0.5)])
def test_chroma_sits_left_or_for_jpeg_between(codec: str, offset: float) -> None:
    """A chroma ramp must come out as the ramp it was sampled from, at the luma positions."""
    chroma = np.tile(64 + 4 * np.arange(32), (32, 1)).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(
        np.concatenate([np.full((64, 64), 128, np.uint8), np.full((16, 64), 128, np.uint8), chroma.reshape(16, 64)]),
        format="yuv420p",
    )
    red = to_rgb(Colour("bt709", "full"), codec)(frame)[32, 8:56, 0]
    v = 64 + 2 * (np.arange(8, 56) + offset)
    assert np.abs(red - (128 + 2 * (1 - 0.2126) * (v - 128))).max() < 1.6  # chroma is rounded to a code on the way


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_written_chroma_sits_where_it_is_read(colour: Colour) -> None:
    """A horizontal colour ramp survives 4:2:0; half a pixel of misplacement would shift it by a level and a half."""
    ramp = np.tile(np.linspace(60, 200, 96), (32, 1))
    rgb = np.stack([ramp, np.full_like(ramp, 128), ramp[:, ::-1]], axis=-1).round().astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    yuv = to_yuv(colour, "yuv420p")(frame)
    back = to_rgb(colour, "h264")(yuv).astype(int)
    assert np.abs((back - rgb)[4:-4, 4:-4]).max() <= 3
    assert np.abs((back - rgb)[4:-4, 4:-4].mean(axis=(0, 1))).max() < 1.0


def test_what_is_not_stated_follows_the_size_rule() -> None:
    assert [assumed_matrix(*size) for size in ((720, 576), (1280, 534), (406, 720), (1920, 1080))] == [
        "bt601",
        "bt709",
        "bt709",
        "bt709",
    ]
    colour, notices = colour_of(av.VideoFrame(1280, 720, "yuv420p"))
    assert colour == Colour("bt709", "limited") and "assumed" in notices[0]
    assert colour_of(av.VideoFrame(64, 64, "yuvj420p"))[0] == Colour("bt601", "full")


@pytest.mark.parametrize("pixel_format", ["yuv420p", "rgb24", "gray"])
def test_a_transfer_function_is_what_h273_defines_or_unspecified(pixel_format: str) -> None:
    for code in range(20):
        frame = av.VideoFrame(64, 64, pixel_format)
        frame.color_trc = code
        assert colour_of(frame)[0].transfer == (code if code in {1, *range(4, 19)} else 2)


def test_colours_that_differ_in_the_transfer_function_alone_convert_alike() -> None:
    said, unsaid = Colour("bt709", "limited", 1), Colour("bt709", "limited")
    assert said == unsaid and hash(said) == hash(unsaid) and said != Colour("bt709", "full", 1)
    names = {13: "srgb", 16: "pq", 18: "hlg", 8: "linear", 1: "bt709", 17: "17"}
    for code, name in names.items():
        assert str(Colour("bt709", "limited", code)) == f"bt709 limited, transfer {name}"
    assert str(unsaid) == "bt709 limited"


@pytest.mark.parametrize("colour_range", ["limited", "full"])
@pytest.mark.parametrize(("pixel_format", "depth"), [("gray", 8), ("gray10le", 10), ("gray16le", 16)])
def test_grey_of_any_depth_is_the_closed_form(pixel_format: str, depth: int, colour_range: ColourRange) -> None:
    top = (1 << depth) - 1
    luma = np.linspace(0, top, 37 * 16).round().astype(np.uint8 if depth == 8 else np.uint16).reshape(1, 16, 37)
    frame = frame_of(luma, pixel_format)
    rgb = to_rgb(Colour("bt601", colour_range), "ffv1")(frame)
    levels = luma[0] / (1 << (depth - 8)) if colour_range == "limited" else luma[0] * (255 / top)
    expected = np.clip((levels - 16) / 219 * 255, 0, 255) if colour_range == "limited" else levels
    assert np.abs(rgb - expected[..., None]).max() <= 0.5 + 1e-9


def test_sixteen_bit_rgb_is_rounded_to_eight() -> None:
    rgb = np.random.default_rng(3).integers(0, 1 << 16, (16, 32, 3), dtype=np.uint16)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb48le")
    out = to_rgb(Colour("bt709", "limited"), "png")(frame)
    assert np.abs(out - rgb / 257).max() <= 0.5 + 1e-9


def test_one_bit_pictures_are_black_and_white() -> None:
    frame = av.VideoFrame(16, 2, "monow")  # 1 is black
    frame.planes[0].update(b"\xf0\x0f".ljust(frame.planes[0].line_size, b"\0") * 2)
    rgb = to_rgb(Colour("bt601", "full"), "png")(frame)
    assert (rgb[0, :, 0] == [0] * 4 + [255] * 8 + [0] * 4).all()
