"""Integers to bytes and back: compressai's rANS, guarded against inputs that make it crash.

    Encoder(tables).put(values, indexes) … .finish() → payload          any int64 within ±LIMIT
    Decoder(payload, tables).get(indexes) … .finish()

compressai 1.2.8 crashes on empty streams, corrupts memory at one symbol, hangs on far outliers and reads past the end
of a cut stream. Here a stream never has fewer than 16 symbols, outliers are escape-coded, and the decoder counts the
bits of its symbols: it stops before they exceed the payload, which is padded for one step's reads.
"""

import importlib
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.entropy.cdf_tables import PRECISION, TOTAL, Integers, Tables

LIMIT = (1 << 24) - 1  # the largest magnitude of a symbol
MIN_SYMBOLS = 16
WORD = 4  # bytes that rANS writes at a time
STATE_BITS = (32, 64)  # what a stream holds beside its symbols' information
STEP = 1 << 18  # symbols decoded between two checks of their bits
CHUNK = 8  # bits of a spelled number in one symbol


ESCAPE_TABLES = Tables(
    [np.full(1 << bits, TOTAL >> bits) for bits in (1, *range(1, CHUNK + 1))]
)  # table b holds b bits
LENGTH_TABLE = 5  # the table for a number's length
PADDING_TABLE = Tables([np.array([TOTAL - 2, 1, 1])])


class DamagedPayloadError(BitstreamError):
    """Bytes that no encoder of ours wrote."""


def _compressais_rans() -> ModuleType:
    """The compiled module without the rest of its package, whose data sets and models take seconds to import."""
    name, package = "compressai.ans", find_spec("compressai")
    spec = PathFinder.find_spec(name, package.submodule_search_locations) if package else None
    if name in sys.modules or spec is None or spec.loader is None:
        return importlib.import_module(name)
    module = sys.modules[name] = module_from_spec(spec)  # where the package finds it if it is imported later
    spec.loader.exec_module(module)
    return module


RANS = _compressais_rans()


class Encoder:
    """One payload."""

    def __init__(self, tables: Tables) -> None:
        self._tables, self._rans = tables, RANS.BufferedRansEncoder()
        self._symbols = 0
        self.bits = 0.0  # information put in so far

    def put(self, values: Integers, indexes: Integers) -> None:
        """Values, and the table that each is coded with."""
        reach = self._tables.reach[indexes]
        near = np.clip(values, -(reach + 1), reach + 1)
        self._put(near + reach + 1, indexes, self._tables)
        far = np.abs(near) > reach
        if far.any():
            self._escape(np.minimum(np.abs(values[far]), LIMIT) - reach[far])

    def finish(self) -> bytes:
        filling = np.zeros(max(0, MIN_SYMBOLS - self._symbols), dtype=np.int64)
        self._put(filling, filling, PADDING_TABLE)
        return bytes(self._rans.flush())

    def _escape(self, numbers: Integers) -> None:
        """Positive numbers: how many bits follow the leading one, then these bits, highest first."""
        lengths = np.frexp(numbers.astype(np.float64))[1].astype(np.int64) - 1  # exact: they are far below 2^53
        self._put(lengths, np.full_like(lengths, LENGTH_TABLE), ESCAPE_TABLES)
        for some, low, width in _chunks(lengths):
            self._put(numbers[some] >> low & ((1 << width) - 1), width, ESCAPE_TABLES)

    def _put(self, symbols: Integers, indexes: Integers, tables: Tables) -> None:
        if not len(symbols):
            return
        self._symbols += len(symbols)
        self.bits += float(tables.bits[tables.first[indexes] + symbols].sum())
        self._rans.encode_with_indexes(
            symbols.tolist(), indexes.tolist(), tables.cumulative, tables.sizes, tables.offsets
        )


class Decoder:
    """Reads one payload, which may be hostile."""

    def __init__(self, payload: bytes, tables: Tables) -> None:
        if len(payload) % WORD or len(payload) < 2 * WORD:
            raise DamagedPayloadError(f"a payload of {len(payload)} bytes is none")
        self._size = 8 * len(payload)
        self._symbols = 0
        self.bits = 0.0
        self._tables, self._rans = tables, RANS.RansDecoder()
        self._rans.set_stream(payload + bytes(STEP * PRECISION // 8 + 4 * WORD))

    def get(self, indexes: Integers) -> Integers:
        reach = self._tables.reach[indexes]
        near = self._get(indexes, self._tables) - reach - 1
        far = np.abs(near) > reach
        if far.any():
            near[far] = np.sign(near[far]) * (reach[far] + self._read_escapes(int(far.sum())))
        return near

    def finish(self) -> None:
        """Check that the payload ends here: its length must match its symbols' bits."""
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

    def _get(self, indexes: Integers, tables: Tables) -> Integers:
        symbols = np.zeros(len(indexes), dtype=np.int64)
        for start in range(0, len(indexes), STEP):
            part = indexes[start : start + STEP]
            decoded = self._rans.decode_stream(part.tolist(), tables.cumulative, tables.sizes, tables.offsets)
            symbols[start : start + STEP] = decoded
            self.bits += float(tables.bits[tables.first[part] + symbols[start : start + STEP]].sum())
            if self.bits > self._size:
                raise DamagedPayloadError("the payload ends before its symbols do")
        self._symbols += len(indexes)
        return symbols


def _chunks(lengths: Integers) -> Iterator[tuple[NDArray[np.bool_], int, Integers]]:
    """Chunks of bits, the highest first: which numbers reach into it, where it begins, and how wide it is in each."""
    for low in reversed(range(0, int(lengths.max()), CHUNK)):
        some = lengths > low
        yield some, low, np.minimum(lengths[some] - low, CHUNK)
