"""Frames in: what odd files do, and what bad ones say."""

import io
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from gnvc_vd.conventions import COMMON_RATES, Colour, UsageError
from gnvc_vd.video import RawVideo, VideoError, create_video, ffmpeg, open_video
from gnvc_vd.video.seeking import index_film, read_frames
from tests.conftest import largest_difference, noise_clip, smooth_clip

TEST_PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25"]


def made(path: Path, *arguments: str, frames: int = 12) -> Path:
    """A film that ffmpeg made from its test picture."""
    ffmpeg.run([*TEST_PICTURE, "-frames:v", str(frames), *arguments, str(path)])
    return path


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("film.mp4", ["-c:v", "libx264"]),
        ("film.mov", ["-c:v", "libx265", "-x265-params", "log-level=0"]),
        ("film.mkv", ["-c:v", "ffv1"]),
        ("film.webm", ["-c:v", "libvpx-vp9"]),
        ("film.avi", ["-c:v", "mpeg4"]),
        ("film.y4m", []),
    ],
)
def test_every_container_gives_all_frames_at_its_rate(tmp_path: Path, name: str, arguments: list[str]) -> None:
    film = made(tmp_path / name, *arguments)
    with open_video(film) as video:
        frames = list(video)
    assert (video.info.width, video.info.height, video.info.rate) == (96, 64, 25)
    assert len(frames) == 12 and frames[0].shape == (64, 96, 3) and frames[0].dtype == np.uint8
    reference = list(open_video(made(tmp_path / "reference.mkv", "-c:v", "ffv1", "-pix_fmt", "bgr0")))
    assert np.abs(np.stack(frames).astype(int) - np.stack(reference)).mean() < 12


def test_metadata_names_matrix_and_range_and_decides_the_picture(tmp_path: Path) -> None:
    tags = ["-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p"]
    as_601 = made(tmp_path / "601.mp4", *tags, "-colorspace", "smpte170m", "-color_range", "tv", frames=1)
    as_709 = made(tmp_path / "709.mp4", *tags, "-colorspace", "bt709", "-color_range", "pc", frames=1)
    assert open_video(as_601).info.colour == Colour("bt601", "limited")
    video = open_video(as_709)
    assert video.info.colour == Colour("bt709", "full") and video.info.notices == ()
    told = open_video(as_601, colour=Colour("bt709", "full"))
    untold = next(iter(open_video(as_601)))
    assert told.info.colour == Colour("bt709", "full")
    assert np.abs(next(iter(told)).astype(int) - untold).max() > 10


def test_the_transfer_function_is_read_and_changes_no_picture(tmp_path: Path) -> None:
    tags = ["-c:v", "libx264", "-qp", "0", "-colorspace", "bt709", "-vf"]
    names = ("smpte2084", "bt709")
    film = {one: made(tmp_path / f"{one}.mp4", *tags, f"setparams=color_trc={one}", frames=1) for one in names}
    pq, sdr = (open_video(path) for path in film.values())
    assert (pq.info.colour.transfer, sdr.info.colour.transfer) == (16, 1)
    assert any("HDR" in notice for notice in pq.info.notices) and sdr.info.notices == ()
    assert np.array_equal(next(iter(pq)), next(iter(sdr)))
    told = Colour("bt601", "full")
    assert open_video(film["smpte2084"], colour=told).info.colour.transfer == 16
    assert open_video(film["smpte2084"], colour=replace(told, transfer=18)).info.colour.transfer == 18


def test_ntsc_rate_is_a_rational(tmp_path: Path) -> None:
    for name in ("film.mp4", "film.mkv", "film.y4m"):
        film = tmp_path / name
        ffmpeg.run(["-f", "lavfi", "-i", "testsrc2=size=32x32:rate=24000/1001", "-frames:v", "48", str(film)])
        assert open_video(film).info.rate == Fraction(24000, 1001), name


