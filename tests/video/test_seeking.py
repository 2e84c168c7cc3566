"""Any frame alone is the frame that reading from the beginning shows, in every format."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from gnvc_vd.conventions import UsageError
from gnvc_vd.video import VideoError, ffmpeg, open_video
from gnvc_vd.video.seeking import Area, FilmIndex, index_film, read_frames

TEST_PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25", "-frames:v", "40"]
FILMS = {
    "film.mp4": ["-c:v", "libx264", "-g", "7"],
    "open.mp4": ["-c:v", "libx264", "-x264-params", "keyint=8:open-gop=1:bframes=3"],
    "film.mov": ["-c:v", "libx265", "-x265-params", "log-level=0:keyint=9"],
    "film.mkv": ["-c:v", "ffv1"],
    "film.webm": ["-c:v", "libvpx-vp9", "-g", "8"],
    "film.avi": ["-c:v", "mpeg4", "-bf", "2", "-g", "5"],
    "film.ts": ["-c:v", "libx264", "-g", "7"],
    "film.mpg": ["-c:v", "mpeg2video", "-bf", "2"],
    "film.y4m": [],
    "bare.h264": ["-c:v", "libx264", "-g", "7"],
    "late.mp4": ["-ss", "0.3", "-c:v", "libx264"],
}
HAS_DECORD = importlib.util.find_spec("decord") is not None


def made(folder: Path, name: str) -> Path:
    ffmpeg.run([*TEST_PICTURE, *FILMS[name], str(folder / name)])
    return folder / name


@pytest.mark.parametrize("name", FILMS)
def test_every_frame_alone_is_the_readers_frame(tmp_path: Path, name: str) -> None:
    film = made(tmp_path, name)
    whole = np.stack(list(open_video(film)))
    index = index_film(film)
    assert (index.frames, index.height, index.width) == whole.shape[:3] and index.frames == 40
    assert name == "bare.h264" or index.rate == 25
    area = Area(13, 27, 32, 43)
    for start in (0, 5, 9, 15, 16, 23, 38):
        stride = 1 + start % 3
        count = min(4, (39 - start) // stride + 1)
        found = read_frames(film, index, start, count, stride, area)
        wanted = whole[start : start + count * stride : stride, 13:45, 27:70]
        assert (found == wanted).all(), start
    assert (read_frames(film, index, 30, 10) == whole[30:]).all()


def test_open_gops_can_be_entered_at_every_frame(tmp_path: Path) -> None:
    """Decoders take what an open GOP refers to and was not decoded for damage."""
    film = made(tmp_path, "open.mp4")
    whole, index = np.stack(list(open_video(film))), index_film(film)
    for start in range(37):
        assert (read_frames(film, index, start, 3) == whole[start : start + 3]).all(), start


def test_frames_before_an_edit_list_begins_are_no_frames(tmp_path: Path) -> None:
    """Cut without coding again: packets from the key frame on are there, and the file says where to begin."""
    film, cut = made(tmp_path, "film.mp4"), tmp_path / "cut.mp4"
    ffmpeg.run(["-ss", "0.4", "-i", str(film), "-c", "copy", str(cut)])
    whole, index = np.stack(list(open_video(cut))), index_film(cut)
    assert index.frames == len(whole) == 30
    assert (read_frames(cut, index, 0, 9) == whole[:9]).all() and (read_frames(cut, index, 21, 9) == whole[21:]).all()


@pytest.mark.parametrize("name", ["copied.avi", "copied.asf", "copied.mxf"])
def test_where_no_times_of_display_are_stated_the_order_is_the_decoders(tmp_path: Path, name: str) -> None:
    """Libav's guesses for H.264 look like times of display."""
    film, copy = made(tmp_path, "film.mp4"), tmp_path / name
    ffmpeg.run(["-i", str(film), "-c", "copy", str(copy)])
    whole, index = np.stack(list(open_video(film))), index_film(copy)
    assert (index.frames, index.rate) == (40, 25) and index.times is None
    for start in range(38):
        assert (read_frames(copy, index, start, 3) == whole[start : start + 3]).all(), start


