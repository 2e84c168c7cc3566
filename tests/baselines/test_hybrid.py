"""Hybrid codecs: bytes of raw streams, nothing in them that no decoder needs, and the colours that went in."""

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import gnvc_vd
from gnvc_vd.baselines.commands import SOURCE, Clip, CodingResult, code, run
from gnvc_vd.baselines.hybrid import STRUCTURES, Hybrid
from gnvc_vd.conventions import Colour, Frame, GnvcError, UsageError
from gnvc_vd.evaluate.compare import compare
from gnvc_vd.evaluate.sequences import make_source
from gnvc_vd.video import create_video, open_video
from tests.conftest import smooth_clip

DOCS = Path(gnvc_vd.__file__).parents[1] / "docs" / "evaluation.md"
CLIP = Clip(64, 64, 6, Fraction(25), Colour("bt709", "limited"))
FAST = {"x264": "ultrafast", "x265": "ultrafast", "svt-av1": "12", "vvenc": "faster"}
REORDERING = FAST | {"x264": "veryfast", "x265": "veryfast"}  # presets that know cuts and pictures that look both ways
HIGHEST_PICTURE = {"x264": 5, "x265": 31, "vvenc": 11}  # kinds of units that are pictures, and not more than these
SEI = {"x264": {6}, "x265": {39, 40}, "vvenc": {23, 24}}
DELIMITER = {"x264": 9, "x265": 35, "vvenc": 20}


def source(folder: Path, clip: Clip = CLIP) -> Path:
    """SOURCE in a new folder, of stored planes whose matrix the size rule would get wrong."""
    folder.mkdir()
    with create_video(folder / "film.mkv", clip.width, clip.height, clip.rate) as out:
        for frame in smooth_clip(clip.height, clip.width, clip.frames):
            out.write(frame)
    make_source(folder / "film.mkv", folder / SOURCE, clip.frames, colour=clip.colour)
    return folder / SOURCE


def coded(
    folder: Path, encoder: str, structure: str = "low-delay", level: int = 30, intra: int = 0, **changes: str
) -> CodingResult:
    source(folder)
    one = Hybrid(encoder, (level,), structure, intra, **{"preset": FAST[encoder], **changes})
    return code(one.commands(CLIP, level), CLIP, folder)


def unit_kinds(stream: bytes, encoder: str) -> list[int]:
    """The kinds of an Annex B stream's units."""
    assert stream.startswith(b"\0\0\0\1")
    heads = [stream[found.end() : found.end() + 2] for found in re.finditer(b"\0\0\1", stream)]
    read = {"x264": lambda h: h[0] & 31, "x265": lambda h: h[0] >> 1 & 63, "vvenc": lambda h: h[1] >> 3}[encoder]
    return [read(head) for head in heads]


def obu_kinds(stream: bytes) -> list[int]:
    """The kinds of a low-overhead AV1 stream's units, whose sizes must lead exactly to its end."""
    kinds, place = [], 0
    while place < len(stream):
        head = stream[place]
        assert head & 2  # it says its size
        kinds.append(head >> 3 & 15)
        place += 2 if head & 4 else 1
        size = shift = 0
        while True:
            byte = stream[place]
            size, shift, place = size | (byte & 127) << shift, shift + 7, place + 1
            if byte < 128:
                break
        place += size
    assert place == len(stream)
    return kinds


@pytest.mark.parametrize("encoder", ["x264", "x265", "vvenc"])
def test_the_rate_is_a_raw_stream_with_parameters_and_pictures_alone(encoder: str, tmp_path: Path) -> None:
    stream = coded(tmp_path / "clip", encoder).stream.read_bytes()
    kinds = unit_kinds(stream, encoder)
    assert not SEI[encoder] & set(kinds) and DELIMITER[encoder] not in kinds
    assert sum(kind <= HIGHEST_PICTURE[encoder] for kind in kinds) == CLIP.frames
    text = stream.decode("latin-1").lower()
    assert not any(word in text for word in ("x264", "x265", "lavc", "vvenc", "crf="))


def test_av1_is_counted_to_its_last_unit(tmp_path: Path) -> None:
    kinds = obu_kinds(coded(tmp_path / "clip", "svt-av1", level=40).stream.read_bytes())
    assert kinds.count(2) == CLIP.frames and kinds.count(1) == 1  # a delimiter for each picture, one sequence header


def planes(path: Path) -> list[np.ndarray]:
    with open_video(path) as video:
        return [np.concatenate([p.ravel() for p in one.planes.codes]) for one in video.pictures() if one.planes]


