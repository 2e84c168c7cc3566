"""Round trips, and bounds believed only after checks."""

import io
import os
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnvc_vd.bitstream import BitstreamError, CodecId, Damage, End, Header, Reader, Unit, Writer
from gnvc_vd.bitstream.layout import MAX_BODY, MAX_HEADER, UNIT_OVERHEAD, claimed_size, pack_header, parse_header
from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.conventions import COMMON_RATES, TRANSFERS, UNSPECIFIED, Colour
from gnvc_vd.zeroshot.parameters import Parameters
from tests.bitstream.streams import (
    HEADER,
    HEADERS,
    bodies,
    packed,
    read,
    signed,
    units,
    units_of,
)

both_versions = pytest.mark.parametrize("version", [1, 2])
headers = st.builds(
    Header,
    codec=st.sampled_from(CodecId),
    coded_identity=st.binary(min_size=8, max_size=8),
    shown_identity=st.binary(min_size=4, max_size=4),
    width=st.integers(1, 16383),
    height=st.integers(1, 2048),
    rate=st.one_of(
        st.sampled_from(COMMON_RATES),
        st.builds(Fraction, st.integers(1, (1 << 21) - 1), st.integers(1, (1 << 14) - 1)),
    ),
    colour=st.builds(
        Colour,
        st.sampled_from(["bt601", "bt709", "bt2020"]),
        st.sampled_from(["limited", "full"]),
        st.sampled_from(sorted(TRANSFERS)),
    ),
    parameters=st.binary(max_size=7),
)


@given(header=headers)
def test_headers_round_trip_in_at_most_41_bytes(header: Header) -> None:
    data = pack_header(header)
    found, size = parse_header(data)
    assert len(data) == size <= MAX_HEADER
    assert found == header and found.colour.transfer == header.colour.transfer  # which equality leaves out


@given(header=headers)
def test_headers_of_version_1_round_trip_in_a_byte_less(header: Header) -> None:
    old = replace(header, version=1, colour=replace(header.colour, transfer=UNSPECIFIED))
    data = pack_header(old)
    assert parse_header(data) == (old, len(data)) and len(data) == len(pack_header(header)) - 1


def test_a_common_header_is_small_and_none_is_larger_than_stated() -> None:
    """The page of the format states both."""
    common = {len(pack_header(replace(HEADER, parameters=own.pack()))) for own in (Refinement(), Parameters())}
    assert common == {36}
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    assert f"## Header: 36 bytes for common video, {MAX_HEADER} at most\n" in page
    odd_rate = Fraction((1 << 21) - 1, (1 << 14) - 2)
    largest = replace(HEADER, width=16383, height=16383, rate=odd_rate, parameters=bytes(7))
    assert len(pack_header(largest)) == MAX_HEADER == 41


@both_versions
@given(seed=st.integers(0, 1000), count=st.integers(0, 12))
@settings(deadline=None)
def test_streams_round_trip(version: int, seed: int, count: int) -> None:
    parts = units_of(version, count, seed=seed)
    stream = packed(parts, HEADERS[version])
    assert read(stream) == [*parts, End(sum(unit.frames for unit in parts), count)]
    assert Reader(io.BytesIO(stream)).header.version == stream[4] == version


@pytest.mark.parametrize("size", [0, 1, (1 << 15) - 1, 1 << 15, 100_000, MAX_BODY])
def test_payloads_of_every_length_cost_at_most_16_bytes_more(size: int) -> None:
    unit = Unit(0, 25, 63, 7, b"hash", Random(0).randbytes(size))
    stream = packed([unit])
    assert unit.size - size <= UNIT_OVERHEAD and unit.size == len(stream) - len(packed([]))
    assert read(stream)[0] == unit


