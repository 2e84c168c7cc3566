"""Templates of other people's codecs, each run with a stand-in that takes the program's options and no others.

A stand-in writes the files that the program writes, under the names that it gives them, so a template that asks for
other options, or looks elsewhere, fails here. The programs themselves need CUDA or hours.
"""

import math
import stat
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

import gnvc_vd
from gnvc_vd.baselines.commands import SOURCE, Clip, StatedRate, code
from gnvc_vd.baselines.external import External
from gnvc_vd.conventions import Colour, GnvcError, UsageError
from gnvc_vd.evaluate.evaluation import evaluation_of
from gnvc_vd.evaluate.sequences import make_source
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.video import create_video, open_video
from tests.conftest import smooth_clip
from tests.train.composing import composed_of

CONFIGS = Path(gnvc_vd.__file__).parents[1] / "configs"
ANCHORS = sorted({path.stem for path in (CONFIGS / "evaluate" / "anchors").glob("*.yaml")} - {"vvenc-slow"})
CLIP = Clip(96, 80, 3, Fraction(30000, 1001), Colour("bt709", "limited"))

# JVET's encoders and decoders: options as they spell them, and a configuration file that must be there.
JVET = """
import argparse, pathlib, zlib
parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("-b", required=True)
parser.add_argument("-o", required=True)
if "Encoder" in __file__:
    parser.add_argument("-c", required=True)
    parser.add_argument("-f", type=int, required=True)
    parser.add_argument("-q", type=int, required=True)
    for name in ("SourceWidth", "SourceHeight", "FrameRate", "InputBitDepth", "OutputBitDepth", "IntraPeriod"):
        parser.add_argument("--" + name, type=int, required=True)
    for name in ("InputFile", "Level", "DecodingRefreshType", "SEIDecodedPictureHash"):
        parser.add_argument("--" + name, required=True)
    told = parser.parse_args()
    assert pathlib.Path(told.c).is_file() and told.FrameRate in (30, 120) and told.q in (37, 47)
    data = bytes(code >> (told.q > 37) << (told.q > 37) for code in pathlib.Path(told.InputFile).read_bytes())
    assert len(data) == told.f * told.SourceWidth * told.SourceHeight * 3 // 2 and told.InputBitDepth == 8
    pathlib.Path(told.o).write_bytes(b"what the encoder shows")
    pathlib.Path(told.b).write_bytes(zlib.compress(data))
else:
    parser.add_argument("-d", type=int, required=True)
    told = parser.parse_args()
    assert told.d == 8
    pathlib.Path(told.o).write_bytes(zlib.decompress(pathlib.Path(told.b).read_bytes()))
"""

