"""Streams of container version 1, which the code before version 2 wrote: they are read as ever, and never written anew.

They hold `smooth_clip` through nano: GNVC-VD's in GOPs of 9, 9 and 14 frames at quality 55, hierarchical; GVC's in two
of 5, with 7 atoms of 64 in two steps.
"""

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnvc_vd.bitstream import BitstreamError, CodecId, End, Header, Reader, Unit, Writer
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.codecs.load import load_for
from gnvc_vd.conventions import UNSPECIFIED, Colour

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED: dict[str, dict[str, Any]] = json.loads((GOLDEN / "v1.json").read_text())
each = pytest.mark.parametrize("name", EXPECTED)


def header_of(name: str) -> Header:
    said = EXPECTED[name]["header"]
    return Header(
        CodecId[said["codec"]],
        bytes.fromhex(said["coded_identity"]),
        bytes.fromhex(said["shown_identity"]),
        said["width"],
        said["height"],
        Fraction(said["rate"]),
        Colour(said["matrix"], said["range"]),
        bytes.fromhex(said["parameters"]),
        version=1,
    )


def units_in(name: str) -> list[Unit]:
    return [
        Unit(**one | {key: bytes.fromhex(one[key]) for key in ("symbol_hash", "payload")})
        for one in EXPECTED[name]["units"]
    ]


@each
def test_it_holds_what_was_written(name: str) -> None:
    stream = (GOLDEN / f"{name}.gnvc").read_bytes()
    reader = Reader(io.BytesIO(stream))
    assert reader.header == header_of(name) and reader.header.colour.transfer == UNSPECIFIED
    assert list(reader) == [*units_in(name), End(EXPECTED[name]["frames"], len(EXPECTED[name]["units"]))]
    assert reader.bytes_read == len(stream)


@each
def test_it_is_written_again_byte_for_byte(name: str) -> None:
    written = io.BytesIO()
    writer = Writer(written, header_of(name))
    for unit in units_in(name):
        writer.write(unit)
    writer.close()
    assert written.getvalue() == (GOLDEN / f"{name}.gnvc").read_bytes()


@each
def test_its_symbols_are_those_that_were_coded(name: str) -> None:
    header, (first, *_) = header_of(name), units_in(name)
    decoder = load_for(header, "nano").decoder(header, pictures=False)
    for unit in units_in(name):
        decoder.verify(unit)
    wrong = Unit(0, first.frames, first.quality, first.policy, b"\0\0\0\0", first.payload)
    with pytest.raises(BitstreamError, match="the symbols are not those that were coded"):
        decoder.verify(wrong)


@each
def test_it_is_decoded(name: str) -> None:
    header = header_of(name)
    refined = {"steps": 1} if header.codec is CodecId.GNVC_VD else {}
    decoding = DecodeOptions(allow_other_weights=True, **refined)
    stream = (GOLDEN / f"{name}.gnvc").read_bytes()
    frames = np.concatenate(list(load_for(header, "nano").decode(stream, decoding)))
    assert frames.shape == (EXPECTED[name]["frames"], header.height, header.width, 3)
    assert frames.std() > 1  # nano's pictures mean nothing, but they are no blank
