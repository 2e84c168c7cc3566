"""The codec that comes with the package: its files, a stream that was committed, and what it does to unseen clips."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from gnvc_vd import load
from gnvc_vd.backbone import sources
from gnvc_vd.bitstream import Unit, whole_stream
from gnvc_vd.bitstream.playback import Decoding
from gnvc_vd.codecs.load import ADAPTOR_FILE, CODEC_FILE
from gnvc_vd.conventions import Frame, GnvcError
from gnvc_vd.evaluate.test_sets import CLIPS
from gnvc_vd.learned.codec import Encoding, GnvcVd
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.video import open_video
from tests.backbone.test_tiny_backbone import REFRESH, golden

STREAM = Path(__file__).parents[1] / "golden" / "tiny.gnvc"
ASSETS = Path(sources.__file__).parent.parent / "assets" / "tiny"
LARGEST = 24e6  # bytes, of everything that is tiny's
FRAMES, TOP, LEFT, HEIGHT, WIDTH = 13, 26, 64, 128, 192


@pytest.fixture(scope="module")
def tiny() -> GnvcVd:
    return load()


@cache
def clip(name: str) -> tuple[Frame, ...]:
    with open_video(CLIPS / f"{name}.mp4") as video:
        return tuple(frame[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] for frame in islice(video, FRAMES))


def units(codec: GnvcVd, name: str, quality: int) -> list[Unit]:
    return list(codec.encode_units(iter(clip(name)), Encoding(quality, scenecut=False)))


def shown(codec: GnvcVd, stream: bytes, decoding: Decoding) -> Frame:
    return np.concatenate(list(codec.decode(stream, decoding)))


def stream_of(codec: GnvcVd, name: str, quality: int) -> bytes:
    with open_video(CLIPS / f"{name}.mp4") as video:
        header = codec.header(replace(video.info, width=WIDTH, height=HEIGHT), Encoding(quality))
    return whole_stream(header, units(codec, name, quality))


def test_it_is_the_default_and_its_files_are_those_that_were_committed(tiny: GnvcVd) -> None:
    assert tiny.name == "tiny" and tiny.note == ""
    found = {name: hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() for name in (CODEC_FILE, ADAPTOR_FILE)}
    assert golden("codec sha256", found) == found
    assert sum(path.stat().st_size for path in ASSETS.glob("*.safetensors")) <= LARGEST


def test_the_golden_stream_decodes_to_its_symbols_and_pictures(tiny: GnvcVd) -> None:
    """Each unit has the hash of its symbols in it, and decoding compares them."""
    if os.environ.get(REFRESH):
        STREAM.write_bytes(stream_of(tiny, "bunny", 20))
    stream, original = STREAM.read_bytes(), np.stack(clip("bunny"))
    for refine in (True, False):
        found = psnr(original, shown(tiny, stream, Decoding(refine=refine)))
        assert found == pytest.approx(golden(f"psnr stream refined {refine}", round(found, 3)), abs=0.05)


@pytest.mark.parametrize("name", ["bunny", "city"])
def test_quality_buys_pictures_with_bits(tiny: GnvcVd, name: str) -> None:
    streams = [stream_of(tiny, name, quality) for quality in (0, 20, 42, 63)]
    ratios = [psnr(np.stack(clip(name)), shown(tiny, stream, Decoding())) for stream in streams]
    sizes = [len(stream) for stream in streams]
    assert sizes == sorted(sizes) and ratios == sorted(ratios) and ratios[-1] > ratios[0] + 0.3
    assert sizes[-1] > 2 * sizes[0]


@pytest.mark.parametrize("file", [CODEC_FILE, ADAPTOR_FILE])
def test_a_changed_byte_is_refused(tmp_path: Path, file: str) -> None:
    shutil.copytree(ASSETS, tmp_path / "tiny")
    changed = tmp_path / "tiny" / file
    changed.write_bytes(changed.read_bytes()[:-1] + bytes([changed.read_bytes()[-1] ^ 1]))
    with pytest.raises(GnvcError, match=file.replace(".", r"\.")):
        codec = load(tmp_path / "tiny")
        shown(codec, STREAM.read_bytes(), Decoding())


def test_it_says_how_it_is_refined(tiny: GnvcVd) -> None:
    told = json.loads((ASSETS / "model.json").read_text())["codec"]["refinement"]
    way = tiny.refinement
    assert (way.sigma_0, way.noise_scale) == (told["sigma_0"], told["noise_scale"]) == (0.1, 0.5)
    assert way.steps == 1
