"""Where frames stand that take the place of lost ones."""

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from gnvc_vd.bitstream import End, Unit
from gnvc_vd.bitstream.layout import pack_end, pack_header
from gnvc_vd.bitstream.playback import MOST_LOST, decode_stream
from gnvc_vd.conventions import Frame, UsageError
from tests.bitstream.streams import HEADER, bodies, packed, signed

GOPS = [Unit(index, frames, 0, 0, b"hash", b"payload") for index, frames in enumerate((5, 4, 5, 2))]
SHOWN = [1] * 5 + [2] * 4 + [3] * 5 + [4] * 2


class Painting:
    """Every frame of a GOP is painted with the GOP's number, counted from 1."""

    def frames(self, unit: Unit) -> Iterator[Frame]:
        yield np.full((unit.frames, 4, 4, 3), unit.index + 1, np.uint8)

    def skip(self, unit: Unit) -> None:
        """Nothing depends on it."""


def without(*lost: int, gone: bool = False) -> bytes:
    """The stream with some GOPs damaged, or with no byte of them left."""
    first, *rest, end = bodies(packed(GOPS))
    whole = signed([first, *rest, end])
    place, out = len(signed([first])), bytearray(signed([first]))
    for unit in GOPS:
        data = whole[place : place + unit.size]
        place += unit.size
        if unit.index not in lost:
            out += data
        elif not gone:
            out += bytes(1) + data[1:]
    return bytes(out) + whole[place:]


def painted(stream: bytes, **options: Any) -> list[int]:
    parts = decode_stream(stream, lambda *_: Painting(), conceal=True, **options)
    return [int(frame.flat[0]) for part in parts for frame in part]


@pytest.mark.parametrize("gone", [False, True])
def test_frames_stand_where_they_were_and_lost_ones_are_held(gone: bool) -> None:
    assert painted(without()) == SHOWN
    for lost, expected in {
        (0,): [0] * 4 + SHOWN[5:] + [4],  # taken to be as long as the next; the last frame of all is held for the rest
        (1,): [1] * 10 + SHOWN[9:],
        (0, 1): [0] * 10 + SHOWN[9:],
        (2,): SHOWN[:9] + [2] * 4 + [4] * 3,
        (3,): SHOWN[:14] + [3] * 2,  # the closing unit knows
        (0, 1, 2, 3): [0] * 16,
    }.items():
        assert painted(without(*lost, gone=gone)) == expected, lost


@pytest.mark.parametrize("gone", [False, True])
def test_a_range_has_its_lost_gops_held_and_no_others(gone: bool) -> None:
    for lost, first, last, expected in (
        (2, 0, 4, SHOWN[:9] + [2] * 4 + [4] * 2),
        (2, 1, 4, SHOWN[5:9] + [2] * 4 + [4] * 2),
        (2, 1, None, SHOWN[5:9] + [2] * 4 + [4] * 2),
        (2, 2, 3, [0] * 4),  # nothing was shown before
        (2, 0, 2, SHOWN[:9]),
        (2, 3, 4, [4] * 2),
        (0, 0, 1, [0] * 4),
        (0, 0, 2, [0] * 4 + [2] * 4),
        (0, 1, 2, [2] * 4),
        (3, 2, 4, [3] * 10),
        (3, 3, 4, [0] * 5),
    ):
        stream = without(lost, gone=gone)
        assert painted(stream, first_gop=first, last_gop=last) == expected, (lost, first, last)
    with pytest.raises(UsageError, match="the stream has 4"):
        painted(without(3, gone=gone), first_gop=4)


def test_no_closing_unit_makes_frames_without_end() -> None:
    pieces = bodies(packed(GOPS))
    stream = signed(pieces[:-1]) + pack_end(End(1 << 34, 1 << 34), crc32(pack_header(HEADER)))
    assert len(painted(stream)) == len(SHOWN) + 253 * MOST_LOST
    assert painted(stream, first_gop=2) == SHOWN[9:] + [4] * 2 * MOST_LOST
    assert painted(stream, first_gop=2, last_gop=6) == SHOWN[9:] + [4] * 4
