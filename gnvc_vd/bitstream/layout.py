"""The byte format of a .gnvc stream (docs/format.md): functions that pack values to bytes and parse them.

Parsed values are used only after checks of their bounds and the CRC. A unit's CRC continues the header's, so that a
unit of another file does not pass.

Version 2 is written, versions 1 and 2 are read. A header of version 1 has no transfer function, and its units have no
rotation, no canvas, no σ_0 of their own and no enhancement.
"""

import zlib
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import get_args

from gnvc_vd.bitstream.gop import MAX_GOP
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import (
    COMMON_RATES,
    MAX_RATE_DENOMINATOR,
    MAX_SIDE,
    QUALITIES,
    TRANSFERS,
    UNSPECIFIED,
    Colour,
    ColourRange,
    GnvcError,
    Matrix,
)

MAGIC = b"GNVC"
VERSION = 2  # of streams that are written
VERSIONS = (1, VERSION)
MAX_HEADER = 41
MAX_PARAMETERS = 7
MAX_NUMERATOR = (1 << 21) - 1
MAX_COUNT = (1 << 35) - 1
POLICIES = 8
CANVAS_FLAG = 1 << 3  # in the policy's byte
MAX_ROTATION = 9  # latents
SIGMA_STEPS = 200  # σ_0 and the noise's scale are stored in 1/200
MAX_BODY = (1 << 23) - 1  # bytes of a unit between its symbol hash and its CRC

UNIT_MARKER = 0xE7  # followed by the unit's number modulo 256
END_MARKER = b"\xe8\x1d"
CRC_BYTES = 4
UNIT_OVERHEAD = 16  # largest number of bytes beside the body
SHORT_BODY = 1 << 15
SIGMA_FLAG, ENHANCEMENT_FLAG = 1 << 6, 1 << 7  # in the quality's byte

MATRICES = get_args(Matrix)
RANGES = get_args(ColourRange)


class BitstreamError(GnvcError):
    """The stream is damaged, not a .gnvc stream, or one that this program refuses."""


class CodecId(IntEnum):
    GNVC_VD = 0
    GVC = 1


@dataclass(frozen=True)
class Header:
    """The stream's header: codec, model and video."""

    codec: CodecId
    coded_identity: bytes  # 8 bytes over everything that decides a symbol
    shown_identity: bytes  # 4 bytes over the float weights
    width: int
    height: int
    rate: Fraction
    colour: Colour
    parameters: bytes = b""  # the codec's own, at most 7 bytes
    version: int = VERSION

    def __post_init__(self) -> None:
        transfer = self.colour.transfer
        require(self.version in VERSIONS, f"there is no version {self.version}", ValueError)
        require(transfer in TRANSFERS, f"H.273 has no transfer function {transfer}", ValueError)
        silent = self.version == 1 and transfer != UNSPECIFIED
        require(not silent, "a header of version 1 cannot hold a transfer function", ValueError)
        if len(self.coded_identity) != 8 or len(self.shown_identity) != 4:
            raise ValueError("identities are 8 and 4 bytes")
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise BitstreamError(f"a picture of {self.width}×{self.height} is not between 1 and {MAX_SIDE} each way")
        if len(self.parameters) > MAX_PARAMETERS:
            raise ValueError(f"{len(self.parameters)} parameter bytes are more than {MAX_PARAMETERS}")


@dataclass(frozen=True)
class Unit:
    """A unit: one coded GOP."""

    index: int
    frames: int
    quality: int
    policy: int  # 0 … 7
    symbol_hash: bytes  # 4 bytes over the decoded symbols
    payload: bytes
    rotation: int = 0  # latents per rotation of the transform codec, up to 9; 0: no rotation
    sigma_0: float | None = None  # start of refinement, a multiple of 1/200; None: the header's
    enhancement: bytes = b""  # a second payload, which decoders may skip
    canvas: bool = False  # whether the payload begins with a canvas (learned/canvas.py)

    @property
    def size(self) -> int:
        """Size of the unit in the stream, in bytes."""
        body = len(_before_payload(self)) + len(self.payload) + len(self.enhancement)
        return body + (UNIT_OVERHEAD - 1 if body < SHORT_BODY else UNIT_OVERHEAD)


@dataclass(frozen=True)
class Damage:
    """A part of the stream without a readable unit; `lost` is the number of lost GOPs, None if it is unknown."""

    offset: int
    size: int
    first_gop: int
    lost: int | None
    reason: str


