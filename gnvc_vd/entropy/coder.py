"""Integers to bytes and back: compressai's rANS, kept away from everything it does not survive.

    Encoder().put(values, indexes, tables) … .finish() → payload          any int64 within ±LIMIT
    Decoder(payload).get(indexes, tables) … .finish()

compressai 1.2.8 crashes on empty streams, corrupts memory at one symbol, hangs on far outliers and reads past the end
of a cut stream. Here a stream never has fewer than 16 symbols, outliers are spelled by us, and the decoder knows what
every symbol costs: it stops before more has been read than the payload holds, and pads for what one step may read.
"""

from collections.abc import Sequence

import numpy as np

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.entropy.cdf_tables import PRECISION, TOTAL, Integers, Tables
from gnvc_vd.entropy.rans import BufferedRansEncoder, RansDecoder

LIMIT = (1 << 24) - 1  # the largest magnitude of a symbol
MIN_SYMBOLS = 16
WORD = 4  # bytes that rANS writes at a time
STATE_BITS = (32, 64)  # what a stream holds beside its symbols' information
STEP = 1 << 18  # symbols that are decoded between two looks at what they cost
CHUNK = 8  # bits of a spelled number in one symbol


def _uniform(bits: int) -> Integers:
    return np.full(1 << bits, TOTAL >> bits, dtype=np.int64)


SPELLING = Tables([_uniform(max(bits, 1)) for bits in range(CHUNK + 1)])  # table b holds b bits
CLASSES = 5  # the table for a number's length
CERTAIN = Tables([np.array([TOTAL - 2, 1, 1])])


class DamagedPayloadError(BitstreamError):
    """Bytes that no encoder of ours wrote."""


class Encoder:
    """One payload."""

    def __init__(self) -> None:
        self._rans = BufferedRansEncoder()
        self._symbols = 0
        self.bits = 0.0  # information put in so far

    def put(self, values: Integers, indexes: Integers, tables: Tables) -> None:
        reach = tables.reach[indexes]
        near = np.clip(values, -(reach + 1), reach + 1)
        self._put(near + reach + 1, indexes, tables)
        far = np.abs(near) > reach
        if far.any():
            self._spell(np.minimum(np.abs(values[far]), LIMIT) - reach[far])

    def finish(self) -> bytes:
        missing = max(0, MIN_SYMBOLS - self._symbols)
        self._put(np.zeros(missing, dtype=np.int64), np.zeros(missing, dtype=np.int64), CERTAIN)
        payload: bytes = self._rans.flush()
        return payload

    def _spell(self, numbers: Integers) -> None:
        """Positive numbers: how many bits follow the leading one, then these bits, highest first."""
        lengths = _bit_lengths(numbers)
        self._put(lengths, np.full_like(lengths, CLASSES), SPELLING)
        for low, width in _chunks(lengths):
            some = width > 0
            self._put((numbers >> low)[some] & ((1 << width[some]) - 1), width[some], SPELLING)

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

    def __init__(self, payload: bytes) -> None:
        if len(payload) % WORD or len(payload) < 2 * WORD:
            raise DamagedPayloadError(f"a payload of {len(payload)} bytes is none")
        self._size = 8 * len(payload)
        self._symbols = 0
        self.bits = 0.0
        self._rans = RansDecoder()
        self._rans.set_stream(payload + bytes(STEP * PRECISION // 8 + 4 * WORD))

    def get(self, indexes: Integers, tables: Tables) -> Integers:
        reach = tables.reach[indexes]
        near = self._get(indexes, tables) - reach - 1
        far = np.abs(near) > reach
        if far.any():
            near[far] = np.sign(near[far]) * (reach[far] + self._spelled(int(far.sum())))
        return near

    def finish(self) -> None:
        """The payload must end here: a stream's length follows from what its symbols cost."""
        missing = max(0, MIN_SYMBOLS - self._symbols)
        self._get(np.zeros(missing, dtype=np.int64), CERTAIN)
        beside = self._size - self.bits
        slack = 8 + self._symbols / (1 << 13)
        if not STATE_BITS[0] - slack <= beside <= STATE_BITS[1] + slack:
            raise DamagedPayloadError("the payload does not end where its symbols do")

    def _spelled(self, count: int) -> Integers:
        lengths = self._get(np.full(count, CLASSES), SPELLING)
        if lengths.max() >= LIMIT.bit_length():
            raise DamagedPayloadError("a symbol is out of bounds")
        numbers = np.int64(1) << lengths
        for low, width in _chunks(lengths):
            some = width > 0
            numbers[some] |= self._get(width[some], SPELLING) << low[some]
        return numbers

    def _get(self, indexes: Integers, tables: Tables) -> Integers:
        parts = [self._step(part, tables) for part in _steps(indexes)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def _step(self, indexes: Integers, tables: Tables) -> Integers:
        symbols = np.array(
            self._rans.decode_stream(indexes.tolist(), tables.cumulative, tables.sizes, tables.offsets), dtype=np.int64
        )
        self._symbols += len(symbols)
        self.bits += float(tables.bits[tables.first[indexes] + symbols].sum())
        if self.bits > self._size:
            raise DamagedPayloadError("the payload ends before its symbols do")
        return symbols


def _steps(indexes: Integers) -> Sequence[Integers]:
    return [indexes[start : start + STEP] for start in range(0, len(indexes), STEP)]


def _bit_lengths(numbers: Integers) -> Integers:
    """Bits after the leading one; exact, numbers being far below 2^53."""
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64) - 1


def _chunks(lengths: Integers) -> list[tuple[Integers, Integers]]:
    """Where each chunk of bits begins and how wide it is, highest chunk first; width 0 where a number has none."""
    longest = int(lengths.max())
    return [
        (np.full_like(lengths, low), np.clip(lengths - low, 0, CHUNK)) for low in reversed(range(0, longest, CHUNK))
    ]