@pytest.mark.parametrize("degrees", ["90", "180", "-90"])
def test_turned_films_are_cut_as_they_are_shown(tmp_path: Path, degrees: str) -> None:
    upright, turned = made(tmp_path, "film.mp4"), tmp_path / "turned.mp4"
    ffmpeg.run(["-display_rotation", degrees, "-i", str(upright), "-c", "copy", str(turned)])
    whole, index = np.stack(list(open_video(turned))), index_film(turned)
    found = read_frames(turned, index, 11, 3, area=Area(5, 3, 40, 50))
    assert (index.height, index.width) == whole.shape[1:3]
    assert (found == whole[11:14, 5:45, 3:53]).all()


def test_seeking_reads_little_of_the_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What starts anew for lack of times is the exception."""
    counted = []
    monkeypatch.setattr("gnvc_vd.video.seeking._read_by_counting", lambda *arguments: counted.append(arguments))
    for name in FILMS.keys() - {"bare.h264"}:
        film = made(tmp_path, name)
        read_frames(film, index_film(film), 20, 9)
    assert counted == []
    bare = made(tmp_path, "bare.h264")
    read_frames(bare, index_film(bare), 20, 9)
    assert len(counted) == 1


def test_frames_that_are_not_there_are_refused(tmp_path: Path) -> None:
    film = made(tmp_path, "film.mp4")
    index = index_film(film)
    for start, count, stride in ((-1, 1, 1), (32, 9, 1), (0, 0, 1), (0, 21, 2)):
        with pytest.raises(ValueError, match=r"frames .* of 40"):
            read_frames(film, index, start, count, stride)


def test_damage_is_an_error_where_it_is_and_nowhere_else(tmp_path: Path) -> None:
    film = made(tmp_path, "film.avi")
    index, whole = index_film(film), np.stack(list(open_video(film)))
    data = bytearray(film.read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 64):
        data[place] ^= 0x5A
    film.write_bytes(data)
    assert (read_frames(film, index, 0, 9) == whole[:9]).all()
    assert (read_frames(film, index, 31, 9) == whole[31:]).all()
    with pytest.raises(VideoError, match="damaged"):
        read_frames(film, index, 14, 12)
    film.write_bytes(data[: len(data) // 3])
    with pytest.raises(VideoError):
        read_frames(film, index, 30, 9)


def test_what_is_no_film_says_so(tmp_path: Path) -> None:
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(b"no film" * 100)
    with pytest.raises(VideoError, match="not a video that can be read"):
        index_film(junk)


@pytest.mark.skipif(not HAS_DECORD, reason="decord is built for Linux on x86-64 only")
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_decord_shows_the_same_frames_in_its_own_colours(tmp_path: Path, name: str) -> None:
    """Where GOPs are closed. On this picture, full of coloured edges, colours are 5 to 12 levels off on average."""
    film = made(tmp_path, name)
    index, whole = index_film(film), np.stack(list(open_video(film)))
    area = Area(0, 0, 64, 96)
    found = read_frames(film, index, 12, 9, 2, area, backend="decord")
    for k in range(9):
        distance = [np.abs(found[k].astype(int) - frame).mean() for frame in whole]
        assert int(np.argmin(distance)) == 12 + 2 * k and distance[12 + 2 * k] < 14
    corner = read_frames(film, index, 12, 9, 2, Area(8, 16, 32, 48), backend="decord")
    assert (corner == found[:, 8:40, 16:64]).all()


def test_decord_is_not_trusted_with_other_formats(tmp_path: Path) -> None:
    film = made(tmp_path, "film.mpg")
    index = index_film(film)
    assert (read_frames(film, index, 7, 5, backend="decord") == read_frames(film, index, 7, 5)).all()


def test_without_decord_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = made(tmp_path, "film.mp4")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="use the exact reader"):
        read_frames(film, index_film(film), 0, 1, backend="decord")


def test_an_index_is_small(tmp_path: Path) -> None:
    index = index_film(made(tmp_path, "film.mp4"))
    assert isinstance(index, FilmIndex) and index.times is not None
    assert index.times.nbytes == 8 * 40 and (np.diff(index.times) > 0).all() and len(index.keys) == 6
