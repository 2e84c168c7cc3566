"""The codec that comes with the package: its files, a stream that was committed, and what it does to unseen clips."""

import hashlib
import os
import shutil
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from gnvc_vd import load
from gnvc_vd.backbone import sources
from gnvc_vd.backbone.weights import Options
from gnvc_vd.bitstream import BitstreamError, CodecId, Header, Unit, pack_stream
from gnvc_vd.bitstream.playback import DecodeOptions, check_weights
from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.codecs.info import as_text, inspect
from gnvc_vd.codecs.load import ADAPTOR_FILE, CODEC_FILE, highest_refined_quality
from gnvc_vd.conventions import Colour, Frame, GnvcError, UsageError
from gnvc_vd.evaluate.test_sets import CLIPS
from gnvc_vd.learned.bottleneck.kinds import bottleneck_of
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.presets import preset
from gnvc_vd.train.checkpoint import fill
from gnvc_vd.train.stages.codec_stage import START
from gnvc_vd.video import Video, open_video
from tests.backbone.test_tiny_backbone import REFRESH, golden

STREAM = Path(__file__).parents[1] / "golden" / "tiny.gnvc"
FIRST_EDITION = STREAM.with_name("tiny_v1.gnvc")
ASSETS = Path(sources.__file__).parent.parent / "assets" / "tiny"
# PSNR in dB, without refinement, 25 frames of 256 × 144 in one GOP: of bunny at 0.0125 bits per pixel, between two
# qualities; of city, where it does not go so low, at its lowest, 0.0160.
FIRST_EDITION_AT = {"bunny": 22.48, "city": 15.89}
LARGEST = 48e6  # bytes, of everything that is tiny's or tiny-contextual's
FRAMES, TOP, LEFT, HEIGHT, WIDTH = 13, 26, 64, 128, 192


@pytest.fixture(scope="module")
def tiny() -> GnvcVd:
    return load()


@cache
def clip(name: str) -> tuple[Frame, ...]:
    with open_video(CLIPS / f"{name}.mp4") as video:
        return tuple(frame[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] for frame in islice(video, FRAMES))


def units(codec: GnvcVd, name: str, quality: int) -> list[Unit]:
    return list(codec.encode_units(iter(clip(name)), EncodeOptions(quality, scenecut=False)))


def shown(codec: GnvcVd, stream: bytes, decoding: DecodeOptions) -> Frame:
    return np.concatenate(list(codec.decode(stream, decoding)))


def stream_of(codec: GnvcVd, name: str, quality: int) -> bytes:
    with open_video(CLIPS / f"{name}.mp4") as video:
        header = codec.header(replace(video.info, width=WIDTH, height=HEIGHT), EncodeOptions(quality))
    return pack_stream(header, units(codec, name, quality))


def test_it_is_the_default_and_its_files_are_those_that_were_committed(tiny: GnvcVd) -> None:
    assert tiny.name == "tiny" and tiny.note == ""
    found = {name: hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() for name in (CODEC_FILE, ADAPTOR_FILE)}
    assert golden("codec sha256", found) == found
    shipped = [path for path in ASSETS.parent.glob("tiny*/*.safetensors")]
    assert sum(path.stat().st_size for path in shipped) <= LARGEST


def test_the_golden_stream_decodes_to_its_symbols_and_pictures(tiny: GnvcVd) -> None:
    """Each unit has the hash of its symbols in it, and decoding compares them."""
    if os.environ.get(REFRESH):
        STREAM.write_bytes(stream_of(tiny, "bunny", 20))
    stream, original = STREAM.read_bytes(), np.stack(clip("bunny"))
    for refine in (True, False):
        found = psnr(original, shown(tiny, stream, DecodeOptions(refine=refine)))
        assert found == pytest.approx(golden(f"psnr stream refined {refine}", round(found, 3)), abs=0.05)


@pytest.mark.parametrize("name", ["bunny", "city"])
def test_quality_buys_pictures_with_bits(tiny: GnvcVd, name: str) -> None:
    streams = [stream_of(tiny, name, quality) for quality in (0, 20, 42, 63)]
    ratios = [psnr(np.stack(clip(name)), shown(tiny, stream, DecodeOptions())) for stream in streams]
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
        shown(codec, STREAM.read_bytes(), DecodeOptions())


@pytest.mark.parametrize(("name", "quality"), [("bunny", 22), ("city", 18)])
def test_before_its_first_step_it_is_ahead_of_the_first_editions_codec(tiny: GnvcVd, name: str, quality: int) -> None:
    """The transform code as it was measured, and a codec that was trained for hours, both as decoded."""
    started = bottleneck_of(tiny.bottleneck.preset, tiny.bottleneck.thrift)
    fill(started.initial_tensors(), ASSETS / START)
    started.freeze()
    codec = replace(tiny, bottleneck=started.eval())
    with open_video(CLIPS / f"{name}.mp4") as video:
        top, left = (video.info.height - 144) // 2, (video.info.width - 256) // 2
        frames = [frame[top : top + 144, left : left + 256] for frame in islice(video, 25)]
        cropped = Video(replace(video.info, width=256, height=144), ((frame, None) for frame in frames))
        stream = codec.encode(cropped, EncodeOptions(quality, scenecut=False, canvas="off"))
    bpp = 8 * len(stream) / (25 * 144 * 256)
    decoded = shown(codec, stream, DecodeOptions(refine=False))
    assert bpp <= 0.0125 and psnr(np.stack(frames), decoded) > FIRST_EDITION_AT[name]


