"""Write and read .gnvc streams, on files or pipes, without seeking.

    Writer(stream, header).write(unit) … .close()
    Reader(stream).header; for part in reader: …           Unit | Damage | End

Damage affects its own unit only: the reader searches for the next position at which a whole unit can be parsed. The
number of bytes that it checks is limited, so that crafted files take linear time. A claimed length takes no memory: the
buffer grows only with bytes that are read, up to one unit.
"""

import io
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from gnvc_vd.bitstream import layout
from gnvc_vd.bitstream.layout import END_MARKER, UNIT_OVERHEAD, BitstreamError, Damage, End, Header, Unit
from gnvc_vd.conventions import MAX_PIXELS

CHUNK = 1 << 16
# Bytes of units that may be checked in a stream, plus SEARCH_FACTOR for every byte that is passed.
SEARCH_ALLOWANCE = 1 << 26
SEARCH_FACTOR = 32  # in random bytes, false candidates of version 2 make a search check 20 for every byte passed


def _candidate(quality_and_policy: bytes) -> re.Pattern[bytes]:
    """Pattern of the start of a unit (marker, number, size, bounded frames, quality and policy) or the closing unit."""
    unit = rb"\xe7.(?:[\x00-\x7f].|[\x80-\xff]..)[\x01-\xfd]" + quality_and_policy
    return re.compile(unit + b"|" + re.escape(END_MARKER) + rb"(?:[\x80-\xff]{0,4}[\x00-\x7f]){2}", re.DOTALL)


CANDIDATES = {1: _candidate(rb"[\x00-\x3f][\x00-\x07]"), 2: _candidate(rb".[\x00-\x9f]")}  # by version


