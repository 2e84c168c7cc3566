"""Damage is confined to its unit, and hostile bytes cost neither memory nor time."""

import io
import tracemalloc
from dataclasses import replace
from random import Random

import pytest

from gnvc_vd.bitstream import Damage, End, Reader, Unit
from gnvc_vd.bitstream.gop import MAX_GOP
from tests.bitstream.streams import (
    HEADER,
    HEADERS,
    bodies,
    mutated,
    packed,
    read,
    signed,
    survives,
    units,
    units_of,
)

both_versions = pytest.mark.parametrize("version", [1, 2])


@both_versions
@pytest.mark.parametrize("payload", [30, 200_000])
def test_damage_is_confined_to_its_unit(payload: int, version: int) -> None:
    parts = units_of(version, 6, payload, seed=3)
    stream = packed(parts, HEADERS[version])
    place = len(bodies(stream)[0]) + 4
    for victim, unit in enumerate(parts):
        every = range(unit.size) if unit.size < 1000 else {*range(16), unit.size // 2, unit.size - 1}
        for offset in every:
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
    assert [(part.lost, part.reason) for part in found if isinstance(part, Damage)] == [(0, "GOP 1 is repeated")]


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


@pytest.mark.parametrize("version", [1, 2])
def test_a_long_stretch_of_random_bytes_does_not_use_up_the_search(
    monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """Candidates that random bytes hold claim fewer bytes than passing those bytes earns."""
    monkeypatch.setattr("gnvc_vd.bitstream.stream.SEARCH_ALLOWANCE", 1 << 20)
    parts = units_of(version, 4, 60_000, seed=9)
    pieces = bodies(packed(parts, HEADERS[version]))
    place = len(signed(pieces[:2]))
    stream = signed(pieces)
    found = read(stream[: place + 5] + Random(version).randbytes(1_000_000) + stream[place + parts[1].size :])
    assert [part for part in found if isinstance(part, Unit)] == [parts[0], *parts[2:]]


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


@both_versions
def test_a_cut_keeps_all_whole_units_and_is_noticed(version: int) -> None:
    parts = units_of(version, 6)
    stream = packed(parts, HEADERS[version])
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
    assert [part.reason for part in found if isinstance(part, Damage)] == ["3 frames were read, but 99 were written"]


# Hostile input


def fuzz(rounds: int, seed: int, version: int) -> None:
    """Mutations and truncations; half of them signed again so that they reach what lies behind the CRC."""
    random = Random(seed)
    pieces = bodies(packed(units_of(version, 5, seed=seed), HEADERS[version]))
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
                assert 1 <= part.frames <= MAX_GOP and part.quality < 64 and part.policy < 8 and part.index >= 0
                assert part.rotation <= 9 and (part.sigma_0 is None or 0.005 <= part.sigma_0 <= 1)
                later = (part.rotation, part.sigma_0, part.enhancement, part.canvas)
                assert version == 2 or later == (0, None, b"", False)
            outcomes["units"] += isinstance(part, Unit)
            outcomes["damages"] += isinstance(part, Damage)
    assert all(count > rounds / 50 for count in outcomes.values()), f"the fuzzer misses a branch: {outcomes}"


@both_versions
def test_mutated_streams_raise_nothing_but_the_formats_own_error(version: int) -> None:
    fuzz(600, 1, version)


@pytest.mark.slow
@both_versions
def test_ten_thousand_mutated_streams_in_bounded_memory(version: int) -> None:
    tracemalloc.start()
    try:
        fuzz(10_000, 2, version)
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
    [
        b"\xe7",
        b"\xe7\x00\xff\xff\xff\x19\x00\x00",
        b"\xe7\x00\x7f\xff\x19\x00\x00",
        b"\xe7\x00\x7f\xff\x19\xff\x9f",
        b"\xe8\x1d\xff",
    ],
    ids=["markers", "long units", "short units", "short units of version 2", "ends"],
)
def test_searching_through_candidates_takes_linear_time(filler: bytes) -> None:
    """Work, not wall clock: the bytes checked on the way stay within the stated multiple of the file's size."""
    from gnvc_vd.bitstream import layout
    from gnvc_vd.bitstream import stream as module

    checked = 0
    parse = layout.parse_unit

    def counting(data: bytes, *told: int) -> Unit | None:
        nonlocal checked
        checked += len(data)
        return parse(data, *told)

    garbage = filler * (400_000 // len(filler))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "parse_unit", counting)
        patch.setattr(module, "SEARCH_ALLOWANCE", 1 << 20)
        found = read(packed([])[: len(bodies(packed([]))[0]) + 4] + garbage)
    assert isinstance(found[-1], Damage)
    assert checked <= (1 << 20) + module.SEARCH_FACTOR * len(garbage) + (1 << 16)


def test_units_that_claim_far_more_than_they_are_take_linear_time() -> None:
    """Whole short units, each before one that claims half the file: every one is where a unit should begin."""
    from gnvc_vd.bitstream import layout
    from gnvc_vd.bitstream import stream as module

    work = {"checked": 0, "copied": 0}
    parse, peek = layout.parse_unit, module._Buffer.peek

    def parsing(data: bytes, *told: int) -> Unit | None:
        work["checked"] += len(data)
        return parse(data, *told)

    def copying(buffer: object, count: int) -> bytes:
        data = peek(buffer, count)  # type: ignore[arg-type]
        work["copied"] += len(data)
        return data

    count = 3000
    plain = [Unit(index, 1, 0, 0, b"hash", b"") for index in range(count)]
    pieces = bodies(packed(plain))
    start = len(signed(pieces[:1]))
    claim = b"\xe7\x00" + (1 << 23 | 10 * count).to_bytes(3, "big")
    stream = signed(pieces)
    for index in reversed(range(count)):
        place = start + 15 * index + 15
        stream = stream[:place] + claim + stream[place:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "parse_unit", parsing)
        patch.setattr(module._Buffer, "peek", copying)
        patch.setattr(module, "SEARCH_ALLOWANCE", 1 << 16)
        found = read(stream)
    assert [part for part in found if isinstance(part, Unit)] == plain
    limit = (1 << 16) + module.SEARCH_FACTOR * len(stream)
    assert work["checked"] <= limit and work["copied"] <= limit + 8 * len(stream)  # each place's first bytes besides


def test_a_long_unit_is_read_behind_much_that_claimed_more_than_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnvc_vd.bitstream.stream.SEARCH_ALLOWANCE", 1 << 20)
    parts = [Unit(index, 1, 0, 0, b"hash", bytes(200_000)) for index in range(4)]
    pieces = bodies(packed(parts))
    place, stream = len(signed(pieces[:2])), signed(pieces)
    found = read(stream[:place] + b"\xe7\x01\xff\xff\xff\x19\x00\x00" * 20_000 + stream[place:])
    assert [part for part in found if isinstance(part, Unit)] == parts