def test_variable_rate_keeps_every_frame_once_at_the_average_and_says_so(tmp_path: Path) -> None:
    film = made(tmp_path / "vfr.mp4", "-vf", "select='lt(n,20)+not(mod(n,4))'", "-fps_mode", "vfr", frames=30)
    with open_video(film) as video:
        assert len(list(video)) == 30
    assert 8 < video.info.rate < 25
    assert "frame times vary" in " ".join(video.info.notices)
    assert not any("vary" in notice for notice in open_video(made(tmp_path / "cfr.mp4")).info.notices)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_is_applied(tmp_path: Path, degrees: int) -> None:
    upright = made(tmp_path / "upright.mp4", frames=2)
    turned = tmp_path / "turned.mp4"
    ffmpeg.run(["-display_rotation", str(degrees), "-i", str(upright), "-c", "copy", str(turned)])
    video = open_video(turned)
    assert (video.info.width, video.info.height) == ((96, 64) if degrees == 180 else (64, 96))
    for shown, coded in zip(video, open_video(upright), strict=True):
        assert (shown == np.rot90(coded, degrees // 90)).all()


@pytest.mark.parametrize(("flag", "axis"), [("-display_hflip", 1), ("-display_vflip", 0)])
def test_mirroring_metadata_is_applied(tmp_path: Path, flag: str, axis: int) -> None:
    upright = made(tmp_path / "upright.mp4", frames=2)
    mirrored = tmp_path / "mirrored.mp4"
    ffmpeg.run([flag, "-i", str(upright), "-c", "copy", str(mirrored)])
    for shown, coded in zip(open_video(mirrored), open_video(upright), strict=True):
        assert (shown == np.flip(coded, axis)).all()


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_uneven_frame_times_are_noticed_in_every_container(tmp_path: Path, name: str) -> None:
    film = made(tmp_path / name, "-vf", "select='lt(mod(n,4),2)'", "-fps_mode", "vfr", frames=60)
    video = open_video(film)
    assert abs(float(video.info.rate) - 12.5) < 0.3 and "frame times vary" in " ".join(video.info.notices)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_long_films_with_b_frames_keep_their_rate(tmp_path: Path, name: str) -> None:
    """Frames in decoding order, and the reader looks at the first 300: those end between a mini-GOP's frames."""
    film = made(tmp_path / name, "-c:v", "libx264", "-preset", "ultrafast", "-bf", "3", "-b_strategy", "0", frames=330)
    info = open_video(film).info
    assert info.rate == 25 and not any("vary" in notice for notice in info.notices)


@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_an_avi_whose_clock_ticks_faster_than_its_frames_has_their_rate(tmp_path: Path, b_frames: str) -> None:
    film, avi = made(tmp_path / "film.mp4", "-c:v", "libx264", "-bf", b_frames, frames=90), tmp_path / "film.avi"
    ffmpeg.run(["-i", str(film), "-c", "copy", str(avi)])
    with av.open(str(avi)) as container:
        assert container.streams.video[0].average_rate == 600
    info = open_video(avi).info
    assert info.rate == 25 and not any("vary" in notice for notice in info.notices)


def test_vp8s_hidden_frames_are_not_counted(tmp_path: Path) -> None:
    """Reference frames (alt-ref) that are never shown have packets and times of their own."""
    film, log = tmp_path / "film.webm", ["-passlogfile", str(tmp_path / "log")]
    coder = ["-c:v", "libvpx", "-b:v", "100k", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-g", "30", *log]
    made(tmp_path / "first.webm", *coder, "-pass", "1", frames=90)
    made(film, *coder, "-pass", "2", frames=90)
    with av.open(str(film)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) > 90
    video, index = open_video(film), index_film(film)
    assert video.info.rate == 25 and not any("vary" in notice for notice in video.info.notices)
    whole = np.stack(list(video))
    assert index.frames == len(whole) == 90 and index.times is not None
    for start in range(0, 88, 7):
        assert (read_frames(film, index, start, 3) == whole[start : start + 3]).all(), start


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_left_out_of_an_avi_are_noticed(tmp_path: Path, codec: str) -> None:
    arguments = ["-c:v", codec, "-bf", "2", "-vf", "select='lt(n,30)+not(mod(n,3))'", "-fps_mode", "vfr"]
    info = open_video(made(tmp_path / "film.avi", *arguments, frames=60)).info
    assert abs(float(info.rate) - 59 * 25 / 115) < 0.3 and "frame times vary" in " ".join(info.notices)


def test_frame_times_that_vary_late_in_the_sample_are_noticed(tmp_path: Path) -> None:
    arguments = ["-c:v", "libx264", "-bf", "3", "-vf", "select='lt(n,285)+not(mod(n,2))'", "-fps_mode", "vfr"]
    info = open_video(made(tmp_path / "vfr.mkv", *arguments, frames=330)).info
    assert abs(float(info.rate) - 25 * 329 / (329 + 45)) < 0.2 and "frame times vary" in " ".join(info.notices)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.y4m"])
def test_rates_in_use_come_back_exactly(tmp_path: Path, name: str) -> None:
    clip = noise_clip(16, 16, 30)
    for rate in COMMON_RATES:
        with create_video(tmp_path / name, 16, 16, rate) as out:
            for frame in clip:
                out.write(frame)
        video = open_video(tmp_path / name)
        assert video.info.rate == rate and not any("vary" in notice for notice in video.info.notices)


def test_a_cover_picture_is_no_film(tmp_path: Path) -> None:
    sound, cover = tmp_path / "song.m4a", tmp_path / "cover.png"
    made(cover, frames=1)
    inputs = ["-f", "lavfi", "-i", "sine=duration=1", "-i", str(cover), "-map", "0", "-map", "1"]
    ffmpeg.run([*inputs, "-c:a", "aac", "-c:v", "copy", "-disposition:v", "attached_pic", str(sound)])
    with pytest.raises(VideoError, match=r"holds no video \(audio only\)"):
        open_video(sound)


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with create_video("12:30.mkv", 16, 16, Fraction(25)) as out:
        out.write(noise_clip(16, 16, 1)[0])
    assert len(list(open_video("12:30.mkv"))) == 1


def test_damage_that_libav_notices_is_not_passed_over(tmp_path: Path) -> None:
    film = made(tmp_path / "film.avi", "-c:v", "mpeg4", frames=25)
    data = bytearray(film.read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 64):
        data[place] ^= 0x5A
    film.write_bytes(data)
    with pytest.raises(VideoError, match="damaged"):
        list(open_video(film))


def test_raw_options_on_a_film_are_refused(tmp_path: Path) -> None:
    film = made(tmp_path / "film.mp4")
    with pytest.raises(UsageError, match="says its size itself"):
        open_video(film, raw=RawVideo(16, 16))


def test_grey_comes_out_grey(tmp_path: Path) -> None:
    grey = made(tmp_path / "grey.mkv", "-c:v", "ffv1", "-pix_fmt", "gray", "-color_range", "pc", frames=1)
    with av.open(str(grey)) as container:
        expected = next(container.decode(video=0)).to_ndarray()
    frame = next(iter(open_video(grey)))
    assert np.abs(frame.astype(int) - expected[..., None]).max() <= 1


def test_alpha_is_composited_onto_black_and_said(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (16, 24, 4), dtype=np.uint8)
    path = tmp_path / "alpha.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "bgra"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")))
        container.mux(stream.encode(None))
    video = open_video(path)
    expected = np.rint(rgba[..., :3] * (rgba[..., 3:] / 255))
    assert np.abs(next(iter(video)) - expected).max() <= 0.51
    assert "alpha is composited onto black" in video.info.notices


