"""What a GVC unit's payload holds (docs/format.md), and which latents get how many atoms.

flags · M · M of the tail · tail latents · sketch · caption · first still · last still · atoms · tail residual
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.bitstream.layout import VarintError, parse_varint, varint
from gnvc_vd.zeroshot import drift
from gnvc_vd.zeroshot.codebook import MAX_ATOMS
from gnvc_vd.zeroshot.combinadic import bits, rank, unrank

FIRST_STILL, LAST_STILL, CAPTION, RESIDUAL = 1, 2, 4, 8
MAX_PART = (1 << 23) - 1
MAX_CAPTION = 4096
MAX_TAIL_LATENTS = 64

Set = tuple[tuple[int, ...], tuple[int, ...]]  # ascending atoms, and their signs ±1


@dataclass(frozen=True)
class Allotment:
    """How many atoms each latent of a GOP gets at each stochastic step."""

    atoms: int
    tail_atoms: int = 0
    tail_latents: int = 0  # the last ones, which get `tail_atoms` instead

    def counts(self, latents: int, withheld: Sequence[int] = ()) -> list[int]:
        tail = max(0, latents - self.tail_latents)
        counts = [self.atoms if place < tail else self.tail_atoms for place in range(latents)]
        for place in withheld:
            counts[place] = 0
        return counts


@dataclass(frozen=True)
class Content:
    """A GOP as its payload says it."""

    allotment: Allotment
    sets: tuple[tuple[Set, ...], ...]  # for each stochastic step, for each latent
    sketch: bytes = bytes(drift.BYTES)
    caption: str = ""
    first: bytes | None = None
    last: bytes | None = None
    residual: bytes | None = None


def atom_bytes(counts: Sequence[int], steps: int, size: int) -> int:
    """What the atoms of a GOP take."""
    return -(-steps * sum(bits(size, count) + count for count in counts) // 8)


def pack(content: Content, size: int) -> bytes:
    allotment, caption = content.allotment, content.caption.encode()
    present = (content.first is not None, content.last is not None, bool(caption), content.residual is not None)
    flags = sum(flag << place for place, flag in enumerate(present))
    parts = [caption if caption else None, content.first, content.last]
    return b"".join(
        [
            bytes([flags]),
            *(varint(value) for value in (allotment.atoms, allotment.tail_atoms, allotment.tail_latents)),
            content.sketch,
            *(varint(len(part)) + part for part in parts if part is not None),
            _pack_sets(content.sets, size),
            content.residual or b"",
        ]
    )


class Parsed:
    """A payload, which may be hostile, up to its atoms; these need to be told how many latents there are."""

    def __init__(self, data: bytes) -> None:
        try:
            self._parse(data)
        except (IndexError, VarintError):
            raise BitstreamError("the payload is cut short or a number in it is out of bounds") from None

    def _parse(self, data: bytes) -> None:
        self.flags = data[0]
        if self.flags >= 16:
            raise BitstreamError("the payload has a part that this program does not know")
        atoms, place = parse_varint(data, 1, MAX_ATOMS)
        tail_atoms, place = parse_varint(data, place, MAX_ATOMS)
        tail_latents, place = parse_varint(data, place, MAX_TAIL_LATENTS)
        self.allotment = Allotment(atoms, tail_atoms, tail_latents)
        self.sketch, place = data[place : place + drift.BYTES], place + drift.BYTES
        parts: list[bytes | None] = []
        for flag, largest in ((CAPTION, MAX_CAPTION), (FIRST_STILL, MAX_PART), (LAST_STILL, MAX_PART)):
            part = None
            if self.flags & flag:
                length, place = parse_varint(data, place, largest)
                part, place = data[place : place + length], place + length
            parts.append(part)
        if place > len(data):
            raise IndexError
        caption, self.first, self.last = parts
        try:
            self.caption = (caption or b"").decode()
        except UnicodeDecodeError:
            raise BitstreamError("the caption is no text") from None
        self._rest = data[place:]

    def content(self, counts: Sequence[int], steps: int, size: int) -> Content:
        if max(counts) > size:
            raise BitstreamError(f"{max(counts)} atoms are to be chosen out of {size}")
        taken = atom_bytes(counts, steps, size)
        if len(self._rest) < taken or (not self.flags & RESIDUAL and len(self._rest) > taken):
            raise BitstreamError(f"the atoms take {taken} bytes and {len(self._rest)} are there")
        sets = tuple(_read_sets(self._rest[:taken], counts, steps, size))
        residual = self._rest[taken:] if self.flags & RESIDUAL else None
        return Content(self.allotment, sets, self.sketch, self.caption, self.first, self.last, residual)


def symbol_hash(content: Content) -> bytes:
    """Over the atoms, signs and other parts as they were read: 4 bytes."""
    digest = hashlib.blake2b(digest_size=4)
    for row in content.sets:
        for one in row:
            for numbers in one:
                digest.update(np.array(numbers, dtype="<i4").tobytes())
    for part in (content.caption.encode(), content.first, content.last, content.residual):
        digest.update(b"\0" if part is None else b"\1" + part)
    return digest.digest()


def _pack_sets(sets: Sequence[Sequence[Set]], size: int) -> bytes:
    """Each set's number and its signs, 1 for plus, lowest atom first; highest bit first throughout."""
    text = []
    for row in sets:
        for atoms, signs in row:
            width = bits(size, len(atoms))
            text.append(f"{rank(atoms, size):0{width}b}" if width else "")
            text.append("".join("1" if sign > 0 else "0" for sign in signs))
    joined = "".join(text)
    joined += "0" * (-len(joined) % 8)
    return int(joined, 2).to_bytes(len(joined) // 8, "big") if joined else b""


def _read_sets(data: bytes, counts: Sequence[int], steps: int, size: int) -> Iterator[tuple[Set, ...]]:
    place = 0

    def take(width: int) -> int:
        nonlocal place
        start, stop = place // 8, -(-(place + width) // 8)
        place += width
        return int.from_bytes(data[start:stop], "big") >> (8 * stop - place) & ((1 << width) - 1)

    for _ in range(steps):
        row = []
        for count in counts:
            atoms = unrank(take(bits(size, count)), size, count)
            signs = take(count)
            row.append((tuple(atoms), tuple(1 if signs >> one & 1 else -1 for one in reversed(range(count)))))
        yield tuple(row)
    if take(8 * len(data) - place):
        raise BitstreamError("the atoms do not end where they should")
