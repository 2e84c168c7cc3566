"""What a sample number shows: everything random about it is drawn from (seed, number) and nothing else.

    number ──÷ items──▶ pass, place ──the pass's order──▶ item      each pass shows each item once
    (seed, number, attempt) ──Philox──▶ start, crop, flip, path …

So the clip of a number is the same in any process, after any number of others, on any day: a training that stops after
n batches of B goes on with numbers n·B, n·B + 1, … and sees what it would have seen.
"""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gnvc_vd.common.noise import WORD, philox, words
from gnvc_vd.conventions import GnvcError
from gnvc_vd.data.material import Material
from gnvc_vd.video import VideoError

# What a stream of numbers is for; attempts are added to the first.
CONTENT, ORDER, MIXING, BANKED = 0, 1 << 30, 1 << 31, 7 << 28
ATTEMPTS = 100
UNREADABLE, UNSUITABLE = 1, 2
REASONS = {UNREADABLE: "cannot be read", UNSUITABLE: "is too short or too small"}

CPU = torch.device("cpu")
log = logging.getLogger(__name__)
Found = TypeVar("Found")


class UnsuitableError(GnvcError):
    """An item that can be read and holds no clip of the wanted length and size."""


class Draws:
    """Random numbers of one sample, in the order in which they are asked for."""

    def __init__(self, seed: int, number: int, purpose: int = CONTENT) -> None:
        self._key = (seed & WORD, seed >> 32 & WORD)
        self._stream = (number & WORD, number >> 32 & WORD, purpose)
        self._block = 0
        self._waiting: list[int] = []

    def word(self) -> int:
        """32 bits."""
        if not self._waiting:
            self._waiting = [int(word) for word in philox((self._block, *self._stream), self._key)]
            self._block += 1
        return self._waiting.pop()

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * self.word() / (WORD + 1)

    def below(self, count: int) -> int:
        """0 … count − 1."""
        return self.word() * count >> 32

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """For whole fields of numbers; each kind of device has its own."""
        return torch.Generator(device).manual_seed(self.word() << 31 | self.word() >> 1)


def item_of(number: int, count: int, seed: int) -> int:
    """The item, of `count`, that a sample number shows."""
    if not 0 <= number < 1 << 63:
        raise IndexError(f"there is no sample {number}")
    turn, place = divmod(number, count)
    return int(order(count, seed, turn)[place])


@functools.lru_cache(maxsize=8)
def order(count: int, seed: int, turn: int, purpose: int = ORDER) -> Tensor:
    """A permutation of `count` items for one pass over them."""
    keys = words(-(-count // 4), (seed & WORD, seed >> 32 & WORD), (turn & WORD, turn >> 32, purpose))
    return torch.argsort(keys.flatten()[:count], stable=True)


@dataclass(frozen=True)
class LoaderOptions:
    """How batches of clips come about."""

    workers: int = 0  # loader processes
    device: torch.device = CPU  # where clips are made that need not come from loader processes
    memory: float = 16.0  # gigabytes of it that they may take


class Clips(Dataset[Tensor]):
    """Training clips by sample number, 3 T H W uint8: `len` is one pass over them, later numbers are later passes."""

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def skipped(self) -> dict[str, str]:
        """Names and reasons of what was passed over so far, by this process and its loader processes."""
        return {}

    def batches(self, taken: Iterable[list[int]], loading: LoaderOptions) -> Iterator[Tensor]:
        """The clips of these numbers, in this order, which may have no end."""
        pinned = torch.cuda.is_available()
        yield from DataLoader(self, batch_sampler=taken, num_workers=loading.workers, pin_memory=pinned)

    def register_files(self, material: Material) -> None:
        """Make clips on the material's device from now on, out of what it keeps; a source may know no such way."""


class ItemClips(Clips):
    """Clips of items that have names, one of each in a pass, and what becomes of items that give no clip.

    They are passed over, never fatal: the number shows another item instead, drawn from (seed, number, attempt), so it
    is the same one every time. Each is named once in the log and counted, in whichever loader process it happened.
    """

    def __init__(self, names: Sequence[str], seed: int) -> None:
        if not names:
            raise GnvcError("a dataset without items")
        self.names, self.seed = names, seed
        self._marks = torch.zeros(len(names), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def skipped(self) -> dict[str, str]:
        return {self.names[i]: REASONS[int(self._marks[i])] for i in self._marks.nonzero().flatten().tolist()}

    def __getitem__(self, number: int) -> Tensor:
        item = item_of(number, len(self), self.seed)
        for attempt in range(ATTEMPTS):
            draws = Draws(self.seed, number, CONTENT + attempt)
            if attempt:
                item = draws.below(len(self))
            clip = self._try_item(item, functools.partial(self._clip, item, draws))
            if clip is not None:
                return clip
        raise GnvcError(
            f"{ATTEMPTS} items were tried for sample {number} and none gave a clip; the last was {self.names[item]}, "
            f"which {REASONS[int(self._marks[item])]}"
        )

    def _clip(self, item: int, draws: Draws) -> Tensor:
        """The clip of an item; VideoError or UnsuitableError where it gives none."""
        raise NotImplementedError

    def _all(self, make: Callable[[int], Found]) -> list[Found]:
        """What `make` makes of every item that is not passed over."""
        tried = (self._try_item(item, functools.partial(make, item)) for item in range(len(self)))
        return [clip for clip in tried if clip is not None]

    def _try_item(self, item: int, make: Callable[[], Found]) -> Found | None:
        """What `make` makes of an item, or None where the item is passed over."""
        try:
            return make()
        except (VideoError, UnsuitableError) as error:
            if not self._marks[item]:
                self._marks[item] = UNREADABLE if isinstance(error, VideoError) else UNSUITABLE
                log.warning("%s is skipped: %s", self.names[item], error)
        return None