@pytest.mark.parametrize(
    ("payload", "enhancement", "around"),
    [
        (0, 1, 15 + 1 + 1),  # beside both: the unit's own bytes, σ_0, the enhancement's size
        (100, 127, 15 + 1 + 1),
        (100, 128, 15 + 1 + 2),
        ((1 << 15) - 12, 9, 15 + 1 + 1),  # with these two bytes, the last body that is short
        ((1 << 15) - 11, 9, 16 + 1 + 1),
        (1000, MAX_BODY - 1000 - 5, 16 + 1 + 4),
    ],
)
def test_sigma_and_an_enhancement_cost_what_they_take(payload: int, enhancement: int, around: int) -> None:
    random = Random(0)
    content = random.randbytes(payload), random.randbytes(enhancement)
    unit = Unit(0, 25, 63, 7, b"hash", content[0], rotation=9, sigma_0=1.0, enhancement=content[1], canvas=True)
    stream = packed([unit])
    assert unit.size == payload + enhancement + around == len(stream) - len(packed([]))
    assert read(stream)[0] == unit


@given(sigma_0=st.floats(1e-6, 1))
def test_sigma_comes_back_to_the_nearest_two_hundredth_above_nothing(sigma_0: float) -> None:
    (unit, _) = read(packed([replace(units(1)[0], sigma_0=sigma_0)]))
    assert isinstance(unit, Unit) and unit.sigma_0 is not None
    assert unit.sigma_0 == max(1, round(200 * sigma_0)) / 200


def test_an_enhancement_leaves_everything_before_it_as_it_is() -> None:
    """A decoder that does not know what it is reads the payload that is there without it."""
    plain = [replace(unit, rotation=3) for unit in units(4)]
    for size in (1, 127, 128, 5000):
        found = read(packed([replace(unit, enhancement=Random(size).randbytes(size)) for unit in plain]))
        stripped = [replace(part, enhancement=b"") for part in found if isinstance(part, Unit)]
        assert stripped == plain


@both_versions
def test_units_are_hopped_over_without_knowing_what_they_hold(version: int) -> None:
    parts = units_of(version, 20, seed=5)
    stream = packed(parts, HEADERS[version])
    place = len(pack_header(HEADERS[version]))
    for unit in parts:
        assert claimed_size(stream[place : place + 5]) == unit.size
        place += unit.size
    assert stream[place : place + 2] == b"\xe8\x1d"


def test_more_than_256_gops_keep_their_numbers() -> None:
    assert [part.index for part in read(packed(units(700, 4))) if isinstance(part, Unit)] == list(range(700))


def test_a_pipe_gives_each_unit_as_soon_as_it_is_written() -> None:
    """The reader must not wait for more than the unit: the writer goes on only after it has been read."""
    inlet, outlet = os.pipe()
    parts = units(5, 300)
    received: list[Unit | Damage | End] = []
    turn = threading.Semaphore(0)

    def consume() -> None:
        with os.fdopen(inlet, "rb") as stream:
            for part in Reader(stream):
                received.append(part)
                turn.release()

    consumer = threading.Thread(target=consume, daemon=True)
    consumer.start()
    with os.fdopen(outlet, "wb") as stream:
        writer = Writer(stream, HEADER)
        for index, unit in enumerate(parts):
            writer.write(unit)
            assert turn.acquire(timeout=20), f"unit {index} was not delivered"
        writer.close()
    consumer.join(timeout=20)
    assert received == [*parts, End(sum(unit.frames for unit in parts), 5)]


# Refusals


def test_foreign_and_future_files_are_refused_in_a_sentence() -> None:
    good = packed(units(1))
    for data, sentence in {
        b"": "an empty file",
        b"\x00\x00\x00 ftypisom": r"not a \.gnvc stream",
        b"GN": r"not a \.gnvc stream",
        good[:4] + b"\x00" + good[5:]: "version 0; this program reads versions 1 and 2",
        good[:4] + b"\x03" + good[5:]: "version 3; this program reads versions 1 and 2",
        good[:4] + b"\x01" + good[5:]: "damaged or cut short",
        good[:4]: "damaged or cut short",
        good[:20]: "damaged or cut short",
        good[:10] + b"?" + good[11:]: "damaged or cut short",
    }.items():
        with pytest.raises(BitstreamError, match=sentence):
            Reader(io.BytesIO(data))


