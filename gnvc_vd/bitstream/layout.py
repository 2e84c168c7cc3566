"""What the bytes of a .gnvc stream mean (docs/format.md): pure functions between values and bytes.

What is parsed is believed only after its bounds and its CRC have been checked. A unit's CRC goes on from the
header's, so that a unit from another file does not pass.
"""

import zlib
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import get_args

from gnvc_vd.bitstream.gop import MAX_GOP
from gnvc_vd.conventions import (
    COMMON_RATES,
    MAX_RATE_DENOMINATOR,
    MAX_SIDE,
    QUALITIES,
    Colour,
    ColourRange,
    GnvcError,
    Matrix,
)

MAGIC = b"GNVC"
VERSION = 1
MAX_HEADER = 40
MAX_PARAMETERS = 7
MAX_NUMERATOR = (1 << 21) - 1
MAX_COUNT = (1 << 35) - 1
POLICIES = 16
MAX_PAYLOAD = (1 << 23) - 1

UNIT_MARKER = 0xE7  # then the unit's number modulo 256
END_MARKER = b"\xe8\x1d"
CRC_BYTES = 4
UNIT_OVERHEAD = 16  # at most, beside the payload
SHORT_PAYLOAD = 1 << 15

MATRICES = get_args(Matrix)
RANGES = get_args(ColourRange)


class BitstreamError(GnvcError):
    """Not a .gnvc stream, or one that this program cannot or will not read."""


class CodecId(IntEnum):
    GNVC_VD = 0
    GVC = 1


@dataclass(frozen=True)
class Header:
    """What holds for the whole stream."""

    codec: CodecId
    coded_identity: bytes  # 8 bytes over everything that decides a symbol
    shown_identity: bytes  # 4 bytes over the float weights
    width: int
    height: int
    rate: Fraction
    colour: Colour
    parameters: bytes = b""  # the codec's own, at most 7 bytes

    def __post_init__(self) -> None:
        if len(self.coded_identity) != 8 or len(self.shown_identity) != 4:
            raise ValueError("identities are 8 and 4 bytes")
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise BitstreamError(f"a picture of {self.width}×{self.height} is not between 1 and {MAX_SIDE} each way")
        if len(self.parameters) > MAX_PARAMETERS:
            raise ValueError(f"{len(self.parameters)} parameter bytes are more than {MAX_PARAMETERS}")


@dataclass(frozen=True)
class Unit:
    """One GOP."""

    index: int
    frames: int
    quality: int
    policy: int
    symbol_hash: bytes  # 4 bytes over the decoded symbols
    payload: bytes

    @property
    def size(self) -> int:
        """Its bytes in the stream."""
        return len(self.payload) + (UNIT_OVERHEAD - 1 if len(self.payload) < SHORT_PAYLOAD else UNIT_OVERHEAD)


@dataclass(frozen=True)
class Damage:
    """A stretch that holds no readable unit. `lost` counts the GOPs missing there, None where nothing tells."""

    offset: int
    size: int
    first_gop: int
    lost: int | None
    reason: str


@dataclass(frozen=True)
class End:
    """The closing unit: what the whole stream holds."""

    frames: int
    gops: int


def pack_header(header: Header) -> bytes:
    rate = representable_rate(header.rate)
    if rate in COMMON_RATES:
        packed_rate = bytes([1 + COMMON_RATES.index(rate)])  # code 0 is followed by numerator and denominator
    else:
        packed_rate = bytes([0]) + varint(rate.numerator) + varint(rate.denominator)
    matrix, colour_range = MATRICES.index(header.colour.matrix), RANGES.index(header.colour.range)
    body = MAGIC + bytes([VERSION, header.codec << 4 | matrix << 1 | colour_range])
    body += header.coded_identity + header.shown_identity
    body += varint(header.width) + varint(header.height) + packed_rate
    body += bytes([len(header.parameters)]) + header.parameters
    return body + _crc(body, 0)


