"""Round trips, damage confined to its unit, and bounds believed only after checks."""

import io
import os
import threading
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnvc_vd.bitstream import BitstreamError, CodecId, Damage, End, Header, Reader, Unit, Writer
from gnvc_vd.bitstream.gop import MAX_GOP
from gnvc_vd.bitstream.layout import MAX_HEADER, MAX_PAYLOAD, UNIT_OVERHEAD, pack_header, parse_header
from gnvc_vd.conventions import COMMON_RATES, Colour
from tests.bitstream.streams import HEADER, bodies, mutated, packed, read, signed, survives, units

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
    colour=st.builds(Colour, st.sampled_from(["bt601", "bt709", "bt2020"]), st.sampled_from(["limited", "full"])),
    parameters=st.binary(max_size=7),
)


@given(header=headers)
def test_headers_round_trip_in_at_most_40_bytes(header: Header) -> None:
    data = pack_header(header)
    assert len(data) <= MAX_HEADER
    assert parse_header(data) == (header, len(data))


def test_a_common_header_is_small() -> None:
    assert len(pack_header(replace(HEADER, parameters=b""))) == 28


@given(seed=st.integers(0, 1000), count=st.integers(0, 12))
@settings(deadline=None)
def test_streams_round_trip(seed: int, count: int) -> None:
    parts = units(count, seed=seed)
    assert read(packed(parts)) == [*parts, End(sum(unit.frames for unit in parts), count)]


@pytest.mark.parametrize("size", [0, 1, (1 << 15) - 1, 1 << 15, 100_000, MAX_PAYLOAD])
def test_payloads_of_every_length_cost_at_most_16_bytes_more(size: int) -> None:
    unit = Unit(0, 25, 63, 15, b"hash", Random(0).randbytes(size))
    stream = packed([unit])
    assert unit.size - size <= UNIT_OVERHEAD and unit.size == len(stream) - len(packed([]))
    assert read(stream)[0] == unit


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


# Damage