def test_hostile_header_values_are_refused_though_signed() -> None:
    header, *rest = bodies(packed(units(1)))
    assert header[19:23] == b"\x80\x0a\xd0\x05"  # width and height
    unknown = [
        header[:5] + b"\xf2" + header[6:],  # codec
        header[:19] + b"\x00" + header[21:],  # no width
        header[:23] + b"\xfe" + header[24:],  # rate
        *(header[:6] + bytes([transfer]) + header[7:] for transfer in range(256) if transfer not in TRANSFERS),
    ]
    for body in unknown:
        with pytest.raises(BitstreamError, match="a value that version 2 does not have"):
            read(signed([body, *rest]))
    with pytest.raises(BitstreamError, match="damaged or cut short"):
        read(signed([header[:19] + b"\xff" * 20, *rest]))


def body_of(head: bytes, body: bytes) -> bytes:
    """A first unit of 5 frames with these bytes for quality and policy, and this between hash and CRC."""
    return b"\xe7\x00" + len(body).to_bytes(2, "big") + b"\x05" + head + b"hash" + body


@pytest.mark.parametrize(
    ("head", "body", "unit"),
    [
        (b"\x14\x91", b"payload", Unit(0, 5, 20, 1, b"hash", b"payload", 9)),
        (b"\x14\x09", b"payload", Unit(0, 5, 20, 1, b"hash", b"payload", canvas=True)),
        (b"\x14\x7f", b"payload", Unit(0, 5, 20, 7, b"hash", b"payload", 7, canvas=True)),
        (b"\x14\xa1", b"payload", None),  # a rotation of ten latents
        (b"\x54\x01", b"\x01payload", Unit(0, 5, 20, 1, b"hash", b"payload", 0, 0.005)),
        (b"\x54\x01", b"\xc8payload", Unit(0, 5, 20, 1, b"hash", b"payload", 0, 1.0)),
        (b"\x54\x01", b"\x00payload", None),  # no refinement starts at 0 …
        (b"\x54\x01", b"\xc9payload", None),  # … or beyond 1
        (b"\x54\x01", b"", None),  # a σ_0 that is not there
        (b"\x94\x01", b"\x03payloadabc", Unit(0, 5, 20, 1, b"hash", b"payload", enhancement=b"abc")),
        (b"\x94\x01", b"\x0apayloadabc", Unit(0, 5, 20, 1, b"hash", b"", enhancement=b"payloadabc")),
        (b"\x94\x01", b"\x0bpayloadabc", None),  # an enhancement beyond its unit
        (b"\x94\x01", b"\xff\xff\xff\x03payloadabc", None),
        (b"\x94\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\x7fpayloadabc", None),
        (b"\x94\x01", b"\x00payloadabc", None),  # one that is announced and empty
        (b"\x94\x01", b"\x83\x00payloadabc", None),  # a size that has a shorter spelling
        (b"\x94\x01", b"\x83", None),
        (b"\xd4\x01", b"\x3c\x03payloadabc", Unit(0, 5, 20, 1, b"hash", b"payload", 0, 0.3, b"abc")),
        (b"\xd4\x01", b"\x3c", None),
    ],
)
def test_what_a_signed_unit_may_say_is_bounded(head: bytes, body: bytes, unit: Unit | None) -> None:
    start, end = bodies(packed([]))
    found = read(signed([start, body_of(head, body), end]))
    assert [part for part in found if isinstance(part, Unit)] == ([] if unit is None else [unit])
    assert isinstance(found[0], Unit) == (unit is not None)


def test_a_signed_unit_of_version_1_says_no_more_than_version_1_does() -> None:
    start, end = bodies(packed([], HEADERS[1]))
    for head in (b"\x54\x01", b"\x94\x01", b"\x14\x11", b"\x14\xf1", b"\x14\x08", b"\x14\x09"):
        found = read(signed([start, body_of(head, b"\x03payloadabc"), end]))
        assert not any(isinstance(part, Unit) for part in found)
    found = read(signed([start, body_of(b"\x14\x01", b"\x03payloadabc"), end]))
    assert found[0] == Unit(0, 5, 20, 1, b"hash", b"\x03payloadabc")


def test_pictures_beyond_the_limit_are_refused() -> None:
    stream = packed([], replace(HEADER, width=16383, height=16383))
    with pytest.raises(BitstreamError, match="larger than the limit"):
        Reader(io.BytesIO(stream))
    assert Reader(io.BytesIO(stream), max_pixels=16383**2).header.width == 16383
    with pytest.raises(BitstreamError, match="not between 1 and 16383"):
        replace(HEADER, width=16384)