@pytest.mark.parametrize("quality", [0, 40])
def test_in_bfloat16_its_pictures_are_the_same_to_what_can_be_seen(tiny: GnvcVd, quality: int) -> None:
    """With a refiner and without: what rounding adds is a hundredth of the codec's own error."""
    original, stream = np.stack(clip("bunny")), stream_of(tiny, "bunny", quality)
    low = load("tiny", Options(vae_decoder=torch.bfloat16, transformer=torch.bfloat16))
    exact, rounded = (shown(codec, stream, DecodeOptions()) for codec in (tiny, low))
    assert not np.array_equal(exact, rounded) and psnr(exact, rounded) > psnr(original, exact) + 20


def test_it_refines_up_to_the_quality_that_its_folder_says_unless_asked(tiny: GnvcVd) -> None:
    highest = tiny.refinement.highest_quality
    assert (
        tiny.refines
        and highest_refined_quality() == highest
        and 0 < highest < 63
        and highest_refined_quality("nano") == 63
    )
    for quality, by_default in ((highest, True), (highest + 1, False)):
        stream = stream_of(tiny, "city", quality)
        as_decoded, asked = (shown(tiny, stream, DecodeOptions(**way)) for way in ({"refine": False}, {"steps": 1}))
        assert np.array_equal(shown(tiny, stream, DecodeOptions()), asked if by_default else as_decoded)
        assert not np.array_equal(asked, as_decoded)


def test_its_streams_start_to_refine_where_each_gop_s_error_says(tiny: GnvcVd) -> None:
    starts = [units(tiny, "bunny", quality)[0].sigma_0 for quality in (0, 31, 63)]
    assert all(start is not None for start in starts) and starts == sorted(starts, reverse=True)


def test_without_a_refiner_steps_are_refused(tiny: GnvcVd) -> None:
    bare = replace(tiny, refinement=replace(tiny.refinement, steps=0))
    stream = stream_of(bare, "city", 20)
    assert np.array_equal(shown(bare, stream, DecodeOptions()), shown(bare, stream, DecodeOptions(refine=False)))
    for wish in (DecodeOptions(steps=1), DecodeOptions(apart=True)):
        with pytest.raises(UsageError, match="tiny was trained without a refiner"):
            shown(bare, stream, wish)
    with open_video(CLIPS / "bunny.mp4") as video, pytest.raises(UsageError, match="its streams cannot be refined"):
        bare.header(video.info, EncodeOptions(refinement=Refinement(steps=1)))


def test_the_published_design_stands_on_the_same_backbone() -> None:
    contextual, tiny = load("tiny-contextual"), load()
    assert contextual.name == "tiny-contextual" and contextual.bottleneck.preset == preset("tiny").contextual
    assert contextual.backbone.hashes == tiny.backbone.hashes and contextual.refines
    assert not (ASSETS.parent / "tiny-contextual" / "dit.safetensors").exists()
    stream = stream_of(contextual, "bunny", 27)
    size, ratio = len(stream), psnr(np.stack(clip("bunny")), shown(contextual, stream, DecodeOptions()))
    assert [size, ratio] == pytest.approx(golden("contextual bytes and psnr", [size, round(ratio, 3)]), abs=0.05)
    with pytest.raises(BitstreamError, match="coded with model"):
        shown(tiny, stream, DecodeOptions())


def test_a_stream_of_its_first_edition_says_where_that_is() -> None:
    """Of container version 1 too, which is read as ever."""
    found = inspect(str(FIRST_EDITION))
    assert found.header.version == 1 and not found.damages
    assert "parameters 01146407000000, version 1\n" in as_text(found)
    where = r"\(--model with tiny's first edition, gnvc_vd/assets/tiny of commit e57d395\)"
    for pictures in (True, False):
        with pytest.raises(BitstreamError, match=rf"coded with model 440f491f2d6dfda0; tiny is \w+ {where}"):
            load().decoder(found.header, pictures=pictures)
    sizes = 16, 16, Fraction(25), Colour("bt709", "limited")
    zero_shot = Header(CodecId.GVC, bytes(8), bytes.fromhex("b8b34dd9"), *sizes, b"")
    with pytest.raises(BitstreamError, match=rf"tiny has 00000000 and would show wrong .* {where}"):
        check_weights(zero_shot, bytes(4), "tiny")