@pytest.mark.parametrize("encoder", ["x264", pytest.param("vvenc", marks=pytest.mark.slow)])
def test_colours_come_back_within_coding_error(encoder: str, tmp_path: Path) -> None:
    """At the finest level no matrix or range was mistaken: that would cost tens of levels."""
    finest = {"x264": 1, "vvenc": 4}[encoder]
    done = coded(tmp_path / "clip", encoder, level=finest)
    before, after = planes(tmp_path / "clip" / SOURCE), planes(done.decoded)
    assert len(before) == len(after) == CLIP.frames
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(before, after, strict=True)) <= 3
    found = compare(str(tmp_path / "clip" / SOURCE), str(done.decoded), metrics=["psnr_rgb", "psnr_yuv"])
    assert found.notices == () and (found.figures["psnr_rgb"] or 0) > 45
    with open_video(done.decoded) as video:
        assert video.info.colour == CLIP.colour and video.info.rate == CLIP.rate


def test_ten_bits_are_rounded_not_dithered(tmp_path: Path) -> None:
    """VVenC decodes to 10 bits: 8-bit planes are these, divided by four and rounded half up."""
    folder = tmp_path / "clip"
    done = coded(folder, "vvenc")
    run(["ffmpeg", "-loglevel", "error", "-i", done.stream.name, "-f", "rawvideo", "ten.yuv"], folder)
    ten = np.fromfile(folder / "ten.yuv", "<u2").astype(int)
    eight = np.concatenate(planes(done.decoded)).astype(int)
    assert (eight == np.minimum((ten + 2) >> 2, 255)).all()


def test_a_source_keeps_the_codes_it_is_given_and_the_path_back_is_within_rounding(tmp_path: Path) -> None:
    """RGB → our 4:2:0 → SOURCE → RGB is the soft clip again; stored planes go into SOURCE bit for bit."""
    clip: list[Frame] = smooth_clip(48, 64, 3)
    for suffix in (".mkv", ".mp4"):
        with create_video(tmp_path / f"film{suffix}", 64, 48, Fraction(24)) as out:
            for frame in clip:
                out.write(frame)
        made = make_source(tmp_path / f"film{suffix}", tmp_path / SOURCE, 2)
        assert (made.frames, made.rate, made.pixel_format) == (2, 24, "yuv420p")
        with open_video(tmp_path / SOURCE) as video:
            pictures = list(video.pictures())
        if suffix == ".mkv":
            assert max(int(np.abs(p.rgb.astype(int) - f).max()) for p, f in zip(pictures, clip, strict=False)) <= 4
        else:
            with open_video(tmp_path / "film.mp4") as video:
                stored = list(video.pictures())[:2]
            for one, other in zip(pictures, stored, strict=True):
                assert one.planes and other.planes and one.planes.tobytes() == other.planes.tobytes()
                assert (one.rgb == other.rgb).all()


ONE_FAST = ["x265", *(pytest.param(name, marks=pytest.mark.slow) for name in ("x264", "svt-av1", "vvenc"))]
PERIODIC = [  # VVenC has low delay with one intra picture only
    *(("x265", structure) for structure in STRUCTURES),
    *(pytest.param(name, one, marks=pytest.mark.slow) for name in ("x264", "svt-av1") for one in STRUCTURES),
    pytest.param("vvenc", "random-access", marks=pytest.mark.slow),
]


def shown(stream: Path) -> list[tuple[bool, np.ndarray]]:
    """Whether each picture is one to start from, and its luma, in the order of showing."""
    with av.open(str(stream)) as container:
        return [(frame.key_frame, frame.to_ndarray()[: CLIP.height]) for frame in container.decode(video=0)]


def beginning(stream: bytes, encoder: str, pictures: int) -> bytes:
    """The units up to the last of so many pictures, in the order of coding."""
    if encoder == "svt-av1":
        delimiters = [place for place in range(len(stream)) if stream[place : place + 2] == b"\x12\0"]
        return stream[: delimiters[pictures]]
    starts = [found.start() for found in re.finditer(b"\0\0\1", stream)]
    slices = [place for place, kind in enumerate(unit_kinds(stream, encoder)) if kind <= HIGHEST_PICTURE[encoder]]
    return stream[: starts[slices[pictures - 1] + 1 if pictures else slices[0]]]


@pytest.mark.parametrize("encoder", ONE_FAST)
def test_low_delay_looks_back_only_and_random_access_does_not(encoder: str, tmp_path: Path) -> None:
    """Half of a low-delay stream shows the first half of the pictures, as they are in the whole.

    AV1 has its units in the order of showing: there, a picture that was coded before its turn is shown by a header.
    """
    for structure in STRUCTURES:
        stream = coded(tmp_path / structure, encoder, structure, preset=REORDERING[encoder]).stream
        if encoder == "svt-av1":
            assert (3 in obu_kinds(stream.read_bytes())) == (structure == "random-access")
            continue
        half = stream.with_name(f"half{stream.suffix}")
        half.write_bytes(beginning(stream.read_bytes(), encoder, 3))
        first, whole = shown(half), shown(stream)
        assert len(whole) == CLIP.frames and [key for key, _ in whole] == [True] + [False] * 5
        same = len(first) == 3 and all((a == b).all() for (_, a), (_, b) in zip(first, whole, strict=False))
        assert same == (structure == "low-delay")


