"""Photographs: the right colours, the right way up, and no file that ends the process."""

import io
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from gnvc_vd.video import VideoError
from gnvc_vd.video.pictures import picture_size, read_picture
from tests.conftest import noise_clip, smooth_clip


def test_png_comes_back_exactly(tmp_path: Path) -> None:
    picture = noise_clip(37, 53, 1)[0]
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png") == picture).all()


def test_jpeg_has_the_colours_of_its_standard(tmp_path: Path) -> None:
    """JFIF is full-range BT.601 whatever the size; Pillow's decoder is the reference."""
    picture = smooth_clip(736, 64, 1)[0]
    for sampling, bound in (("4:4:4", 3), ("4:2:0", 4)):
        Image.fromarray(picture).save(tmp_path / "a.jpg", quality=95, subsampling=sampling)
        reference = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB")).astype(int)
        assert np.abs(read_picture(tmp_path / "a.jpg") - reference).max() <= bound


def test_grey_and_alpha_become_colour(tmp_path: Path) -> None:
    grey = noise_clip(16, 16, 1)[0][..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert (read_picture(tmp_path / "grey.png") == grey[..., None]).all()
    half = np.full((8, 8, 4), 128, dtype=np.uint8)
    Image.fromarray(half).save(tmp_path / "half.png")
    assert (read_picture(tmp_path / "half.png") == 64).all()


def test_a_size_is_read_without_decoding(tmp_path: Path) -> None:
    """The pixels may be missing, which is damage for the decoder; a header that lacks the size is damage for both."""
    picture = noise_clip(37, 53, 1)[0]
    colours, grey = Image.fromarray(picture), Image.fromarray(picture[..., 0])
    for image, name, options in ((colours, "a.png", {}), (grey, "b.png", {}), (colours, "c.jpg", {}),
                                 (grey, "d.jpg", {}), (colours, "e.jpg", {"progressive": True})):  # fmt: skip
        path = tmp_path / name
        image.save(path, **options)
        assert picture_size(path) == read_picture(path).shape[:2] == (37, 53)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 3 // 4])
        if name.endswith(".jpg"):
            assert picture_size(path) == (37, 53)
        with pytest.raises(VideoError, match="damaged or cut"):
            read_picture(path)
        path.write_bytes(data[:20])
        with pytest.raises(VideoError, match="damaged or cut"):
            picture_size(path)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_quarter_turns_are_applied(tmp_path: Path, orientation: int, turns: int) -> None:
    picture = smooth_clip(48, 32, 1)[0]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=98, subsampling="4:4:4", exif=exif)
    assert np.abs(read_picture(tmp_path / "a.jpg").astype(int) - np.rot90(picture, turns)).max() < 8


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_colour_profile_does_not_end_the_process(tmp_path: Path, name: str) -> None:
    """PyAV 18 frees a profile's name twice if it is looked at: what dies is the process, when garbage is collected."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number in range(3):
        Image.fromarray(noise_clip(16, 16, 1)[0]).save(tmp_path / f"{number}{name}", icc_profile=profile)
    code = f"""
import gc, sys
from pathlib import Path
from gnvc_vd.video import open_video
from gnvc_vd.video.pictures import picture_size, read_picture
for path in sorted(Path({str(tmp_path)!r}).iterdir()):
    read_picture(path)
    if path.suffix == ".png":
        next(iter(open_video(path)))
    gc.collect()
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "alive", done.stderr[-300:]


def test_bad_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(noise_clip(64, 64, 1)[0]).save(whole, "png")
    data = whole.getvalue()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 255
    huge = bytearray(data)
    huge[16:24] = (60000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    cases = {
        "cut": data[: len(data) // 2],
        "flipped": bytes(flipped),
        "text": b"hello",
        "empty": b"",
        "huge": bytes(huge),
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError):
            read_picture(tmp_path / name)
    Image.new("1", (8192, 6000)).save(tmp_path / "many.png")  # a whole picture, of more pixels than are accepted
    with pytest.raises(VideoError):
        read_picture(tmp_path / "many.png")
    with pytest.raises(VideoError, match="No such file"):
        read_picture(tmp_path / "missing.png")
