"""Both codecs through the contract alone: what files, evaluation and the command line rely on."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gnvc_vd
from gnvc_vd.bitstream import BitstreamError, CodecId, Reader, Unit, pack_stream
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.codecs.contract import Codec, parameters_of
from gnvc_vd.codecs.load import load, load_for, load_gvc
from gnvc_vd.conventions import Colour, UsageError
from gnvc_vd.learned.codec import EncodeOptions
from gnvc_vd.video import VideoInfo, create_video, open_video
from gnvc_vd.zeroshot.encoding import GvcEncodeOptions
from gnvc_vd.zeroshot.parameters import Parameters
from gnvc_vd.zeroshot.sde import Schedule
from tests.conftest import smooth_clip

INFO = VideoInfo(16, 16, Fraction(25), None, Colour("bt709", "limited"), "", "")
QUICK = Parameters(codebook=64, schedule=Schedule(steps=2, tail=1))
LEARNED: Codec[EncodeOptions] = load("nano")
ZEROSHOT: Codec[GvcEncodeOptions] = load_gvc("nano")
BOTH = [
    pytest.param(LEARNED, EncodeOptions(gop=5, scenecut=False), id="gnvc-vd"),
    pytest.param(ZEROSHOT, GvcEncodeOptions(3, gop=5, scenecut=False, parameters=QUICK), id="gvc"),
]


def coded(codec: Codec[Any], settings: object, frames: int = 10) -> tuple[list[Unit], bytes]:
    units = list(codec.encode_units(iter(smooth_clip(16, 16, frames)), settings))
    return units, pack_stream(codec.header(INFO, settings), units)


@pytest.mark.parametrize(("codec", "settings"), BOTH)
def test_a_decoder_of_its_header_gives_the_frames_that_decode_gives(codec: Codec[Any], settings: object) -> None:
    units, stream = coded(codec, settings)
    decoder = codec.decoder(codec.header(INFO, settings))
    parts = [part for unit in units for part in decoder.frames(unit)]
    assert np.array_equal(np.concatenate(parts), np.concatenate(list(codec.decode(stream))))
    assert sum(map(len, parts)) == 10


@pytest.mark.parametrize(("codec", "settings"), BOTH)
def test_every_byte_of_a_payload_is_accounted_for(codec: Codec[Any], settings: object) -> None:
    units, _ = coded(codec, settings)
    told = parameters_of(codec.header(INFO, settings))
    for unit in units:
        cost = told.cost(unit)
        assert sum(cost.values()) == len(unit.payload) and min(cost.values()) >= 0
        assert told.cost(replace(unit, enhancement=bytes(77))) == cost | {"enhancement": 77}
    assert told.describe()


@pytest.mark.parametrize(("codec", "settings"), BOTH)
def test_an_enhancement_that_is_not_known_is_skipped(codec: Codec[Any], settings: object) -> None:
    units, plain = coded(codec, settings)
    more = pack_stream(codec.header(INFO, settings), [replace(unit, enhancement=bytes(300)) for unit in units])
    assert len(more) == len(plain) + 2 * (300 + 2)
    assert np.array_equal(*(np.concatenate(list(codec.decode(stream))) for stream in (plain, more)))


@pytest.mark.parametrize("more", [{"policy": 1}, {"rotation": 7}, {"sigma_0": 0.3}, {"canvas": True}])
def test_gvc_refuses_what_its_units_do_not_have(more: dict[str, Any]) -> None:
    settings = GvcEncodeOptions(3, gop=5, scenecut=False, parameters=QUICK)
    (unit, *_), _ = coded(ZEROSHOT, settings, frames=5)
    with pytest.raises(BitstreamError, match="which GVC does not have"):
        ZEROSHOT.decoder(ZEROSHOT.header(INFO, settings)).verify(replace(unit, **more))


@pytest.mark.parametrize(("codec", "settings"), BOTH)
def test_verifying_finds_other_symbols(codec: Codec[Any], settings: object) -> None:
    (unit, *_), _ = coded(codec, settings, frames=5)
    decoder = codec.decoder(codec.header(INFO, settings), pictures=False)
    decoder.verify(unit)
    with pytest.raises(BitstreamError, match="the symbols are not those that were coded"):
        decoder.verify(Unit(0, 5, unit.quality, 0, b"\0\0\0\0", unit.payload))


@pytest.mark.parametrize(("codec", "settings"), BOTH)
def test_one_codec_refuses_the_streams_of_the_other(codec: Codec[Any], settings: object) -> None:
    header = codec.header(INFO, settings)
    other: Codec[Any] = ZEROSHOT if header.codec is CodecId.GNVC_VD else LEARNED
    with pytest.raises(BitstreamError, match="a stream of"):
        other.decoder(header)
    assert type(load_for(header, "nano")) is type(codec)


def test_each_refuses_what_only_the_other_understands() -> None:
    header = ZEROSHOT.header(INFO, GvcEncodeOptions(3, parameters=QUICK))
    for told in (DecodeOptions(steps=2), DecodeOptions(refine=False), DecodeOptions(apart=True)):
        with pytest.raises(UsageError, match="a GVC stream fixes its own steps"):
            ZEROSHOT.decoder(header, told)
    with pytest.raises(UsageError, match="--still-weights is an option of GVC"):
        load_for(LEARNED.header(INFO, EncodeOptions()), "nano", still_weights="weights.safetensors")


def test_the_documented_lines_of_python(tmp_path: Path) -> None:
    with create_video(tmp_path / "in.mkv", 16, 16, Fraction(25)) as writer:
        for frame in smooth_clip(16, 16, 5):
            writer.write(frame)
    codec = gnvc_vd.load("nano")
    blob = codec.encode(gnvc_vd.open_video(tmp_path / "in.mkv"), quality=40)
    with open_video(tmp_path / "in.mkv") as video:
        assert blob == codec.encode(video, gnvc_vd.EncodeOptions(quality=40))
    (unit,) = (part for part in _parts(blob) if isinstance(part, Unit))
    assert unit.quality == 40
    shown = [np.concatenate(list(codec.decode(blob, steps=steps))) for steps in (1, 5)]
    assert np.array_equal(shown[0], np.concatenate(list(codec.decode(blob, gnvc_vd.DecodeOptions(steps=1)))))
    assert shown[1].shape == (5, 16, 16, 3) and not np.array_equal(*shown)
    with pytest.raises(TypeError, match="step"):
        codec.decode(blob, step=5)


def _parts(stream: bytes) -> list[object]:
    import io

    return list(Reader(io.BytesIO(stream)))
