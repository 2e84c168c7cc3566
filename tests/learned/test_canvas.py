"""A canvas: what shifting keeps, what packing says, what hostile bytes may not, and whole streams that have one."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from gnvc_vd.bitstream import BitstreamError, Damage, Unit, pack_stream
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.conventions import Colour, Frame
from gnvc_vd.learned.canvas import LARGEST_STEP, PARTS, REACH, Canvas, shift_frames
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd
from gnvc_vd.learned.pan_search import bits_of, pan_of, stabilise
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.presets import BottleneckKind
from gnvc_vd.video import VideoInfo
from tests.bitstream.streams import bodies, mutated, packed, read, signed
from tests.codecs.test_transcode import here, video
from tests.conftest import smooth_clip
from tests.learned.bottleneck.models import nano_codec

KINDS: list[BottleneckKind] = ["contextual", "transform"]
PATH = [(0, 0), (1, -2), (3, -5), (4, -9), (6, -12), (5, -17), (8, -21), (12, -24), (15, -30)]  # quarter pixels


def scenery(side: int, seed: int = 0) -> torch.Tensor:
    """A large picture of soft blots, 1 3 side side in 0 … 255."""
    noise = torch.rand(1, 3, side // 16, side // 16, generator=torch.Generator().manual_seed(seed))
    return 255 * interpolate(noise, side, mode="bicubic").clamp(0, 1)


def panned(path: list[tuple[int, int]], height: int, width: int) -> Frame:
    """What a camera sees of scenery that moves by so many quarter pixels; a frame starts 32 pixels from its corner."""
    fine = interpolate(scenery(2 * max(height, width)), scale_factor=PARTS, mode="bicubic")[0]
    cut = [fine[:, 128 - y :: PARTS, 128 - x :: PARTS][:, :height, :width] for y, x in path]
    return torch.stack(cut).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def canvas_of(path: list[tuple[int, int]], height: int = 40, width: int = 50) -> Canvas:
    return Canvas(np.array(path), height, width)


def test_whole_pixels_come_back_exactly_and_a_constant_stays_one() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
    canvas = canvas_of([(0, 0), (4, -8), (12, 8), (-8, 0)], 20, 30)
    assert canvas.size == (20 + 5, 30 + 4)
    placed = canvas.place_frames(frames)
    assert (placed[1, 3:23, 0:30] == frames[1]).all()
    assert (canvas.crop_frames(placed) == frames).all()
    plain = np.full((3, 20, 30, 3), 77, np.uint8)
    uneven = canvas_of([(0, 0), (3, -5), (9, 2)], 20, 30)
    assert (uneven.place_frames(plain) == 77).all() and (uneven.crop_frames(uneven.place_frames(plain)) == 77).all()


def test_a_shift_there_and_back_keeps_a_soft_picture() -> None:
    frames = panned(PATH, 64, 80)
    for parts in ((1, 0), (0, 2), (-2, 1)):
        there = shift_frames(frames, np.array([parts] * len(frames)))
        back = shift_frames(there, -np.array([parts] * len(frames)))
        assert psnr(frames[:, 5:-5, 5:-5], back[:, 5:-5, 5:-5]) > 55
        # The way is right, and the amount: what the camera saw of a scene that moved so.
        moved = panned([(y + parts[0], x + parts[1]) for y, x in PATH], 64, 80)
        assert psnr(moved[:, 5:-5, 5:-5], there[:, 5:-5, 5:-5]) > 50
    still = shift_frames(frames, np.zeros((len(frames), 2), int))
    assert (still == frames).all()


def test_on_its_canvas_a_panned_scene_stands() -> None:
    frames = panned([(-y, -x) for y, x in PATH], 64, 80)
    canvas = canvas_of(PATH, 64, 80)
    placed = canvas.place_frames(frames)
    moving, standing = (np.abs(np.diff(one.astype(int), axis=0)) for one in (frames, placed))
    assert standing.mean() < 0.5 < 2 < moving.mean() and standing.max() < moving.max() / 2
    assert psnr(frames, canvas.crop_frames(placed)) > 50


def test_what_a_frame_does_not_cover_comes_from_the_nearest_that_does() -> None:
    frames = np.stack([np.full((4, 8, 3), 10 * t, np.uint8) for t in range(1, 5)])
    placed = canvas_of([(0, 0), (0, 8), (0, 16), (-4, 24)], 4, 8).place_frames(frames)
    assert placed.shape == (4, 5, 14, 3)
    assert placed[0, 1, :, 0].tolist() == [10] * 8 + [20] * 2 + [30] * 2 + [40] * 2
    assert placed[3, 0, :, 0].tolist() == [30] * 6 + [40] * 8  # never covered on the left: the middle's edge, as in all
    assert placed[3, 4, :, 0].tolist() == [10] * 2 + [20] * 2 + [30] * 10


def test_frames_that_come_back_window_by_window_are_those_of_the_whole_gop() -> None:
    canvas, frames = canvas_of(PATH, 64, 80), panned(PATH, 64, 80)
    placed = canvas.place_frames(frames)
    parts = [canvas.crop_frames(placed[a:b], a) for a, b in ((0, 1), (1, 5), (5, 9))]
    assert (np.concatenate(parts) == canvas.crop_frames(placed)).all()


@pytest.mark.parametrize("size", [(128, 160), (400, 480)])
def test_the_search_finds_a_pan_to_a_quarter_of_a_pixel(size: tuple[int, int]) -> None:
    fast = [(9 * t * t // 8, -10 * t) for t in range(9)]
    for path in (PATH, fast, [(0, 0)] * 9):
        found = pan_of(panned([(-y, -x) for y, x in path], *size))
        assert np.abs(found.pans - path).max() <= 1
        assert np.abs(found.pans - path).mean() < 0.25


def test_a_moving_camera_gets_a_canvas_and_a_still_one_none() -> None:
    frames = panned([(-2 * y, -2 * x) for y, x in PATH], 128, 160)
    canvas, placed = stabilise(frames)
    assert canvas is not None and bits_of(placed) < 0.9 * bits_of(frames)
    assert (placed == canvas.place_frames(frames)).all()
    noise = np.random.default_rng(0).integers(-3, 4, frames.shape)
    still = (frames[:1].astype(int) + noise).clip(0, 255).astype(np.uint8)
    object_moves = still.copy()
    for t, frame in enumerate(object_moves):
        frame[40:70, 10 + 8 * t : 40 + 8 * t] = 255 - frame[40:70, 10 + 8 * t : 40 + 8 * t]
    for kept in (still, object_moves, frames[:8], frames[:, :63], np.stack(smooth_clip(64, 64, 9))[:, :32]):
        assert stabilise(kept)[0] is None and stabilise(kept)[1] is kept


def test_a_camera_that_goes_too_far_gets_none() -> None:
    assert not canvas_of([(0, 0), (0, PARTS * LARGEST_STEP + 1)]).within
    assert not canvas_of([(0, -20 * PARTS * t) for t in range(8)]).within
    assert canvas_of([(0, -18 * PARTS * t) for t in range(8)]).within
    wide = panned([(0, 0)], 256, 406)[0]
    frames = np.stack([wide[:, 15 * t : 15 * t + 256] for t in range(11)])
    assert pan_of(frames).pans[:, 1].tolist() == [15 * PARTS * t for t in range(11)]
    assert stabilise(frames)[0] is None


def random_pans(random: Random) -> list[tuple[int, int]]:
    largest = random.choice([0, 1, 3, 20, PARTS * LARGEST_STEP])
    path = [(0, 0)]
    for _ in range(random.choice([0, 1, 4, 24, 252])):
        steps = (random.randint(-largest, largest), random.randint(-largest, largest))
        goal = [max(-PARTS * REACH, min(PARTS * REACH, at + step)) for at, step in zip(path[-1], steps, strict=True)]
        path.append((goal[0], goal[1]))
    return path


def test_pans_come_back_from_their_bytes_and_take_few() -> None:
    random = Random(0)
    for _ in range(300):
        path = random_pans(random)
        data = canvas_of(path).pack()
        found, size = Canvas.parse(data + random.randbytes(random.choice([0, 3])), len(path), 40, 50)
        assert size == len(data) and found.pans.tolist() == [list(one) for one in path]
        assert (found.height, found.width) == (40, 50)
    extremes = canvas_of([(0, 0), *[(PARTS * LARGEST_STEP * (t % 2), 0) for t in range(252)]])
    assert len(extremes.pack()) < 1000
    slow = canvas_of([(t // 2, -t) for t in range(25)])
    assert len(slow.pack()) == 16
    with pytest.raises(ValueError, match="too large for a stream"):
        canvas_of([(0, 0), (PARTS * LARGEST_STEP + 1, 0)]).pack()


def spelled(bits: str) -> bytes:
    bits = bits.replace(" ", "")
    return int(bits + "0" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8), "big")


@pytest.mark.parametrize(
    ("bits", "frames", "pans"),
    [
        ("000", 1, [[0, 0]]),
        ("000 1 010", 2, [[0, 0], [0, -1]]),
        ("000 011 00100", 2, [[0, 0], [1, -2]]),
        ("001 10 11", 2, [[0, 0], [0, -1]]),
        ("111 11010000 1000", 2, None),  # the second is cut short
        ("000 1 1 1", 2, None),  # a bit after the last code
        ("000 1", 2, None),
        ("000 00000000 00000000 00000000 1", 2, None),  # zeros without an end
        ("111 00 1111110000 10000000", 2, None),  # a step of 440 quarter pixels
        ("111 0 101000000 10000000", 2, [[0, 0], [96, 0]]),
    ],
)
def test_what_bytes_may_say_of_pans_is_bounded(bits: str, frames: int, pans: list[list[int]] | None) -> None:
    data = spelled(bits)
    if pans is None:
        with pytest.raises(BitstreamError, match="canvas"):
            Canvas.parse(data, frames, 40, 50)
    else:
        assert Canvas.parse(data, frames, 40, 50)[0].pans.tolist() == pans


def test_pans_beyond_reach_are_refused() -> None:
    steps = "0 101000000 10000000"  # 24 pixels down each
    assert Canvas.parse(spelled("111" + 5 * steps), 6, 40, 50)[0].size == (160, 50)
    with pytest.raises(BitstreamError, match="out of bounds"):
        Canvas.parse(spelled("111" + 6 * steps), 7, 40, 50)
    with pytest.raises(BitstreamError, match="valid canvas"):
        Canvas.parse(b"", 1, 40, 50)


def test_mutated_pans_are_refused_or_within_bounds() -> None:
    random, ends = Random(0), [0, 0]
    for _ in range(600):
        path = random_pans(random)
        data = mutated(canvas_of(path).pack(), random)
        try:
            found, size = Canvas.parse(data, len(path), 40, 50)
        except BitstreamError:
            ends[0] += 1
            continue
        ends[1] += 1
        assert found.within and size <= len(data) and found.pans.shape == (len(path), 2)
        assert found.size[0] <= 40 + 2 * REACH + 1 and found.size[1] <= 50 + 2 * REACH + 1
    assert min(ends) > 60


# Whole streams


def info(frames: Frame) -> VideoInfo:
    return VideoInfo(frames.shape[2], frames.shape[1], Fraction(25), None, Colour("bt709", "limited"), "", "")


@pytest.fixture(scope="module", params=KINDS)
def codec(request: pytest.FixtureRequest) -> GnvcVd:
    return nano_codec(request.param)


CLIP = panned([(-2 * y, -2 * x) for y, x in [*PATH, (16, -33), (17, -38), (20, -42)]], 66, 80)
SETTINGS = EncodeOptions(20, gop=13, scenecut=False)


def units_of(codec: GnvcVd, settings: EncodeOptions = SETTINGS) -> list[Unit]:
    return list(codec.encode_units(iter(CLIP), settings))


def test_a_stream_with_a_canvas_decodes_to_the_true_size_and_is_the_same_twice(codec: GnvcVd) -> None:
    (unit,) = units_of(codec)
    assert unit.canvas and units_of(codec) == [unit]
    header = codec.header(info(CLIP), SETTINGS)
    canvas, size = Canvas.parse(unit.payload, 12, 66, 80)
    height, width = canvas.size
    assert (height, width) > (66, 80) and size < 30
    decoder = codec.decoder(header)
    decoder.verify(unit)
    first, second = ([one.latent for one in decoder.symbols(unit)] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert first[0].shape[2:] == (2 * -(-height // 16), 2 * -(-width // 16))
    stream = pack_stream(header, [unit])
    for options in ({"steps": 1}, {"steps": 1, "apart": True}):
        assert np.concatenate(list(codec.decode(stream, **options))).shape == CLIP.shape
    # Unrefined, it is the VAE's pictures cut out of the canvas.
    with torch.inference_mode():
        video = codec.backbone.vae.decode(torch.stack(first, dim=2))
    whole = ((video[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0).numpy()
    wanted = canvas.crop_frames(whole[:12, :height, :width])
    assert (np.concatenate(list(codec.decode(stream, refine=False))) == wanted).all()


def test_without_a_canvas_the_unit_is_as_ever(codec: GnvcVd) -> None:
    (unit,) = units_of(codec, replace(SETTINGS, canvas="off"))
    assert not unit.canvas
    with pytest.raises(BitstreamError):
        codec.decoder(codec.header(info(CLIP), SETTINGS)).verify(replace(unit, canvas=True))


def test_a_long_gop_comes_back_in_parts_with_its_pans(codec: GnvcVd) -> None:
    path = [(t, -2 * t) for t in range(37)]
    clip = panned(path, 64, 64)
    settings = EncodeOptions(20, gop=37, scenecut=False)
    (unit,) = codec.encode_units(iter(clip), settings)
    stream = pack_stream(codec.header(info(clip), settings), [unit])
    parts = list(codec.decode(stream, refine=False))
    assert unit.canvas and [len(one) for one in parts] == [1, *[4] * 9]
    canvas, _ = Canvas.parse(unit.payload, 37, 64, 64)
    known = list(codec.decoder(codec.header(info(clip), settings)).symbols(unit))
    with torch.inference_mode():
        video = codec.backbone.vae.decode(torch.stack([one.latent for one in known], dim=2))
    whole = ((video[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0).numpy()
    height, width = canvas.size
    assert (np.concatenate(parts) == canvas.crop_frames(whole[:, :height, :width])).all()


def test_a_rate_is_searched_over_canvases(codec: GnvcVd) -> None:
    wanted = 8 * len(pack_stream(codec.header(info(CLIP), SETTINGS), units_of(codec))) / CLIP[..., 0].size
    (unit,) = codec.encode_units(iter(CLIP), replace(SETTINGS, bpp=wanted, quality=60), info(CLIP))
    found = 8 * len(pack_stream(codec.header(info(CLIP), SETTINGS), [unit])) / CLIP[..., 0].size
    assert unit.canvas and abs(found - wanted) <= 0.05 * wanted


def test_damage_in_a_canvas_is_refused_or_concealed(codec: GnvcVd) -> None:
    units = [replace(unit, index=index) for index, unit in enumerate(2 * units_of(codec))]
    wrong = replace(units[1], payload=b"\0\0" + units[1].payload)
    stream = pack_stream(codec.header(info(CLIP), SETTINGS), [units[0], wrong])
    with pytest.raises(BitstreamError, match="GOP 1 is damaged"):
        list(codec.decode(stream, steps=1))
    frames = np.concatenate(list(codec.decode(stream, steps=1, conceal=True)))
    assert len(frames) == 24 and (frames[12:] == frames[11]).all()


def test_gops_with_a_canvas_may_be_picked(codec: GnvcVd) -> None:
    units = [replace(unit, index=index) for index, unit in enumerate(2 * units_of(codec))]
    stream = pack_stream(codec.header(info(CLIP), SETTINGS), units)
    shown, only = (np.concatenate(list(codec.decode(stream, refine=False, first_gop=first))) for first in (0, 1))
    assert len(shown) == 24 and (shown[12:] == only).all()


def test_the_command_line_finds_a_canvas_and_leaves_it_off(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, target, out = video(tmp_path / "in.y4m", list(CLIP)), tmp_path / "o.gnvc", tmp_path / "out"
    for said, canvas in (((), True), (("--canvas", "auto"), True), (("--canvas", "off"), False)):
        assert here(capfd, "encode", source, target, *said)[0] == 0
        (unit,) = json.loads(here(capfd, "info", target, "--json")[1])["units"]
        assert (unit["policy"], unit["canvas"]) == (0, canvas)
        assert here(capfd, "verify", target)[:2] == (0, "1 GOP read, all whole\n")
    assert here(capfd, "encode", source, target)[0] == 0
    pixels = CLIP[0, ..., 0].size
    assert here(capfd, "decode", target, out, "--no-refine")[0] == 0 and len(list(out.iterdir())) == 12
    _, verdict, _ = here(capfd, "verify", target, "--max-pixels", pixels)
    assert "GOP 0: a canvas of" in verdict and f"above the limit of {pixels} pixels" in verdict


def test_a_canvas_above_the_limit_of_pixels_is_refused(codec: GnvcVd) -> None:
    (unit,) = units_of(codec)
    header, (height, width) = codec.header(info(CLIP), SETTINGS), Canvas.parse(unit.payload, 12, 66, 80)[0].size
    codec.decoder(header, DecodeOptions(max_pixels=height * width)).verify(unit)
    with pytest.raises(BitstreamError, match=f"a canvas of {width}×{height} is above the limit"):
        codec.decoder(header, DecodeOptions(max_pixels=height * width - 1)).verify(unit)


def test_a_unit_of_version_1_has_no_canvas(codec: GnvcVd) -> None:
    header = replace(codec.header(info(CLIP), SETTINGS), version=1)
    unit = Unit(0, 5, 20, 0, b"hash", b"payload")
    parts = bodies(packed([unit], header))
    body = bytearray(parts[1])
    assert body[6] == 0
    body[6] = 8
    found = read(signed([parts[0], bytes(body), parts[2]]))
    assert isinstance(found[0], Damage) and not any(isinstance(part, Unit) for part in found)
    with pytest.raises(ValueError, match="version 1 cannot hold GOP 0"):
        packed([replace(unit, canvas=True)], header)


@pytest.mark.parametrize("width", [2, 5, 16])
def test_stripes_that_hide_where_they_move_are_no_trouble(width: int) -> None:
    """Slopes down and across are equal everywhere: least squares alone has no answer."""
    row, column = np.arange(96)[:, None], np.arange(96)
    frames = [((row + column + 2 * t) // width % 2 * 200).astype(np.uint8) for t in range(9)]
    canvas, _ = stabilise(np.stack(frames)[..., None].repeat(3, 3))
    assert canvas is None or canvas.within
