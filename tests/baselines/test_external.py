"""A codec behind templates."""

import json
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from gnvc_vd.baselines.commands import SOURCE, Clip, Commands, StatedRate, code
from gnvc_vd.baselines.external import External
from gnvc_vd.conventions import Colour, GnvcError, UsageError
from gnvc_vd.evaluate.sequences import make_source
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.video import create_video, open_video
from tests.conftest import smooth_clip

CLIP = Clip(32, 48, 3, Fraction(25), Colour("bt601", "limited"))
CODEC = """
import pathlib, sys, zlib
verb, drop, source, target = sys.argv[1:]
data = pathlib.Path(source).read_bytes()
if verb == "encode":
    kept = bytes(code >> int(drop) << int(drop) for code in data)
    pathlib.Path(target).write_bytes(zlib.compress(kept, 9))
else:
    pathlib.Path(target).write_bytes(zlib.decompress(data))
"""
BOTH = """
import json, pathlib, shutil
told = json.load(open("c.json"))
shutil.copytree("source", told["to"])
pathlib.Path("q%s.bin" % told["q"]).write_bytes(b"12345")
"""


def folder_with_source(folder: Path) -> Path:
    folder.mkdir()
    with create_video(folder / "film.mkv", CLIP.width, CLIP.height, CLIP.rate) as out:
        for frame in smooth_clip(CLIP.height, CLIP.width, CLIP.frames):
            out.write(frame)
    make_source(folder / "film.mkv", folder / SOURCE, CLIP.frames)
    return folder


def shifting(**changes: object) -> External:
    """A codec that drops $level bits of every code and packs the rest."""
    words = f"{sys.executable} $checkout/codec.py"
    told = {"encode": f"{words} encode $level source.yuv 'a stream'", "decode": f"{words} decode 0 'a stream' out.yuv"}
    return External(**{"levels": (0, 4), "stream": "a stream", "decoded": "out.yuv", **told, **changes})  # type: ignore[arg-type]


def test_bytes_and_pictures_of_a_codec_behind_a_template(tmp_path: Path) -> None:
    (tmp_path / "codec.py").write_text(CODEC)
    sizes = []
    for level in (0, 4):
        folder = folder_with_source(tmp_path / str(level))
        codec = shifting(checkout=str(tmp_path))
        done = code(codec.commands(CLIP, level, folder), CLIP, folder)
        sizes.append(done.stream.stat().st_size)
        with open_video(folder / SOURCE) as before, open_video(done.decoded) as after:
            assert before.info.colour == after.info.colour == CLIP.colour
            pairs = list(zip(before.pictures(), after.pictures(), strict=True))
        for one, other in pairs:
            assert one.planes and other.planes and len(pairs) == CLIP.frames
            for x, y in zip(one.planes.codes, other.planes.codes, strict=True):
                assert (y == x >> level << level).all() and psnr(x, y) >= (100 if level == 0 else 27)
    assert sizes[1] < sizes[0]


def test_a_codec_of_pictures_and_one_that_writes_both_at_once(tmp_path: Path) -> None:
    """Reads a folder of PNGs; one command makes stream and pictures, named by patterns, from a file it was given."""
    (tmp_path / "both.py").write_text(BOTH)
    codec = External(
        levels=(7,),
        encode=f"{sys.executable} {tmp_path}/both.py",
        reads="png",
        stream="q$level*.bin",
        decoded="rec_${width}x*",
        files={"c.json": '{"to": "rec_${width}x$height", "q": $level}'},
    )
    folder = folder_with_source(tmp_path / "clip")
    done = code(codec.commands(CLIP, 7, folder), CLIP, folder)
    assert done.stream.stat().st_size == 5 and done.decode_seconds == 0
    with open_video(folder / SOURCE) as before, open_video(done.decoded) as after:
        assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_what_a_template_gets_wrong_is_said(tmp_path: Path) -> None:
    folder = folder_with_source(tmp_path / "clip")
    (tmp_path / "codec.py").write_text(CODEC)
    with pytest.raises(UsageError, match=r"\$levle.* holds something else than \$width"):
        shifting(encode="codec $levle").commands(CLIP, 1, folder)
    for levels in ((), (1, 1)):
        with pytest.raises(UsageError, match="each once"):
            shifting(levels=levels)
    with pytest.raises(UsageError, match="reads mkv, yuv, png"):
        shifting(reads="bmp")
    missing = shifting(checkout=str(tmp_path), stream="other").commands(CLIP, 1, folder)
    with pytest.raises(GnvcError, match="0 files match other"):
        code(missing, CLIP, folder)
    short = shifting(checkout=str(tmp_path), decode=f"{sys.executable} -c \"open('out.yuv','w').write('abc')\"")
    with pytest.raises(GnvcError, match=r"out\.yuv: 3 bytes are not 3 frames of 2304 bytes"):
        code(short.commands(CLIP, 1, folder), CLIP, folder)


@pytest.mark.parametrize("made", ["touch", "mkdir"])
def test_what_has_no_bytes_has_no_rate(made: str, tmp_path: Path) -> None:
    folder = folder_with_source(tmp_path / "clip")
    encode = f"{sys.executable} -c \"import pathlib; pathlib.Path('s').{made}()\""
    codec = External((1,), encode, stream="s", decoded="source.yuv")
    with pytest.raises(GnvcError, match="s is empty or not a file"):
        code(codec.commands(CLIP, 1, folder), CLIP, folder)


def test_files_may_be_named_with_their_folder(tmp_path: Path) -> None:
    (tmp_path / "codec.py").write_text(CODEC)
    folder = folder_with_source(tmp_path / "clip")
    codec = shifting(checkout=str(tmp_path), stream="$folder/a stream", decoded="$folder/out.y*")
    assert code(codec.commands(CLIP, 0, folder), CLIP, folder).stream == folder / "a stream"


def test_two_rates_that_are_stated_in_the_same_files_both_count(tmp_path: Path) -> None:
    """An intra picture at 2 bits a pixel and an inter picture at 1, told apart by the expression alone."""
    names = ("im1_i_bpp_2.png", "im2_p_bpp_1.png", "decoded.mkv")
    folder = folder_with_source(tmp_path / "stated")
    encode = (sys.executable, "-c", f"[open(name, 'w') for name in {names}]")
    stated = tuple(StatedRate("im*.png", rf"_{kind}_bpp_([0-9.]+)[.]png") for kind in "ip")
    done = code(Commands(encode, (), "rate.json", stated=stated), CLIP, folder)
    pixels = CLIP.width * CLIP.height
    assert done.bytes == 3 * pixels / 8
    assert json.loads(done.stream.read_text()) == [["im*.png", 2 * pixels], ["im*.png", pixels]]