@pytest.mark.slow
@pytest.mark.parametrize("encoder", FAST)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_cut_does_not_start_anew(encoder: str, structure: str, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    with create_video(folder / "film.mkv", CLIP.width, CLIP.height, CLIP.rate) as out:
        for seed in (0, 1):
            for frame in smooth_clip(CLIP.height, CLIP.width, 3, seed=seed):
                out.write(frame)
    make_source(folder / "film.mkv", folder / SOURCE, CLIP.frames, colour=CLIP.colour)
    one = Hybrid(encoder, (30,), structure, preset=REORDERING[encoder])
    with av.open(str(code(one.commands(CLIP, 30), CLIP, folder).stream)) as container:
        kinds = [frame.pict_type for frame in container.decode(video=0)]
    assert [kind == av.video.frame.PictureType.I for kind in kinds] == [True] + [False] * 5


@pytest.mark.parametrize(("encoder", "structure"), PERIODIC)
def test_an_intra_period_is_one_of_gops_that_stand_alone(encoder: str, structure: str, tmp_path: Path) -> None:
    """As ours do: the second one, without the first, shows the same pictures."""
    stream = coded(tmp_path / "clip", encoder, structure, intra=3).stream
    whole, data = shown(stream), stream.read_bytes()
    assert [key for key, _ in whole] == [True, False, False] * 2
    rest = stream.with_name(f"rest{stream.suffix}")
    head = b"" if encoder == "svt-av1" else beginning(data, encoder, 0)  # parameter sets
    rest.write_bytes(head + data[len(beginning(data, encoder, 3)) :])
    again = shown(rest)
    assert len(again) == 3 and all((a == b).all() for (_, a), (_, b) in zip(again, whole[3:], strict=True))


@pytest.mark.parametrize("encoder", FAST)
def test_the_documented_settings_are_those_that_run(encoder: str) -> None:
    words = Hybrid(encoder, (31,)).commands(CLIP, 31).encode
    settings = " ".join(words[words.index("-c:v") : words.index("-fps_mode")])
    documented = settings.replace(" 31", " Q").replace("=31:", "=Q:").replace(":log-level=error", "")
    assert f"`{documented}`" in DOCS.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("encoder", FAST)
def test_every_structure_tuning_and_period_decodes(encoder: str, tmp_path: Path) -> None:
    sizes = set()
    for structure in STRUCTURES:
        for tuning in ("default", "psnr"):
            for intra in (0, 3):
                if (encoder, structure, bool(intra)) == ("vvenc", "low-delay", True):
                    continue
                folder = tmp_path / f"{structure}-{tuning}-{intra}"
                source(folder)
                one = Hybrid(encoder, (30,), structure, intra, tuning, FAST[encoder])
                done = code(one.commands(CLIP, 30), CLIP, folder)
                again = code(one.commands(CLIP, 30), CLIP, folder)
                assert done.stream.read_bytes() == again.stream.read_bytes() and len(planes(done.decoded)) == 6
                found = compare(str(folder / SOURCE), str(done.decoded), metrics=["psnr_yuv"])
                assert (found.figures["psnr_yuv"] or 0) > 28
                sizes.add((structure, intra, done.stream.stat().st_size))
    assert len(sizes) >= 3


def test_wrong_settings_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for wrong, said in (
        ({"encoder": "xvid"}, "no encoder 'xvid'"),
        ({"structure": "b"}, "no structure 'b'"),
        ({"tuning": "ssim"}, "no tuning 'ssim'"),
        ({"levels": (52,)}, "0 to 51"),
        ({"levels": (30, 31, 30)}, "each once"),
        ({"levels": ()}, "levels of x265"),
        ({"intra": -1}, "not negative"),
    ):
        with pytest.raises(UsageError, match=said):
            Hybrid(**{"encoder": "x265", "levels": (30,), **wrong})
    with pytest.raises(UsageError, match="even sizes only"):
        Hybrid("x264", (30,)).commands(Clip(63, 64, 1, Fraction(25), CLIP.colour), 30)
    with pytest.raises(UsageError, match="one intra picture"):
        Hybrid("vvenc", (30,), intra=25).commands(CLIP, 30)
    with pytest.raises(GnvcError, match=r"ffmpeg failed with exit code \d+: .*source.mkv"):
        code(Hybrid("x264", (30,)).commands(CLIP, 30), CLIP, tmp_path)
    with pytest.raises(GnvcError, match="no_such_program: No such file"):
        run(["no_such_program"], tmp_path)