@dataclass(frozen=True)
class End:
    """The closing unit: the number of frames and GOPs in the stream."""

    frames: int
    gops: int


def pack_header(header: Header) -> bytes:
    rate = representable_rate(header.rate)
    if rate in COMMON_RATES:
        packed_rate = bytes([1 + COMMON_RATES.index(rate)])  # code 0 is followed by numerator and denominator
    else:
        packed_rate = bytes([0]) + varint(rate.numerator) + varint(rate.denominator)
    matrix, colour_range = MATRICES.index(header.colour.matrix), RANGES.index(header.colour.range)
    body = MAGIC + bytes([header.version, header.codec << 4 | matrix << 1 | colour_range])
    body += bytes([header.colour.transfer] if header.version > 1 else [])
    body += header.coded_identity + header.shown_identity
    body += varint(header.width) + varint(header.height) + packed_rate
    body += bytes([len(header.parameters)]) + header.parameters
    return body + _crc(body, 0)


def parse_header(head: bytes) -> tuple[Header, int]:
    """Parse the header from the stream's first 41 bytes, or all if it is shorter; also return its size."""
    if head[: len(MAGIC)] != MAGIC:
        raise BitstreamError("not a .gnvc stream" if head else "an empty file, not a .gnvc stream")
    fields = Fields(head, len(MAGIC))
    try:
        version = fields.byte()
        if version not in VERSIONS:
            raise BitstreamError(f"a .gnvc stream of version {version}; this program reads versions 1 and {VERSION}")
        flags, transfer = fields.byte(), fields.byte() if version > 1 else UNSPECIFIED
        coded_identity, shown_identity = fields.take(8), fields.take(4)
        width, height, code = fields.varint(MAX_SIDE), fields.varint(MAX_SIDE), fields.byte()
        stated = (fields.varint(MAX_NUMERATOR), fields.varint(MAX_RATE_DENOMINATOR)) if code == 0 else (1, 1)
        parameters = fields.take(fields.byte())
        fields.check_crc(0)
    except FieldError:
        raise BitstreamError("the header is damaged or cut short") from None
    codec, matrix = flags >> 4, flags >> 1 & 7
    valid = codec in tuple(CodecId) and matrix < len(MATRICES) and transfer in TRANSFERS and code <= len(COMMON_RATES)
    if not valid or len(parameters) > MAX_PARAMETERS or 0 in (width, height, *stated):
        raise BitstreamError(f"the header holds a value that version {version} does not have")
    rate = Fraction(*stated) if code == 0 else COMMON_RATES[code - 1]
    colour = Colour(MATRICES[matrix], RANGES[flags & 1], transfer)
    header = Header(CodecId(codec), coded_identity, shown_identity, width, height, rate, colour, parameters, version)
    return header, fields.place


def pack_unit(unit: Unit, header_crc: int, version: int = VERSION) -> bytes:
    if not 1 <= unit.frames <= MAX_GOP:
        raise BitstreamError(f"a GOP of {unit.frames} frames is not between 1 and {MAX_GOP}")
    flags = SIGMA_FLAG * (unit.sigma_0 is not None) | ENHANCEMENT_FLAG * bool(unit.enhancement)
    within = unit.quality < QUALITIES and unit.policy < POLICIES and unit.rotation <= MAX_ROTATION
    require(within, f"quality, policy or rotation of GOP {unit.index} is out of bounds", ValueError)
    allowed = version > 1 or not (flags or unit.rotation or unit.canvas)
    require(allowed, f"version 1 cannot hold GOP {unit.index}", ValueError)
    body = _before_payload(unit) + unit.payload + unit.enhancement
    if len(body) > MAX_BODY:
        raise BitstreamError(f"GOP {unit.index} takes {len(body)} bytes, but a unit holds {MAX_BODY}: use shorter GOPs")
    long = len(body) >= SHORT_BODY
    packed = bytes([UNIT_MARKER, unit.index & 255]) + (len(body) | long << 23).to_bytes(2 + long, "big")
    policy = unit.rotation << 4 | CANVAS_FLAG * unit.canvas | unit.policy
    packed += bytes([unit.frames, unit.quality | flags, policy]) + unit.symbol_hash + body
    return packed + _crc(packed, header_crc)