class Writer:
    """Writes a stream from front to back; `close()` completes it."""

    def __init__(self, stream: BinaryIO, header: Header) -> None:
        packed = layout.pack_header(header)
        self._stream = stream
        self._header_crc, self._version = zlib.crc32(packed), header.version
        self._gops = self._frames = 0
        self.bytes_written = 0
        self._put(packed)

    def write(self, unit: Unit) -> None:
        if unit.index != self._gops:
            raise ValueError(f"unit {unit.index} written after {self._gops} units")
        self._put(layout.pack_unit(unit, self._header_crc, self._version))
        self._gops += 1
        self._frames += unit.frames

    def close(self) -> None:
        self._put(layout.pack_end(End(self._frames, self._gops), self._header_crc))

    def _put(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()  # a reader at the other end of a pipe waits for whole units
        self.bytes_written += len(data)


def pack_stream(header: Header, units: Iterable[Unit]) -> bytes:
    """Pack header and units to a complete stream."""
    stream = io.BytesIO()
    writer = Writer(stream, header)
    for unit in units:
        writer.write(unit)
    writer.close()
    return stream.getvalue()


class Reader:
    """Reads a stream from front to back.

    Iteration yields every intact unit, a Damage for every gap between them, and the End if there is one. A truncated
    stream ends with a Damage.

    Args:
        max_pixels: limit of width × height.
    """

    def __init__(self, stream: BinaryIO, max_pixels: int = MAX_PIXELS) -> None:
        self._input = _Buffer(stream)
        head = self._input.peek(layout.MAX_HEADER)
        self.header, size = layout.parse_header(head)
        width, height = self.header.width, self.header.height
        if width * height > max_pixels:
            limit = f"the limit of {max_pixels} pixels (--max-pixels)"
            raise BitstreamError(f"a picture of {width}×{height} is larger than {limit}")
        self._header_crc = zlib.crc32(head[:size])
        self._candidate = CANDIDATES[self.header.version]
        self._input.skip(size)
        self._gops = self._frames = 0  # GOPs passed, lost ones included; frames read
        self._allowance = SEARCH_ALLOWANCE

    @property
    def bytes_read(self) -> int:
        """Number of bytes read so far; the stream's size after the iteration."""
        return self._input.offset

    def __iter__(self) -> Iterator[Unit | Damage | End]:
        whole = True
        while True:
            start = self._input.offset
            part, size = self._parse()
            if part is None:
                reason = self._damage_reason()
                part, size = self._search()
            elif isinstance(part, Unit) and part.index < self._gops:
                self._pass(size)
                yield Damage(start, size, self._gops, 0, f"GOP {part.index} is repeated")
                whole = False
                continue
            else:
                reason = "GOPs are missing"
            passed = _gops_before(part)
            if start != self._input.offset or part is None or passed != self._gops:
                lost = passed - self._gops if passed is not None and passed >= self._gops else None
                yield Damage(start, self._input.offset - start, self._gops, lost, reason)
                whole = False
            if part is None:
                return
            offset = self._input.offset
            self._pass(size)
            if isinstance(part, End):
                yield from self._at_end(part, offset, whole)
                return
            self._gops, self._frames = part.index + 1, self._frames + part.frames
            yield part

    def _parse(self) -> tuple[Unit | End | None, int]:
        """Parse the unit or closing unit at the current position, without consuming it; also return its size.

        A unit that claims more than the allowance counts as invalid.
        """
        head = self._input.peek(UNIT_OVERHEAD)
        if head[:2] == END_MARKER:
            return layout.parse_end(head, self._header_crc)
        size = layout.claimed_size(head)
        if size is None or size > self._allowance:
            return None, 0
        self._allowance -= size
        return layout.parse_unit(self._input.peek(size), self._gops, self._header_crc, self.header.version), size

    def _damage_reason(self) -> str:
        size = layout.claimed_size(self._input.peek(UNIT_OVERHEAD))
        wanted = UNIT_OVERHEAD - 1 if size is None else size
        return "damaged" if self._input.holds(wanted) else "cut short"

    def _pass(self, count: int) -> None:
        self._input.skip(count)
        self._allowance += SEARCH_FACTOR * count

    def _search(self) -> tuple[Unit | End | None, int]:
        """Advance to the next part behind the current position that can be parsed, or to the end of the stream."""
        while True:
            self._pass(1)
            start = self._input.offset
            match = self._input.skip_to(self._candidate)
            self._allowance += SEARCH_FACTOR * (self._input.offset - start)
            if not match:
                return None, 0
            size = layout.claimed_size(self._input.peek(UNIT_OVERHEAD)) or UNIT_OVERHEAD
            # A candidate is parsed if it is short or another part may follow it.
            if size <= CHUNK or self._input.follows(self._candidate, size):
                part, size = self._parse()
                if part is not None and not (isinstance(part, Unit) and part.index < self._gops):
                    return part, size

    def _at_end(self, end: End, offset: int, whole: bool) -> Iterator[Damage | End]:
        if whole and end.frames != self._frames:
            yield Damage(offset, 0, self._gops, 0, f"{self._frames} frames were read, but {end.frames} were written")
        yield end
        trailing = self._input.offset
        while self._input.peek(1):
            self._input.skip(CHUNK)
        if self._input.offset > trailing:
            yield Damage(trailing, self._input.offset - trailing, self._gops, 0, "bytes after the closing unit")


def _gops_before(part: Unit | End | None) -> int | None:
    if part is None:
        return None
    return part.index if isinstance(part, Unit) else part.gops


class _Buffer:
    """A buffer over a forward stream, with lookahead."""

    def __init__(self, stream: BinaryIO) -> None:
        # read1 returns what a pipe has now, without waiting for more.
        self._read = getattr(stream, "read1", stream.read)
        self._held = bytearray()
        self._start = 0  # index in _held of the first unconsumed byte
        self._ended = False
        self.offset = 0  # position in the stream of the first unconsumed byte

    def peek(self, count: int) -> bytes:
        """The next `count` bytes without consuming them; fewer only at the end."""
        self._fill(count)
        return bytes(self._held[self._start : self._start + count])

    def holds(self, count: int) -> bool:
        """Whether the stream has `count` bytes more."""
        self._fill(count)
        return len(self._held) - self._start >= count

    def skip(self, count: int) -> None:
        self._fill(count)
        step = min(count, len(self._held) - self._start)
        self._start += step
        self.offset += step
        if self._start > max(CHUNK, len(self._held) // 2):
            del self._held[: self._start]
            self._start = 0

    def skip_to(self, candidate: re.Pattern[bytes]) -> bool:
        """Advance to the next position at which a part may begin; False at the end of the stream."""
        while True:
            self._fill(CHUNK)
            match = candidate.search(self._held, self._start)
            if match:
                self.skip(match.start() - self._start)
                return True
            held = len(self._held) - self._start
            if self._ended:
                self.skip(held)
                return False
            self.skip(held - UNIT_OVERHEAD)

    def follows(self, candidate: re.Pattern[bytes], size: int) -> bool:
        """Whether a part may begin, or the stream ends, `size` bytes ahead."""
        self._fill(size + UNIT_OVERHEAD)
        place = self._start + size
        return place == len(self._held) or candidate.match(self._held, place) is not None

    def _fill(self, count: int) -> None:
        while len(self._held) - self._start < count and not self._ended:
            data = self._read(CHUNK)
            self._ended = not data
            self._held += data
