"""Frames of several GOPs computed at once: two on half the threads each take less time than one after the other on all.

    file ─▶ units, read ahead ─▶ symbols of each ─▶ frames, each GOP on a thread of its own ─▶ in order, to `Playback`

Symbols are decoded one GOP after another, by the thread that asks for frames.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO, Protocol, runtime_checkable

import torch

from gnvc_vd.bitstream import BitstreamError, Damage, End, Header, Unit
from gnvc_vd.bitstream.playback import DecodeOptions, Parts, UnitDecoder
from gnvc_vd.conventions import Frame

AT_ONCE = 2
LARGEST = 832 * 480 * 25  # pixels of a GOP, whose frames are all held


@runtime_checkable
class PreparingDecoder(UnitDecoder, Protocol):
    @property
    def decodes_ahead(self) -> bool:
        """Whether to decode GOPs ahead, which saves time on a CPU, unless kernels are compiled for all its threads."""

    def prepare(self, unit: Unit) -> Callable[[], list[Frame]]:
        """Decode a unit's symbols; its frames are left to what is returned, which any thread may call."""


class GopsAhead:
    """A reader and a decoder for `Playback`, of a reader and a decoder."""

    def __init__(
        self, parts: Parts, decoder: PreparingDecoder, decoding: DecodeOptions, pool: ThreadPoolExecutor
    ) -> None:
        self.header: Header = parts.header
        self._parts, self._decoder, self._decoding, self._pool = parts, decoder, decoding, pool
        self._started: dict[int, Future[list[Frame]]] = {}  # by index of the GOP

    def __iter__(self) -> Iterator[Unit | Damage | End]:
        waiting = deque[Unit | Damage | End]()
        for part in self._parts:
            waiting.append(part)
            if len(waiting) > 1:  # the first GOP's frames come latent by latent
                self._start(part)
            if len(waiting) == AT_ONCE:
                yield waiting.popleft()
        yield from waiting

    def frames(self, unit: Unit) -> Iterator[Frame]:
        started = self._started.pop(unit.index, None)
        return self._decoder.frames(unit) if started is None else iter(started.result())

    def skip(self, unit: Unit) -> None:
        self._decoder.skip(unit)

    def _start(self, part: Unit | Damage | End) -> None:
        if not isinstance(part, Unit) or not self._decoding.selects(part.index):
            return
        if part.frames * self.header.width * self.header.height <= LARGEST:
            try:
                self._started[part.index] = self._pool.submit(self._decoder.prepare(part))
            except BitstreamError:
                return  # it says so again where its frames are asked for


@contextmanager
def decode_ahead(
    parts: Parts, decoder: UnitDecoder, decoding: DecodeOptions, stream: BinaryIO
) -> Iterator[tuple[Parts, UnitDecoder]]:
    """The reader and the decoder to play a stream with: those given, or ones that decode ahead where that is quicker.

    That is on a CPU of several threads, if nothing is compiled. A pipe is not read ahead, since it may bring what
    somebody films now.
    """
    threads = torch.get_num_threads()
    idle = threads >= AT_ONCE and stream.seekable()
    if not idle or not isinstance(decoder, PreparingDecoder) or not decoder.decodes_ahead:
        yield parts, decoder
        return
    pool = ThreadPoolExecutor(AT_ONCE, initializer=torch.set_num_threads, initargs=(threads // AT_ONCE,))
    try:
        ahead = GopsAhead(parts, decoder, decoding, pool)
        yield ahead, ahead
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
