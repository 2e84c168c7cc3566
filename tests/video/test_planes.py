"""The codes as files store them: bit for bit, or None."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gnvc_vd.conventions import Colour
from gnvc_vd.video import RawVideo, create_video, ffmpeg, open_video
from gnvc_vd.video.planes import PlaneConverter
from gnvc_vd.video.reader import RawFormat
from tests.conftest import noise_clip, smooth_clip


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize(("height", "width"), [(34, 50), (35, 51)])
def test_planes_are_the_files_own_bytes(tmp_path: Path, pixel_format: RawFormat, height: int, width: int) -> None:
    path = tmp_path / "clip.yuv"
    raw = RawVideo(width, height, Fraction(25), pixel_format)
    codes = np.random.default_rng(0).integers(16, 236, 3 * raw.frame_bytes() // (1 if pixel_format == "yuv420p" else 2))
    path.write_bytes(codes.astype("u1" if pixel_format == "yuv420p" else "<u2").tobytes())
    with open_video(path, raw) as video:
        planes = [picture.planes for picture in video.pictures()]
    assert len(planes) == 3 and all(one is not None and one.pixel_format == pixel_format for one in planes)
    assert b"".join(one.tobytes() for one in planes if one is not None) == path.read_bytes()
    first = planes[0]
    assert first is not None and first.codes[0].shape == (height, width)
    assert first.codes[1].shape == first.codes[2].shape == ((height + 1) // 2, (width + 1) // 2)
    assert first.peak == (255 if pixel_format == "yuv420p" else 1023)


def test_pictures_are_the_frames_in_order(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    clip = noise_clip(20, 30, 3)
    with create_video(path, 30, 20, Fraction(25)) as writer:
        for frame in clip:
            writer.write(frame)
    with open_video(path) as video:
        pictures = list(video.pictures())
    assert all(np.array_equal(one.rgb, frame) for one, frame in zip(pictures, clip, strict=True))
    assert [one.planes for one in pictures] == [None] * 3  # RGB is stored


def test_turned_frames_have_no_planes(tmp_path: Path) -> None:
    upright, turned = tmp_path / "upright.mp4", tmp_path / "turned.mp4"
    with create_video(upright, 48, 32, Fraction(25)) as writer:
        writer.write(smooth_clip(32, 48, 1)[0])
    ffmpeg.run(["-display_rotation", "90", "-i", str(upright), "-c", "copy", str(turned)])
    with open_video(upright) as first, open_video(turned) as second:
        stands, lies = next(first.pictures()), next(second.pictures())
    assert stands.planes is not None and lies.planes is None and lies.rgb.shape == (48, 32, 3)


def test_rgb_becomes_the_planes_that_a_file_would_hold(tmp_path: Path) -> None:
    clip = smooth_clip(35, 51, 2)
    colour = Colour("bt2020", "full")
    with create_video(tmp_path / "clip.yuv", 51, 35, Fraction(25), colour) as writer:
        for frame in clip:
            writer.write(frame)
    convert = PlaneConverter(colour)
    converted = [convert(frame) for frame in clip]
    assert b"".join(one.tobytes() for one in converted) == (tmp_path / "clip.yuv").read_bytes()
    assert (converted[0].colour, converted[0].pixel_format) == (colour, "yuv420p")