def _before_payload(unit: Unit) -> bytes:
    """The bytes before the payload: σ_0 and the enhancement's size, if the unit has them."""
    start = b"" if unit.sigma_0 is None else bytes([sigma_code(unit.sigma_0)])
    return start + varint(len(unit.enhancement)) if unit.enhancement else start


def sigma_code(sigma_0: float) -> int:
    """The byte for σ_0, which is never 0."""
    require(0 < sigma_0 <= 1, f"σ_0 is above 0 up to 1, not {sigma_0}", ValueError)
    return max(1, round(sigma_0 * SIGMA_STEPS))


def pack_end(end: End, header_crc: int) -> bytes:
    body = END_MARKER + varint(end.frames) + varint(end.gops)
    return body + _crc(body, header_crc)


def claimed_size(head: bytes) -> int | None:
    """The size that a unit at the start of `head` claims; None if no unit can begin here."""
    if len(head) < 5 or head[0] != UNIT_MARKER:
        return None
    if head[2] < 128:
        return 15 + int.from_bytes(head[2:4], "big")
    return 16 + (int.from_bytes(head[2:5], "big") & MAX_BODY)


def parse_unit(data: bytes, expected: int, header_crc: int, version: int = VERSION) -> Unit | None:
    """Parse the unit that fills `data`; None if it is invalid. Its number is the one nearest to `expected`."""
    if len(data) != claimed_size(data) or _crc(data[:-CRC_BYTES], header_crc) != data[-CRC_BYTES:]:
        return None
    fields = Fields(data[:-CRC_BYTES], 4 if data[2] < 128 else 5)
    frames, quality, policy, symbol_hash = fields.byte(), fields.byte(), fields.byte(), fields.take(4)
    flags, rotation, canvas = quality & (SIGMA_FLAG | ENHANCEMENT_FLAG), policy >> 4, bool(policy & CANVAS_FLAG)
    if not 1 <= frames <= MAX_GOP or rotation > MAX_ROTATION or (version == 1 and (flags or rotation or canvas)):
        return None
    try:
        sigma = fields.byte() if flags & SIGMA_FLAG else None
        added = fields.varint(MAX_BODY) if flags & ENHANCEMENT_FLAG else None
        payload, enhancement = fields.take(fields.remaining - (added or 0)), fields.take(added or 0)
    except FieldError:
        return None
    if added == 0 or (sigma is not None and not 1 <= sigma <= SIGMA_STEPS):
        return None
    index = expected + (data[1] - expected + 128 & 255) - 128
    quality, policy, sigma_0 = quality & 63, policy & 7, None if sigma is None else sigma / SIGMA_STEPS
    return Unit(index, frames, quality, policy, symbol_hash, payload, rotation, sigma_0, enhancement, canvas)


def parse_end(head: bytes, header_crc: int) -> tuple[End | None, int]:
    """Parse the closing unit at the start of `head`: the unit, or None, and its size."""
    fields = Fields(head, len(END_MARKER))
    try:
        end = End(fields.varint(MAX_COUNT), fields.varint(MAX_COUNT))
        fields.check_crc(header_crc)
    except FieldError:
        return None, 0
    return end, fields.place


def representable_rate(rate: Fraction) -> Fraction:
    """The nearest frame rate that a header can hold; exact for all common rates."""
    for limit in (MAX_RATE_DENOMINATOR, 1001, 1):
        near = rate.limit_denominator(limit)
        if 0 < near.numerator <= MAX_NUMERATOR:
            return near
    raise BitstreamError(f"a frame rate of {float(rate):g} cannot be stored")


def varint(value: int) -> bytes:
    """Pack a number, seven bits per byte, lowest first; the top bit is set on all bytes but the last."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class FieldError(Exception):
    """A field is cut short, a number is too large or not in its shortest form, or a CRC is wrong."""


class Fields:
    """Parses bytes, which may be hostile, field by field."""

    def __init__(self, data: bytes, place: int = 0) -> None:
        self._data, self.place = data, place

    @property
    def remaining(self) -> int:
        return len(self._data) - self.place

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self.remaining:
            raise FieldError
        self.place += count
        return self._data[self.place - count : self.place]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self, maximum: int) -> int:
        """Parse a number up to the maximum, in its shortest form."""
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
        """Check that the next field is the CRC of all bytes before it."""
        body = self._data[: self.place]
        if self.take(CRC_BYTES) != _crc(body, start):
            raise FieldError


def _crc(data: bytes, start: int) -> bytes:
    return zlib.crc32(data, start).to_bytes(CRC_BYTES, "big")