# DCVC's test script, and those that began as it: a list of sequences in JSON, files named after sequence and level.
SCRIPT = """
import argparse, json, pathlib, shutil
parser = argparse.ArgumentParser(allow_abbrev=False)
for name in OPTIONS.split():
    parser.add_argument("--" + name)
parser.add_argument("-w", "--worker")
told = parser.parse_args()
level = told.LEVEL
for path in (told.model_path_i, told.model_path_p):
    assert pathlib.Path(path).is_file(), path
listed = json.load(open(told.test_config))
(set_name, described), = listed["test_classes"].items()
(name, sequence), = described["sequences"].items()
source = pathlib.Path(listed["root_path"]) / described["base_path"] / name
out = pathlib.Path(told.stream_path) / set_name
out.mkdir(parents=True)
if described["src_type"] == "yuv420":
    data = source.read_bytes()
    assert len(data) == sequence["frames"] * sequence["width"] * sequence["height"] * 3 // 2
    (out / (name + "_q" + level + ".bin").replace(".bin", ".yuv").replace(".yuv", "_12kbps.yuv")).write_bytes(data)
else:
    frames = out / (name + "_q" + level) if GLC else out
    frames.mkdir(exist_ok=True)
    for number in range(1, sequence["frames"] + 1):
        picture = "im%05d.png" % number
        shutil.copy(source / picture, frames / picture)
log = {"frame_pixel_num": 1, "ave_i_frame_bpp": 0.5, "ave_all_frame_bpp": 0.0123456789}
(out / (name + "_q" + level + ".json")).write_text(json.dumps(log, indent=2))
if not GLC:
    (out / (name + "_q" + level + ".bin")).write_bytes(b"x" * (100 + int(level)))
"""
OPTIONS = {
    "dcvc-rt": "force_zero_thres model_path_i model_path_p rate_num qp_i qp_p force_intra force_frame_num "
    "force_intra_period reset_interval test_config force_root_path cuda cuda_idx calc_ssim write_stream check_existing "
    "stream_path save_decoded_frame output_path verbose_json verbose",
    "dcvc-uf": "skip_thres model_path_i model_path_p rate_num qp_i qp_p force_intra force_frame_num force_intra_period "
    "reset_interval test_config force_root_path model_structure cuda_idx calc_ssim check_existing stream_path "
    "save_decoded_frame output_path verbose_json verbose",
    "glc-video": "force_zero_thres model_path_i model_path_p vqgan_pretrain_path rate_num q_indexes_i q_indexes_p "
    "force_intra force_frame_num force_intra_period rate_gop_size reset_interval test_config force_root_path float16 "
    "cuda cuda_idx calc_ssim check_existing stream_path save_decoded_frame output_path verbose_json verbose hyperK",
}
OPTIONS["gvc-rt"] = OPTIONS["dcvc-rt"]
SCRIPTS = {name: "test_video_gvcrt_1088.py" if name == "gvc-rt" else "test_video.py" for name in OPTIONS}

S2VC = """
import argparse, pathlib, shutil
parser = argparse.ArgumentParser(allow_abbrev=False)
for name in ("config_path", "output_base_path", "i_ckpt_path", "ckpt_path", "ds_name", "qp_name", "video_ds_folder"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--n_frame", type=int)
parser.add_argument("--n_reset", type=int)
told = parser.parse_args()
assert all(pathlib.Path(path).exists() for path in (told.config_path, told.i_ckpt_path, told.ckpt_path))
for source in pathlib.Path(told.video_ds_folder).iterdir():
    pictures = sorted(source.glob("*.png"))[:told.n_frame] if source.is_dir() else []
    out = pathlib.Path(told.output_base_path) / told.ds_name / source.name / told.qp_name
    for number, picture in enumerate(pictures, 1):
        out.mkdir(parents=True, exist_ok=True)
        bpp = 0.25 if number == 1 else 8 * 17 / (96 * 80)  # the I frame's estimate; a P frame's stream of 17 bytes
        shutil.copy(picture, out / f"im{number:05d}_bpp_{bpp:.6f}.png")
"""