def test_what_is_not_carried_is_said(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    sound = ["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac"]
    ffmpeg.run([*TEST_PICTURE, *sound, "-t", "1", "-vf", "setsar=16/15,setparams=color_trc=smpte2084", str(film)])
    notices = " ".join(open_video(film).info.notices)
    assert "audio is not carried" in notices and "16/15" in notices and "HDR" in notices


@pytest.mark.parametrize(("pixel_format", "width", "height"), [("yuv420p", 97, 65), ("yuv420p10le", 64, 48)])
def test_raw_yuv_is_read_by_what_the_caller_says(tmp_path: Path, pixel_format: str, width: int, height: int) -> None:
    clip = smooth_clip(height, width, 3)
    raw = RawVideo(width, height, Fraction(30), pixel_format)  # type: ignore[arg-type]
    with create_video(tmp_path / "clip.yuv", width, height, Fraction(30), pixel_format=raw.pixel_format) as out:
        for frame in clip:
            out.write(frame)
    assert (tmp_path / "clip.yuv").stat().st_size == 3 * raw.frame_bytes()
    video = open_video(tmp_path / "clip.yuv", raw=raw)
    assert largest_difference(list(video), clip) <= 8  # chroma at half resolution
    assert (video.info.rate, video.info.width, video.info.height) == (30, width, height)


def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    clip = noise_clip(8, 8, 12)
    with create_video(tmp_path / "frames", 8, 8, Fraction(25)) as out:
        for frame in clip:
            out.write(frame)
    for index in range(12):
        (tmp_path / "frames" / f"{index:06d}.png").rename(tmp_path / "frames" / f"shot{index}.png")
    video = open_video(tmp_path / "frames", rate=Fraction(50))
    assert (video.info.frames, video.info.rate) == (12, 50)
    assert largest_difference(list(video), clip) == 0


def test_standard_input_is_a_video_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = made(tmp_path / "film.y4m")

    class Pipe(io.RawIOBase):
        buffer = io.BytesIO(film.read_bytes())

    monkeypatch.setattr(sys, "stdin", Pipe())
    assert largest_difference(list(open_video("-")), list(open_video(film))) == 0


# Bad input: one clear sentence each.


def test_files_that_are_no_video_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("This is not a video.\n" * 100)
    (tmp_path / "folder").mkdir()
    ffmpeg.run(["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", str(tmp_path / "sound.mp4")])
    for name, sentence in {
        "empty.mp4": "not a video that can be read",
        "text.mp4": "not a video that can be read",
        "folder": "a folder without PNG files",
        "sound.mp4": r"holds no video \(audio only\)",
        "missing.mp4": "no such file",
    }.items():
        with pytest.raises(VideoError, match=sentence) as raised:
            open_video(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_a_playlist_cannot_make_the_reader_open_other_files(tmp_path: Path) -> None:
    film = made(tmp_path / "film.mp4")
    (tmp_path / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile '{film}'\n")
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n")
    for name in ("list.ffconcat", "list.m3u8"):
        with pytest.raises(VideoError, match="not a video that can be read"):
            open_video(tmp_path / name)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.y4m", "film.avi"])
@pytest.mark.parametrize("kept", [0.75, 0.5])
def test_a_cut_file_gives_its_whole_frames_then_says_so(tmp_path: Path, name: str, kept: float) -> None:
    film = made(tmp_path / name, "-movflags", "+faststart") if name.endswith("mp4") else made(tmp_path / name)
    data = film.read_bytes()
    film.write_bytes(data[: int(kept * len(data))])
    frames = []
    with pytest.raises(VideoError, match=r"damaged|cut"):
        frames.extend(frame for frame in open_video(film))
    assert len(frames) < 12


def test_an_mp4_without_its_index_is_refused(tmp_path: Path) -> None:
    film = made(tmp_path / "film.mp4")
    film.write_bytes(film.read_bytes()[:5000])
    with pytest.raises(VideoError, match=r"not a video|holds no video"):
        open_video(film)


def test_raw_yuv_needs_its_size_and_whole_frames(tmp_path: Path) -> None:
    path = tmp_path / "clip.yuv"
    path.write_bytes(bytes(1000))
    with pytest.raises(UsageError, match="say --size"):
        open_video(path)
    with pytest.raises(VideoError, match="less than one"):
        open_video(path, raw=RawVideo(64, 64))
    with pytest.raises(UsageError, match="not 1 to 16383"):
        open_video(path, raw=RawVideo(0, 64))
    frames = []
    with pytest.raises(VideoError, match="after 2 whole frames"):
        frames.extend(frame for frame in open_video(path, raw=RawVideo(16, 16)))
    assert len(frames) == 2


def test_pictures_of_two_sizes_are_refused(tmp_path: Path) -> None:
    for index, side in enumerate((16, 24)):
        with create_video(tmp_path / f"s{side}", side, side, Fraction(25)) as out:
            out.write(noise_clip(side, side, 1)[0])
        (tmp_path / f"s{side}" / "000000.png").rename(tmp_path / "s16" / f"{index}.png")
    with pytest.raises(VideoError, match="the size must not change"):
        list(open_video(tmp_path / "s16"))