def test_what_does_not_fit_a_unit_is_refused_when_written() -> None:
    writer = Writer(io.BytesIO(), HEADER)
    with pytest.raises(BitstreamError, match="shorter GOPs"):
        writer.write(Unit(0, 25, 0, 0, b"hash", bytes(MAX_BODY + 1)))
    with pytest.raises(BitstreamError, match="shorter GOPs"):
        writer.write(Unit(0, 25, 0, 0, b"hash", bytes(MAX_BODY - 100), enhancement=bytes(100)))
    with pytest.raises(BitstreamError, match="not between 1 and 253"):
        writer.write(Unit(0, 254, 0, 0, b"hash", b""))
    good = Unit(0, 25, 0, 0, b"hash", b"")
    for wrong in ({"quality": 64}, {"policy": 8}, {"rotation": 10}, {"sigma_0": 0.0}, {"sigma_0": 1.01}):
        with pytest.raises(ValueError, match=r"out of bounds|above 0 up to 1"):
            writer.write(replace(good, **wrong))  # type: ignore[arg-type]


def test_version_1_is_not_written_with_what_it_cannot_say() -> None:
    writer, good = Writer(io.BytesIO(), HEADERS[1]), Unit(0, 25, 0, 0, b"hash", b"")
    for more in ({"rotation": 1}, {"sigma_0": 0.3}, {"enhancement": b"e"}, {"canvas": True}):
        with pytest.raises(ValueError, match="version 1 cannot hold"):
            writer.write(replace(good, **more))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="version 1 cannot hold a transfer function"):
        replace(HEADERS[1], colour=replace(HEADER.colour, transfer=16))
    with pytest.raises(ValueError, match="no transfer function 3"):
        replace(HEADER, colour=replace(HEADER.colour, transfer=3))


GOLDEN_1 = (
    "474e564301026964656e746974797368776e800ad0050f03053c07e9c3c4f5e700000201000038b4e65213656c087cbb"
    "e701000002010150a4a3a6e8641c66e81d0302f192e4a3"
)


GOLDEN_2 = (
    "474e56430204106964656e746974797368776e800ad0050f03053c07f49a443ce700000719147101020304726f746174"
    "6564f789963ee7010017097f000506070815726566696e65642066726f6d20656c73657768657265ddeed650e70200ca"
    "fd800ffdfeff00c801000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223242526"
    "2728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f50515253545556"
    "5758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f80818283848586"
    "8788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6"
    "b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7cfa3d8d6e703000f01c590090a0b0cc804616c6c206f662069746d6f726588"
    "037a33e70400050501000d0e0f10706c61696e26f17970e81da50205d7fe3fcb"
)
UNITS_2 = [
    Unit(0, 25, 20, 1, b"\x01\x02\x03\x04", b"rotated", rotation=7),
    Unit(1, 9, 63, 0, b"\x05\x06\x07\x08", b"refined from elsewhere", sigma_0=0.105),
    Unit(2, 253, 0, 7, b"\xfd\xfe\xff\x00", b"", enhancement=bytes(range(200)), canvas=True),
    Unit(3, 1, 5, 0, b"\x09\x0a\x0b\x0c", b"all of it", rotation=9, sigma_0=1.0, enhancement=b"more"),
    Unit(4, 5, 1, 0, b"\x0d\x0e\x0f\x10", b"plain"),
]


def test_golden_streams_still_mean_the_same() -> None:
    """Byte for byte. A change here is a change of format: raise the version, do not refresh."""
    assert packed(units(2, 4, seed=7), HEADERS[1]).hex() == GOLDEN_1
    assert read(bytes.fromhex(GOLDEN_1)) == [*units(2, 4, seed=7), End(3, 2)]
    hdr = replace(HEADER, colour=Colour("bt2020", "limited", 16))
    assert packed(UNITS_2, hdr).hex() == GOLDEN_2
    assert read(bytes.fromhex(GOLDEN_2)) == [*UNITS_2, End(293, 5)]
    found = Reader(io.BytesIO(bytes.fromhex(GOLDEN_2))).header
    assert found == hdr and found.colour.transfer == 16 and found.version == 2
