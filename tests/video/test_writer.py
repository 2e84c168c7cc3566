"""Frames out: what comes back, and that nothing half-written stays."""

import io
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import gnvc_vd
from gnvc_vd.conventions import TRANSFERS, UNSPECIFIED, Colour, UsageError
from gnvc_vd.video import RawVideo, VideoError, create_video, open_video
from tests.conftest import largest_difference, names_beside, noise_clip, smooth_clip

RATE = Fraction(30000, 1001)
SIZES = [(64, 96), (65, 97), (1, 1), (16, 3)]  # height, width


def written(target: Path, clip: list[np.ndarray], **options: object) -> Path:
    height, width, _ = clip[0].shape
    with create_video(target, width, height, RATE, **options) as out:  # type: ignore[arg-type]
        for frame in clip:
            out.write(frame)
    return target


@pytest.mark.parametrize("name", ["clip.mkv", "frames"])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("count", [1, 5])
def test_lossless_outputs_come_back_bit_for_bit(tmp_path: Path, name: str, height: int, width: int, count: int) -> None:
    clip = noise_clip(height, width, count)
    video = open_video(written(tmp_path / name, clip))
    assert largest_difference(list(video), clip) == 0
    assert names_beside(tmp_path) == [name]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.y4m"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_lossy_outputs_keep_size_count_rate_and_look(tmp_path: Path, name: str, height: int, width: int) -> None:
    clip = smooth_clip(height, width, 5)
    video = open_video(written(tmp_path / name, clip))
    frames = list(video)
    assert (video.info.width, video.info.height, video.info.rate, len(frames)) == (width, height, RATE, 5)
    mse = np.mean([(a.astype(float) - b) ** 2 for a, b in zip(frames, clip, strict=True)])
    assert 10 * np.log10(255**2 / max(mse, 1e-9)) > 40  # visually lossless


@pytest.mark.parametrize("colour", [Colour("bt709", "limited"), Colour("bt601", "full"), Colour("bt2020", "limited")])
def test_mp4_says_its_colour_and_comes_back_in_it(tmp_path: Path, colour: Colour) -> None:
    clip = smooth_clip(64, 96, 2)
    video = open_video(written(tmp_path / "clip.mp4", clip, colour=colour))
    assert video.info.colour == colour and video.info.notices == ()
    assert np.abs(np.stack(list(video)).astype(int) - np.stack(clip)).mean() < 1.5


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv"])
def test_transfer_functions_are_said_and_come_back(tmp_path: Path, name: str) -> None:
    clip = smooth_clip(16, 32, 1)
    for transfer in TRANSFERS - {UNSPECIFIED}:
        video = open_video(written(tmp_path / name, clip, colour=Colour("bt709", "limited", transfer)))
        assert video.info.colour.transfer == transfer


def test_what_has_no_transfer_function_says_its_matrixs_own_where_a_matrix_is_said(tmp_path: Path) -> None:
    clip = smooth_clip(16, 32, 1)
    for matrix, transfer in (("bt601", 6), ("bt709", 1), ("bt2020", 14)):
        for name, said in (("clip.mp4", transfer), ("clip.mkv", UNSPECIFIED), ("clip.y4m", UNSPECIFIED)):
            video = open_video(written(tmp_path / name, clip, colour=Colour(matrix, "limited")))
            assert video.info.colour.transfer == said


def test_the_same_frames_make_the_same_mp4(tmp_path: Path) -> None:
    """Large enough for x264's macroblock tree, and whatever the processor's number of cores."""
    with open_video(Path(gnvc_vd.__file__).parent / "assets" / "clips" / "bunny.mp4") as video:
        clip = list(islice(video, 25))
    files = [written(tmp_path / "clip.mp4", clip).read_bytes() for _ in range(4)]
    assert len(set(files)) == 1 and b" threads=4 " in files[0]


def test_y4m_and_raw_yuv_hold_the_same_planes(tmp_path: Path) -> None:
    clip = smooth_clip(33, 47, 3)
    yuv = written(tmp_path / "clip.yuv", clip).read_bytes()
    y4m = written(tmp_path / "clip.y4m", clip).read_bytes()
    header, *frames = y4m.split(b"FRAME\n")
    assert header.startswith(b"YUV4MPEG2 W47 H33 F30000:1001") and b"C420mpeg2" in header
    assert b"".join(frames) == yuv and len(yuv) == 3 * RawVideo(47, 33).frame_bytes()


def test_y4m_comes_back_in_the_colours_that_went_in(tmp_path: Path) -> None:
    """It cannot state a matrix, so it is written in the one that readers assume; the range it states."""
    clip = smooth_clip(36, 64, 2)
    for colour in (Colour("bt709", "limited"), Colour("bt2020", "full")):
        video = open_video(written(tmp_path / "clip.y4m", clip, colour=colour))
        assert video.info.colour == Colour("bt601", colour.range)
        assert np.abs(np.stack(list(video)).astype(int) - np.stack(clip)).mean() < 1.5


def test_no_frames_and_impossible_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no frame was written"), create_video(tmp_path / "a.mp4", 16, 16, RATE):
        pass
    for width, height in ((0, 16), (16, -1), (16384, 16)):
        with pytest.raises(UsageError, match="is not 1 to"), create_video(tmp_path / "a.mkv", width, height, RATE):
            pass
    assert names_beside(tmp_path) == []


def test_ten_bit_y4m_comes_back(tmp_path: Path) -> None:
    clip = smooth_clip(32, 48, 2)
    video = open_video(written(tmp_path / "clip.y4m", clip, pixel_format="yuv420p10le"))
    assert video.info.pixel_format == "yuv420p10le"
    assert largest_difference(list(video), clip) <= 6


def test_standard_output_is_y4m(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clip = smooth_clip(32, 48, 3)

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation

    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", type("Stdout", (), {"buffer": pipe}))
    with create_video("-", 48, 32, RATE) as out:
        for frame in clip:
            out.write(frame)
    monkeypatch.undo()
    assert pipe.getvalue() == written(tmp_path / "clip.y4m", clip).read_bytes()


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.y4m", "frames"])
def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    target = written(tmp_path / name, noise_clip(16, 16, 3, seed=1))
    before = list(open_video(target))
    with pytest.raises(KeyboardInterrupt), create_video(target, 16, 16, RATE) as out:
        out.write(noise_clip(16, 16, 1)[0])
        raise KeyboardInterrupt
    assert largest_difference(list(open_video(target)), before) == 0
    assert names_beside(tmp_path) == [name]


def test_a_folder_with_other_things_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="holds other things"), create_video(tmp_path, 16, 16, RATE):
        pass
    assert names_beside(tmp_path) == ["thesis.tex"]


def test_targets_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    for name, sentence in {"clip.gif": "cannot write .gif", "file": "is a file", "folder.mp4": "is a folder"}.items():
        with pytest.raises(UsageError, match=sentence), create_video(tmp_path / name, 16, 16, RATE):
            pass


def test_frames_of_another_size_or_kind_are_a_programming_error(tmp_path: Path) -> None:
    with create_video(tmp_path / "clip.mkv", 16, 16, RATE) as out:
        out.write(noise_clip(16, 16, 1)[0])
        with pytest.raises(ValueError, match="the video is"):
            out.write(noise_clip(16, 17, 1)[0])
        with pytest.raises(ValueError, match="H W 3 uint8"):
            out.write(np.zeros((16, 16, 3), np.float32))  # type: ignore[arg-type]
