"""Decode a stream's units to frames, in order; optionally some GOPs only, or with lost units concealed."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Protocol

import numpy as np

from gnvc_vd.bitstream import BitstreamError, Damage, End, Header, Reader, Unit
from gnvc_vd.bitstream.gop import MAX_GOP
from gnvc_vd.bitstream.layout import UNIT_OVERHEAD
from gnvc_vd.conventions import MAX_PIXELS, Frame, UsageError
from gnvc_vd.presets import SHIPPED_BEFORE

SMALLEST_UNIT = UNIT_OVERHEAD - 1  # bytes
MOST_LOST = 127  # GOPs that the number of the next unit can show to be missing, with no bytes left of them


@dataclass(frozen=True)
class DecodeOptions:
    """Decoder options."""

    steps: int | None = None  # of refinement; None: as the stream says
    refine: bool = True
    apart: bool = False  # refine each latent independently of the others
    tile: int | None = None  # size of the refiner's tiles in pixels, 0 for none; None: as the model says
    first_gop: int = 0
    last_gop: int | None = None  # exclusive; None: to the end
    conceal: bool = False  # repeat the last frame in place of lost ones
    allow_other_weights: bool = False
    max_pixels: int = MAX_PIXELS

    def selects(self, gop: int) -> bool:
        return self.first_gop <= gop and (self.last_gop is None or gop < self.last_gop)


def model_hint(header: Header) -> str:
    """Suffix for error messages: where to get a stream's model, or ""."""
    model = SHIPPED_BEFORE.get(header.shown_identity.hex())
    return f" (--model with {model})" if model else ""


def check_weights(header: Header, own: bytes, codec_name: str) -> None:
    """Refuse a stream coded with other float weights: its symbols decode correctly, its pictures would not."""
    if header.shown_identity != own:
        raise BitstreamError(
            f"coded with weights {header.shown_identity.hex()}; {codec_name} has {own.hex()} and would show "
            f"wrong pictures (--allow-other-weights shows them){model_hint(header)}"
        )


class Parts(Protocol):
    """What a `Reader` reads."""

    @property
    def header(self) -> Header: ...

    def __iter__(self) -> Iterator[Unit | Damage | End]: ...


class UnitDecoder(Protocol):
    """Decodes a stream's units to frames, in order; constructed with the stream's parsed header."""

    def frames(self, unit: Unit) -> Iterator[Frame]:
        """Decode a unit to frames, T H W 3, in parts.

        Raises:
            BitstreamError: the unit is damaged; parts already yielded are valid.
        """

    def skip(self, unit: Unit) -> None:
        """Update the state that later units depend on, without decoding this unit's frames."""


def decode_stream(
    stream: bytes | BinaryIO,
    decoder_of: Callable[[Header, DecodeOptions], UnitDecoder],
    decoding: DecodeOptions | None = None,
    **options: Any,
) -> Iterator[Frame]:
    """Decode a stream to frames T H W 3, part by part; options are fields of `DecodeOptions`.

    Raises:
        BitstreamError: damage (unless `conceal` is set), or a stream of another model.
    """
    decoding = replace(decoding or DecodeOptions(), **options)
    reader = Reader(io.BytesIO(stream) if isinstance(stream, bytes) else stream, decoding.max_pixels)
    return Playback(reader, decoding, decoder_of(reader.header, decoding)).frames()


class Playback:
    """Decodes a stream to frames, after its header has been read.

    Args:
        notify: called with a message for each concealed damage.
    """

    def __init__(
        self,
        reader: Parts,
        decoding: DecodeOptions,
        decoder: UnitDecoder,
        notify: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._reader, self._decoding, self._decoder, self._notify = reader, decoding, decoder, notify
        self.repeated_frames = 0  # frames repeated in place of lost ones
        self._last: Frame | None = None
        self._gop_frames = 0
        self._shown = 0
        self._lost_gops = 0
        self._unfilled = 0  # lost GOPs, of those to show, that no frames stand for yet
        self._gops = 0  # found in the stream so far

    def frames(self) -> Iterator[Frame]:
        last = self._decoding.last_gop
        for part in self._reader:
            if isinstance(part, Damage):
                self._note_damage(part)
            elif isinstance(part, Unit):
                # Lost GOPs are taken to be as long as the one before them; the first ones, as the one behind them.
                yield from self._fill_lost(self._gop_frames or part.frames)
                yield from self._decode_unit(part)
            elif not self._decodes_all():
                self._gops = max(self._gops, part.gops)
                yield from self._fill_lost(self._gop_frames)
            else:
                # The closing unit's frame count is untrusted: limited to what the lost units can hold.
                yield from self._repeat_last(min(part.frames - self._shown, self._lost_gops * MAX_GOP))
            if last is not None and self._gops >= last:
                return  # damage behind it is of no concern
        if self._gops and self._gops <= (first := self._decoding.first_gop):
            asked = f"{first}:{'' if last is None else last}"
            raise UsageError(f"GOPs {asked} are asked for; the stream has {self._gops}, counted from 0")

    def _decode_unit(self, unit: Unit) -> Iterator[Frame]:
        self._gops = unit.index + 1
        if self._decoding.last_gop is not None and unit.index >= self._decoding.last_gop:
            return
        selected = self._decoding.selects(unit.index)
        before = self._shown
        self._gop_frames = unit.frames
        try:
            if not selected:
                self._decoder.skip(unit)
                return
            for frames in self._decoder.frames(unit):
                yield from self._emit(frames)
        except BitstreamError as error:
            message = f"GOP {unit.index} is damaged: {error}"
            if not self._decoding.conceal:
                raise BitstreamError(message) from error
            self._notify(message)
            if selected:
                yield from self._repeat_last(before + unit.frames - self._shown)

    def _note_damage(self, damage: Damage) -> None:
        message = f"damage at byte {damage.offset}, from GOP {damage.first_gop} on: {damage.reason}"
        if not self._decoding.conceal:
            raise BitstreamError(message)
        self._notify(message)
        held = damage.size // SMALLEST_UNIT
        self._lost_gops += 1 + held if damage.lost is None else min(damage.lost, MOST_LOST + held)
        lost = range(damage.first_gop, damage.first_gop + min(damage.lost or 0, MOST_LOST + held))
        self._unfilled += sum(map(self._decoding.selects, lost))

    def _fill_lost(self, frames: int) -> Iterator[Frame]:
        """Fill in for the lost GOPs, of so many frames each."""
        count, self._unfilled = self._unfilled, 0
        yield from self._repeat_last(count * frames)

    def _repeat_last(self, count: int) -> Iterator[Frame]:
        header = self._reader.header
        if self._last is None:
            self._last = np.zeros((header.height, header.width, 3), dtype=np.uint8)
        for _ in range(count):
            self.repeated_frames += 1
            yield from self._emit(self._last[None])

    def _emit(self, frames: Frame) -> Iterator[Frame]:
        self._last = frames[-1]
        self._shown += len(frames)
        yield frames

    def _decodes_all(self) -> bool:
        return self._decoding.first_gop == 0 and self._decoding.last_gop is None