@pytest.mark.parametrize("payload", [60, 200_000])
def test_damage_is_confined_to_its_unit(payload: int) -> None:
    parts = units(6, payload, seed=3)
    stream = packed(parts)
    place = len(bodies(stream)[0]) + 4
    for victim, unit in enumerate(parts):
        for offset in {0, 1, 2, 3, 4, 8, unit.size // 2, unit.size - 1}:
            broken = bytearray(stream)
            broken[place + offset] ^= 0x55
            found = read(bytes(broken))
            assert [part for part in found if isinstance(part, Unit)] == parts[:victim] + parts[victim + 1 :]
            damages = [part for part in found if isinstance(part, Damage)]
            assert len(damages) == 1 and damages[0].first_gop == victim and damages[0].lost == 1
            assert isinstance(found[-1], End)
        place += unit.size


def test_a_lost_unit_is_noticed_without_a_trace_of_it() -> None:
    parts = units(5)
    pieces = bodies(packed(parts))
    found = read(signed([*pieces[:3], *pieces[4:]]))
    assert [part.index for part in found if isinstance(part, Unit)] == [0, 1, 3, 4]
    assert [(part.first_gop, part.lost) for part in found if isinstance(part, Damage)] == [(2, 1)]


def test_a_repeated_unit_is_dropped_and_costs_nothing_else() -> None:
    parts = units(5)
    pieces = bodies(packed(parts))
    found = read(signed([*pieces[:3], pieces[2], *pieces[3:]]))
    assert [part for part in found if isinstance(part, Unit)] == parts
    assert [(part.lost, part.reason) for part in found if isinstance(part, Damage)] == [(0, "GOP 1 again")]


def test_much_damage_does_not_use_up_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnvc_vd.bitstream.stream.SEARCH_ALLOWANCE", 1 << 16)
    parts = units(200, 600)
    stream = bytearray(packed(parts))
    place = len(bodies(bytes(stream))[0]) + 4
    for unit in parts:
        if unit.index % 2:
            stream[place + unit.size - 1] ^= 1
        place += unit.size
    assert [part for part in read(bytes(stream)) if isinstance(part, Unit)] == parts[::2]


def test_a_long_stream_is_read_in_constant_memory() -> None:
    class Endless(io.RawIOBase):
        """A header, then the same long unit again and again under its next number."""

        def __init__(self) -> None:
            self.pieces = bodies(packed(units(1)))
            self.ready, self.index = bytearray(signed(self.pieces[:1])), 0

        def read(self, size: int = -1) -> bytes:
            while len(self.ready) < size and self.index < 600:
                body = bytes([0xE7, self.index & 255, 0x7F, 0x00, 25, 1, 0]) + b"hash" + bytes(0x7F00)
                self.ready += signed([self.pieces[0], body])[len(self.pieces[0]) + 4 :]
                self.index += 1
            data, self.ready = bytes(self.ready[:size]), self.ready[size:]
            return data

    tracemalloc.start()
    try:
        count = sum(isinstance(part, Unit) for part in Reader(Endless()))
        assert count == 600 and tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_bytes_between_units_are_damage_but_lose_no_gop() -> None:
    parts = units(4)
    pieces = bodies(packed(parts))
    stream = signed(pieces)
    place = len(signed(pieces[:3]))
    found = read(stream[:place] + b"stray bytes" + stream[place:])
    assert [part for part in found if isinstance(part, Unit)] == parts
    assert [(part.size, part.lost) for part in found if isinstance(part, Damage)] == [(11, 0)]


def test_a_cut_keeps_all_whole_units_and_is_noticed() -> None:
    parts = units(6)
    stream = packed(parts)
    header = len(bodies(stream)[0]) + 4
    ends = [header + sum(unit.size for unit in parts[: n + 1]) for n in range(6)]
    for size in range(header, len(stream)):
        found = read(stream[:size])
        whole = sum(end <= size for end in ends)
        assert [part for part in found if isinstance(part, Unit)] == parts[:whole]
        assert isinstance(found[-1], Damage) and found[-1].reason == "cut short"


def test_a_unit_of_another_stream_does_not_pass() -> None:
    parts = units(3)
    other = packed(parts, replace(HEADER, shown_identity=b"othr"))
    mine = packed(parts)
    header = len(bodies(mine)[0]) + 4
    found = read(mine[: header + parts[0].size] + other[header + parts[0].size :])
    assert [part for part in found if isinstance(part, Unit)] == parts[:1]


def test_what_follows_the_closing_unit_is_reported() -> None:
    found = read(packed(units(2)) + b"more")
    assert isinstance(found[-1], Damage) and found[-1].size == 4


def test_a_wrong_frame_count_in_the_closing_unit_is_reported() -> None:
    pieces = bodies(packed(units(2)))
    found = read(signed([*pieces[:3], pieces[3][:2] + b"\x63\x02"]))
    assert [part.reason for part in found if isinstance(part, Damage)] == ["3 frames are there, 99 were written"]


# Refusals


def test_foreign_and_future_files_are_refused_in_a_sentence() -> None:
    good = packed(units(1))
    for data, sentence in {
        b"": "an empty file",
        b"\x00\x00\x00 ftypisom": r"not a \.gnvc stream",
        b"GN": r"not a \.gnvc stream",
        good[:4] + b"\x02" + good[5:]: "version 2; this program reads version 1",
        good[:20]: "damaged or cut short",
        good[:10] + b"?" + good[11:]: "damaged or cut short",
    }.items():
        with pytest.raises(BitstreamError, match=sentence):
            Reader(io.BytesIO(data))


def test_hostile_header_values_are_refused_though_signed() -> None:
    header, *rest = bodies(packed(units(1)))
    zero_width = header[:18] + b"\x00" + header[20:]
    unknown_codec = header[:5] + b"\xf2" + header[6:]
    unknown_rate = header.replace(header[22:23], b"\xfe", 1)
    for body in (zero_width, unknown_codec, unknown_rate, header[:18] + b"\xff" * 20):
        with pytest.raises(BitstreamError):
            read(signed([body, *rest]))


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
        writer.write(Unit(0, 25, 0, 0, b"hash", bytes(MAX_PAYLOAD + 1)))
    with pytest.raises(BitstreamError, match="not between 1 and 253"):
        writer.write(Unit(0, 254, 0, 0, b"hash", b""))


# Hostile input


def fuzz(rounds: int, seed: int) -> None:
    """Mutations and truncations; half of them signed again so that they reach what lies behind the CRC."""
    random = Random(seed)
    pieces = bodies(packed(units(5, seed=seed)))
    outcomes = {"units": 0, "damages": 0, "refused": 0}
    for _ in range(rounds):
        if random.random() < 0.5:
            broken = list(pieces)
            victim = random.randrange(len(broken))
            broken[victim] = mutated(broken[victim], random)
            stream = signed(broken)
        else:
            stream = mutated(signed(pieces), random)
            stream = stream[: random.randint(0, len(stream))] if random.random() < 0.3 else stream
        found = survives(stream)
        outcomes["refused"] += found is None
        for part in found or []:
            if isinstance(part, Unit):
                assert 1 <= part.frames <= MAX_GOP and part.quality < 64 and part.policy < 16 and part.index >= 0
            outcomes["units"] += isinstance(part, Unit)
            outcomes["damages"] += isinstance(part, Damage)
    assert all(count > rounds / 50 for count in outcomes.values()), f"the fuzzer misses a branch: {outcomes}"


def test_mutated_streams_raise_nothing_but_the_formats_own_error() -> None:
    fuzz(600, seed=1)


@pytest.mark.slow
def test_ten_thousand_mutated_streams_in_bounded_memory() -> None:
    tracemalloc.start()
    try:
        fuzz(10_000, seed=2)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_claimed_length_costs_no_memory() -> None:
    body = b"\xe7\x00\xff\xff\xff\x19\x00\x00hash" + bytes(100)  # claims 8 MiB
    tracemalloc.start()
    try:
        read(signed([bodies(packed([]))[0], body]))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "filler",
    [b"\xe7", b"\xe7\x00\xff\xff\xff\x19\x00\x00", b"\xe7\x00\x7f\xff\x19\x00\x00", b"\xe8\x1d\xff"],
    ids=["markers", "long units", "short units", "ends"],
)
def test_searching_through_candidates_takes_linear_time(filler: bytes) -> None:
    """Work, not wall clock: the bytes checked on the way stay within the stated multiple of the file's size."""
    from gnvc_vd.bitstream import layout
    from gnvc_vd.bitstream import stream as module

    checked = 0
    parse = layout.parse_unit

    def counting(data: bytes, expected: int, header_crc: int) -> Unit | None:
        nonlocal checked
        checked += len(data)
        return parse(data, expected, header_crc)

    garbage = filler * (400_000 // len(filler))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "parse_unit", counting)
        patch.setattr(module, "SEARCH_ALLOWANCE", 1 << 20)
        found = read(packed([])[: len(bodies(packed([]))[0]) + 4] + garbage)
    assert isinstance(found[-1], Damage)
    assert checked <= (1 << 20) + module.SEARCH_FACTOR * len(garbage) + (1 << 16)


GOLDEN = (
    "474e564301026964656e746974797368776e800ad0050f03053c07e9c3c4f5e700000201000038b4e65213656c087cbb"
    "e701000002010150a4a3a6e8641c66e81d0302f192e4a3"
)


def test_the_golden_stream_still_means_the_same() -> None:
    """Version 1, byte for byte. A change here is a change of format: raise the version, do not refresh."""
    assert packed(units(2, 4, seed=7)).hex() == GOLDEN
    assert read(bytes.fromhex(GOLDEN)) == [*units(2, 4, seed=7), End(3, 2)]
