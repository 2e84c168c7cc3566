"""Entropy coder: compressai's rANS, guarded against inputs that crash it.

    Encoder(tables).put(values, indexes) … .finish() → payload          any int64 within ±LIMIT
    Decoder(payload, tables).get(indexes) … .finish()

compressai 1.2.8 crashes on empty streams, corrupts memory on streams of one symbol, hangs on symbols near ±2^30 and
reads past the end of a truncated stream. So a stream here has at least 16 symbols, large values are escape-coded, and
the decoder counts the bits of its symbols: it stops once they exceed the payload, which is padded for one step's reads.
"""

import importlib
import sys
from array import array
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.entropy.cdf_tables import PRECISION, TOTAL, Integers, Tables

LIMIT = (1 << 24) - 1  # the largest magnitude of a symbol
MIN_SYMBOLS = 16
WORD = 4  # bytes; rANS writes whole words
STATE_BITS = (32, 64)  # bits of a stream beside the information of its symbols: at least and at most
STEP = 1 << 16  # symbols at a time, so that temporaries stay small; decoders check the bit count between two steps
CHUNK = 8  # bits of an escaped number that one symbol holds


# Table b holds b bits.
ESCAPE_TABLES = Tables([np.full(1 << bits, TOTAL >> bits) for bits in (1, *range(1, CHUNK + 1))])
LENGTH_TABLE = 5  # the table for a number's length
PADDING_TABLE = Tables([np.array([TOTAL - 2, 1, 1])])


class DamagedPayloadError(BitstreamError):
    """A payload that is damaged, or that this coder did not write."""


def _compressais_rans() -> ModuleType:
    """Import compressai's compiled coder alone; the whole package takes seconds to import."""
    name, package = "compressai.ans", find_spec("compressai")
    spec = PathFinder.find_spec(name, package.submodule_search_locations) if package else None
    if name in sys.modules or spec is None or spec.loader is None:
        return importlib.import_module(name)
    module = sys.modules[name] = module_from_spec(spec)  # compressai finds it here if it is imported later
    spec.loader.exec_module(module)
    return module


RANS = _compressais_rans()


class Encoder:
    """Encodes symbols to one payload."""

    def __init__(self, tables: Tables) -> None:
        self._tables, self._rans = tables, RANS.BufferedRansEncoder()
        self._symbols = 0
        self.bits = 0.0  # information of the symbols so far

    def put(self, values: Integers, indexes: Integers) -> None:
        """Encode values, each with the table of its index."""
        escaped = [np.zeros(0, np.int64)]
        for start in range(0, len(values), STEP):
            part, levels = values[start : start + STEP], indexes[start : start + STEP]
            edge = self._tables.edge.take(levels)
            near = np.minimum(np.maximum(part, -edge), edge)
            self._put(near + edge, levels, self._tables)
            far = np.abs(near) == edge
            escaped.append(np.minimum(np.abs(part[far]), LIMIT) - (edge[far] - 1))
        self._escape(np.concatenate(escaped))

    def finish(self) -> bytes:
        filling = np.zeros(max(0, MIN_SYMBOLS - self._symbols), dtype=np.int64)
        self._put(filling, filling, PADDING_TABLE)
        return bytes(self._rans.flush())

    def _escape(self, numbers: Integers) -> None:
        """Encode positive numbers in Elias-gamma manner: the number of bits after the leading 1, then those bits."""
        lengths = np.frexp(numbers.astype(np.float64))[1].astype(np.int64) - 1  # exact: they are far below 2^53
        self._put(lengths, np.full_like(lengths, LENGTH_TABLE), ESCAPE_TABLES)
        for some, low, width in _chunks(lengths):
            self._put(numbers[some] >> low & ((1 << width) - 1), width, ESCAPE_TABLES)

    def _put(self, symbols: Integers, indexes: Integers, tables: Tables) -> None:
        if len(symbols):
            self._symbols += len(symbols)
            self.bits += float(tables.bits.take(tables.first.take(indexes) + symbols).sum())
            self._rans.encode_with_indexes(_sequence(symbols), _sequence(indexes), *tables.up_to(indexes.max()))


class Decoder:
    """Decodes one payload, which may be hostile."""

    def __init__(self, payload: bytes, tables: Tables) -> None:
        if len(payload) % WORD or len(payload) < 2 * WORD:
            raise DamagedPayloadError(f"a payload cannot have {len(payload)} bytes")
        self._size = 8 * len(payload)
        self._symbols = 0
        self.bits = 0.0
        self._tables, self._rans = tables, RANS.RansDecoder()
        self._rans.set_stream(payload + bytes(STEP * PRECISION // 8 + 4 * WORD))

    def get(self, indexes: Integers) -> Integers:
        edge = self._tables.edge.take(indexes)
        near = self._get(indexes, self._tables) - edge
        far = np.abs(near) == edge
        if far.any():
            near[far] = np.sign(near[far]) * (edge[far] - 1 + self._read_escapes(int(far.sum())))
        return near

    def finish(self) -> None:
        """Check that the payload ends here: its length must match the information of its symbols."""
        missing = max(0, MIN_SYMBOLS - self._symbols)
        self._get(np.zeros(missing, dtype=np.int64), PADDING_TABLE)
        beside = self._size - self.bits
        slack = 8 + self._symbols / (1 << 13)
        if not STATE_BITS[0] - slack <= beside <= STATE_BITS[1] + slack:
            raise DamagedPayloadError("the payload does not end where its symbols do")

    def _read_escapes(self, count: int) -> Integers:
        lengths = self._get(np.full(count, LENGTH_TABLE), ESCAPE_TABLES)
        if lengths.max() >= LIMIT.bit_length():
            raise DamagedPayloadError("a symbol is out of bounds")
        numbers = np.int64(1) << lengths
        for some, low, width in _chunks(lengths):
            numbers[some] |= self._get(width, ESCAPE_TABLES) << low
        return numbers

    def _get(self, indexes: Integers, tables: Tables) -> NDArray[Any]:
        parts = [np.zeros(0, np.uint8)]
        for start in range(0, len(indexes), STEP):
            part = indexes[start : start + STEP]
            parts.append(_array(self._rans.decode_stream(_sequence(part), *tables.up_to(part.max()))))
            self.bits += float(tables.bits.take(tables.first.take(part) + parts[-1]).sum())
            if self.bits > self._size:
                raise DamagedPayloadError("the payload ends before its symbols do")
        self._symbols += len(indexes)
        return np.concatenate(parts, dtype=np.int32)


def _sequence(numbers: Integers) -> "bytearray | array[int]":
    """Numbers as compressai takes them, which is any sequence: of bytes it reads fastest, a list takes long to make."""
    return bytearray(numbers.astype(np.uint8)) if numbers.max() < 256 else array("i", numbers.astype("i4").tobytes())


def _array(numbers: list[int]) -> NDArray[Any]:
    try:
        return np.frombuffer(bytearray(numbers), np.uint8)  # far faster than numpy reads a list
    except ValueError:  # one is above 255
        return np.fromiter(numbers, np.int64, len(numbers))


def _chunks(lengths: Integers) -> Iterator[tuple[NDArray[np.bool_], int, Integers]]:
    """Chunks of bits, the highest first: which numbers reach into it, its lowest bit, its width in each number."""
    for low in reversed(range(0, int(lengths.max(initial=0)), CHUNK)):
        some = lengths > low
        yield some, low, np.minimum(lengths[some] - low, CHUNK)