def composed(name: str) -> External:
    """A template as an evaluation gets it, with every interpolation resolved."""
    external = evaluation_of(composed_of("evaluate", "experiment=small", f"+anchors=[{name}]")[0]).codecs[name].external
    assert external is not None
    return external


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def standing_in(name: str, codec: External, checkout: Path) -> None:
    """Stand-ins where the template looks for programs, and the files that they want."""
    program(checkout / ".venv" / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for stem in ("TAppEncoderStatic", "TAppDecoderStatic", "EncoderAppStatic", "DecoderAppStatic"):
        program(checkout / "bin" / stem, f"#!{sys.executable}\n{JVET}")
    if name in OPTIONS:
        head = f"OPTIONS, GLC = {OPTIONS[name]!r}, {name == 'glc-video'}\n"
        level = "q_indexes_p" if name == "glc-video" else "qp_p"
        program(checkout / SCRIPTS[name], head + SCRIPT.replace("LEVEL", level))
    program(checkout / "src" / "inference.py", S2VC)
    for word in codec.commands(CLIP, codec.levels[1], checkout / "work").encode:
        if word.startswith(str(checkout)) and not Path(word).exists():
            path = Path(word)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def clip_folder(tmp_path: Path) -> Path:
    """A folder with CLIP as codecs get it."""
    folder = tmp_path / "clip"
    folder.mkdir()
    with create_video(tmp_path / "film.mkv", CLIP.width, CLIP.height, CLIP.rate) as out:
        for frame in smooth_clip(CLIP.height, CLIP.width, CLIP.frames):
            out.write(frame)
    make_source(tmp_path / "film.mkv", folder / SOURCE, CLIP.frames, colour=CLIP.colour)
    return folder


def test_there_is_a_template_of_every_anchor() -> None:
    assert ANCHORS == ["dcvc-rt", "dcvc-uf", "glc-video", "gvc-rt", "hm-ld", "hm-ra", "s2vc", "vtm-ld", "vtm-ra"]


@pytest.mark.parametrize("name", ANCHORS)
def test_a_template_and_its_program_agree(name: str, tmp_path: Path) -> None:
    codec = replace(composed(name), checkout=str(tmp_path / "checkout"))
    standing_in(name, codec, tmp_path / "checkout")
    folder = clip_folder(tmp_path)
    level = codec.levels[1]
    done = code(codec.commands(CLIP, level, folder), CLIP, folder)
    with open_video(folder / SOURCE) as before, open_video(done.decoded) as after:
        assert all((a == b).all() for a, b in zip(before, after, strict=True))
    pixels = CLIP.width * CLIP.height
    if name == "glc-video":  # its own mean over the frames, of the true size
        assert done.bytes == math.ceil(0.0123456789 * 3 * pixels / 8)
    elif name == "s2vc":  # 96 × 80 is padded to 128 × 128: four cells
        assert done.bytes == pytest.approx((0.25 * 128 * 128 + 14 * 4) / 8 + 2 * 17, abs=1)
    elif name in OPTIONS:
        assert done.bytes == 100 + level
    else:
        assert done.bytes == done.stream.stat().st_size and done.decode_seconds > 0


@pytest.mark.parametrize("structure", ["ld", "ra"])
def test_vvenc_slow_has_vtms_settings_where_it_can(structure: str, tmp_path: Path) -> None:
    evaluation = evaluation_of(composed_of("evaluate", "experiment=small", "+anchors=[vvenc-slow]")[0])
    codec = evaluation.codecs[f"vvenc-slow-{structure}"].hybrid
    assert codec is not None and codec.levels == (32, 37, 42, 47)  # vtm-ld's
    folder = clip_folder(tmp_path)
    commands = codec.commands(CLIP, 47)
    done = code(commands, CLIP, folder)
    said = " ".join(commands.encode)
    assert "-preset slow -qp 47 -qpa 0" in said and ("picreordering=0" in said) == (structure == "ld")
    with open_video(folder / SOURCE) as before, open_video(done.decoded) as after:
        found = [psnr(a, b) for a, b in zip(before, after, strict=True)]
    assert len(found) == CLIP.frames and min(found) > 25 and done.bytes == done.stream.stat().st_size


def test_a_rate_that_is_not_stated_or_not_read_is_said(tmp_path: Path) -> None:
    stated = StatedRate("*.png", r"bpp_([0-9.]+)\.png")
    with pytest.raises(GnvcError, match=r"no file \*\.png states a rate"):
        stated.bits(CLIP, tmp_path)
    (tmp_path / "im1_bpp_0.5.png").touch()
    (tmp_path / "other.png").touch()
    assert stated.bits(CLIP, tmp_path) == 0.5 * 96 * 80
    with pytest.raises(UsageError, match="no regular expression"):
        StatedRate("*", "(")
    with pytest.raises(UsageError, match="one group"):
        StatedRate("*", "bpp")
    with pytest.raises(UsageError, match="values are of every level"):
        External((1, 2), "codec", values={1: {"name": "x"}})
