"""A GVC unit's payload (docs/format.md), and the numbers of atoms of its latents.

flags · M · M of the tail · number of tail latents · sketch · caption · first still · last still · atoms · tail residual
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain

import numpy as np

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.bitstream.layout import FieldError, Fields, varint
from gnvc_vd.common.strict import require
from gnvc_vd.zeroshot.codebook import Choice
from gnvc_vd.zeroshot.combinadic import MAX_ATOMS, bits, rank, unrank

FIRST_STILL, LAST_STILL, CAPTION, RESIDUAL = 1, 2, 4, 8
MAX_PART = (1 << 23) - 1
MAX_CAPTION = 4096
SKETCH_BYTES = 8  # trajectory.py
MAX_TAIL_LATENTS = 64


@dataclass(frozen=True)
class Allotment:
    """Numbers of atoms that the latents of a GOP get at each stochastic step."""

    atoms: int
    tail_atoms: int = 0
    tail_latents: int = 0  # number of last latents, which get `tail_atoms`

    def counts(self, latents: int, withheld: Sequence[int] = ()) -> list[int]:
        tail = latents - self.tail_latents
        counts = (self.atoms if place < tail else self.tail_atoms for place in range(latents))
        return [0 if place in withheld else count for place, count in enumerate(counts)]


@dataclass(frozen=True)
class Content:
    """The parsed content of a payload."""

    allotment: Allotment
    sets: tuple[tuple[Choice, ...], ...]  # for each stochastic step, for each latent
    sketch: bytes = bytes(SKETCH_BYTES)
    caption: str = ""
    first: bytes | None = None
    last: bytes | None = None
    residual: bytes | None = None

    @property
    def counts(self) -> list[int]:
        """Number of atoms of each latent at each stochastic step."""
        return [len(choice.atoms) for choice in self.sets[0]]


def atom_bytes(counts: Sequence[int], steps: int, size: int) -> int:
    """Bytes that the atoms of a GOP take."""
    return -(-steps * sum(bits(size, count) + count for count in counts) // 8)


def pack(content: Content, size: int) -> bytes:
    allotment, first, last, caption = content.allotment, content.first, content.last, content.caption.encode() or None
    flags = sum((part is not None) << place for place, part in enumerate((first, last, caption, content.residual)))
    head = bytes([flags]) + varint(allotment.atoms) + varint(allotment.tail_atoms) + varint(allotment.tail_latents)
    parts = b"".join(varint(len(part)) + part for part in (caption, first, last) if part is not None)
    return head + content.sketch + parts + pack_sets(content.sets, size) + (content.residual or b"")


class PayloadParser:
    """Parses a payload, which may be hostile: first all that precedes the atoms, then, given the latents, the rest."""

    def __init__(self, data: bytes) -> None:
        fields = Fields(data)
        try:
            self.flags = fields.byte()
            require(self.flags < 16, "the payload has a part that this program does not know", BitstreamError)
            self.allotment = Allotment(*map(fields.varint, (MAX_ATOMS, MAX_ATOMS, MAX_TAIL_LATENTS)))
            self.sketch = fields.take(SKETCH_BYTES)
            caption, self.first, self.last = (
                fields.take(fields.varint(largest)) if self.flags & flag else None
                for flag, largest in ((CAPTION, MAX_CAPTION), (FIRST_STILL, MAX_PART), (LAST_STILL, MAX_PART))
            )
            self.caption = (caption or b"").decode()
        except FieldError:
            raise BitstreamError("the payload is cut short or a number in it is out of bounds") from None
        except UnicodeDecodeError:
            raise BitstreamError("the caption is not valid UTF-8") from None
        self._rest = data[fields.place :]

    def content(self, counts: Sequence[int], steps: int, size: int) -> Content:
        require(max(counts) <= size, f"{max(counts)} atoms cannot be chosen out of {size}", BitstreamError)
        taken = atom_bytes(counts, steps, size)
        if len(self._rest) < taken or (not self.flags & RESIDUAL and len(self._rest) > taken):
            raise BitstreamError(f"the atoms take {taken} bytes, but there are {len(self._rest)}")
        sets = tuple(read_sets(self._rest[:taken], counts, steps, size))
        residual = self._rest[taken:] if self.flags & RESIDUAL else None
        return Content(self.allotment, sets, self.sketch, self.caption, self.first, self.last, residual)


def symbol_hash(content: Content) -> bytes:
    """Hash of a unit's atoms, signs and other parts, 4 bytes."""
    digest = hashlib.blake2b(digest_size=4)
    for numbers in chain.from_iterable(chain.from_iterable(content.sets)):
        digest.update(np.array(numbers, dtype="<i4").tobytes())
    for part in (content.caption.encode(), content.first, content.last, content.residual):
        digest.update(b"\0" if part is None else b"\1" + part)
    return digest.digest()


def pack_sets(sets: Sequence[Sequence[Choice]], size: int) -> bytes:
    """Each set's rank, then its signs (1: plus) from the lowest atom up; all with the highest bit first."""
    text = ""
    for atoms, signs in chain.from_iterable(sets):
        width = bits(size, len(atoms))
        text += f"{rank(atoms, size):0{width}b}" if width else ""
        text += "".join("1" if sign > 0 else "0" for sign in signs)
    text += "0" * (-len(text) % 8)
    return int(text or "0", 2).to_bytes(len(text) // 8, "big")


def read_sets(data: bytes, counts: Sequence[int], steps: int, size: int) -> Iterator[tuple[Choice, ...]]:
    """Read what `pack_sets` wrote: for each step, a choice for each latent."""
    digits = BytesIO(f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}".encode())
    for _ in range(steps):
        row = []
        for count in counts:
            atoms = unrank(int(digits.read(bits(size, count)) or b"0", 2), size, count)
            signs = tuple(1 if digit == ord("1") else -1 for digit in digits.read(count))
            row.append(Choice(tuple(atoms), signs))
        yield tuple(row)
    if b"1" in digits.read():
        raise BitstreamError("the atoms do not end where they should")