def parse_header(head: bytes) -> tuple[Header, int]:
    """The header and its size, from the stream's first 40 bytes (or fewer, if it is shorter)."""
    if head[: len(MAGIC)] != MAGIC:
        raise BitstreamError("not a .gnvc stream" if head else "an empty file, not a .gnvc stream")
    if len(head) > 4 and head[4] != VERSION:
        raise BitstreamError(f"a .gnvc stream of version {head[4]}; this program reads version {VERSION}")
    fields = Fields(head, 5)
    try:
        flags = fields.byte()
        coded_identity, shown_identity = fields.take(8), fields.take(4)
        width, height, code = fields.varint(MAX_SIDE), fields.varint(MAX_SIDE), fields.byte()
        stated = (fields.varint(MAX_NUMERATOR), fields.varint(MAX_RATE_DENOMINATOR)) if code == 0 else (1, 1)
        parameters = fields.take(fields.byte())
        fields.check_crc(0)
    except FieldError:
        raise BitstreamError("the header is damaged or cut short") from None
    codec, matrix = flags >> 4, flags >> 1 & 7
    known = codec in tuple(CodecId) and matrix < len(MATRICES) and code <= len(COMMON_RATES)
    if not known or len(parameters) > MAX_PARAMETERS or 0 in (width, height, *stated):
        raise BitstreamError("the header holds a value that version 1 does not have")
    rate = Fraction(*stated) if code == 0 else COMMON_RATES[code - 1]
    colour = Colour(MATRICES[matrix], RANGES[flags & 1])
    header = Header(CodecId(codec), coded_identity, shown_identity, width, height, rate, colour, parameters)
    return header, fields.place


def pack_unit(unit: Unit, header_crc: int) -> bytes:
    if not 1 <= unit.frames <= MAX_GOP:
        raise BitstreamError(f"a GOP of {unit.frames} frames is not between 1 and {MAX_GOP}")
    size = len(unit.payload)
    if size > MAX_PAYLOAD:
        raise BitstreamError(f"GOP {unit.index} takes {size} bytes, a unit holds {MAX_PAYLOAD}: use shorter GOPs")
    long = size >= SHORT_PAYLOAD
    body = bytes([UNIT_MARKER, unit.index & 255]) + (size | long << 23).to_bytes(2 + long, "big")
    body += bytes([unit.frames, unit.quality, unit.policy]) + unit.symbol_hash + unit.payload
    return body + _crc(body, header_crc)


def pack_end(end: End, header_crc: int) -> bytes:
    body = END_MARKER + varint(end.frames) + varint(end.gops)
    return body + _crc(body, header_crc)


def claimed_size(head: bytes) -> int | None:
    """The size that the unit beginning here claims; None if none can begin here."""
    if len(head) < 5 or head[0] != UNIT_MARKER:
        return None
    if head[2] < 128:
        return 15 + int.from_bytes(head[2:4], "big")
    return 16 + (int.from_bytes(head[2:5], "big") & MAX_PAYLOAD)


def parse_unit(data: bytes, expected: int, header_crc: int) -> Unit | None:
    """The unit that fills `data`, or None. Its number is the nearest to the expected one with this last byte."""
    if len(data) != claimed_size(data) or _crc(data[:-CRC_BYTES], header_crc) != data[-CRC_BYTES:]:
        return None
    place = 4 if data[2] < 128 else 5
    frames, quality, policy = data[place : place + 3]
    if not 1 <= frames <= MAX_GOP or quality >= QUALITIES or policy >= POLICIES:
        return None
    index = expected + (data[1] - expected + 128 & 255) - 128
    place += 3
    return Unit(index, frames, quality, policy, data[place : place + 4], data[place + 4 : -CRC_BYTES])


def parse_end(head: bytes, header_crc: int) -> tuple[End | None, int]:
    """The closing unit at the start of `head` and its size, or None."""
    fields = Fields(head, len(END_MARKER))
    try:
        end = End(fields.varint(MAX_COUNT), fields.varint(MAX_COUNT))
        fields.check_crc(header_crc)
    except FieldError:
        return None, 0
    return end, fields.place


def representable_rate(rate: Fraction) -> Fraction:
    """The nearest frame rate that the header can say; exact for every rate in use."""
    for limit in (MAX_RATE_DENOMINATOR, 1001, 1):
        near = rate.limit_denominator(limit)
        if 0 < near.numerator <= MAX_NUMERATOR:
            return near
    raise BitstreamError(f"a frame rate of {float(rate):g} cannot be stored")


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first, the top bit set on all but the last."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class FieldError(Exception):
    """A field that is cut short, a number that is too large or not in its shortest spelling, or a wrong CRC."""


class Fields:
    """Bytes, which may be hostile, read field by field."""

    def __init__(self, data: bytes, place: int = 0) -> None:
        self._data, self.place = data, place

    def take(self, count: int) -> bytes:
        self.place += count
        if self.place > len(self._data):
            raise FieldError
        return self._data[self.place - count : self.place]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self, maximum: int) -> int:
        """Only the shortest spelling of a value up to the maximum is accepted."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if value > maximum or (byte == 0 and shift > 7):
                raise FieldError
            if byte < 128:
                return value

    def check_crc(self, start: int) -> None:
        """The next field must be the CRC of all before it."""
        body = self._data[: self.place]
        if self.take(CRC_BYTES) != _crc(body, start):
            raise FieldError


def _crc(data: bytes, start: int) -> bytes:
    return zlib.crc32(data, start).to_bytes(CRC_BYTES, "big")
