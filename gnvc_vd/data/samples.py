"""Training samples by number: all random choices for a sample are drawn from (seed, number) alone.

    number ──÷ items──▶ pass, place ──the pass's order──▶ item      each pass shows each item once
    (seed, number, attempt) ──Philox──▶ start, crop, flip, path …

So a sample number always gives the same clip, in any process and in any order. A training that was stopped after n
batches of B clips continues with the numbers n·B, n·B + 1, … and gets the clips that it would have got.
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

# The purpose of a stream of random numbers; the number of the attempt is added to CONTENT.
CONTENT, ORDER, MIXING, BANKED = 0, 1 << 30, 1 << 31, 7 << 28
ATTEMPTS = 100
UNREADABLE, UNSUITABLE = 1, 2
REASONS = {UNREADABLE: "cannot be read", UNSUITABLE: "is too short or too small"}

CPU = torch.device("cpu")
log = logging.getLogger(__name__)
Found = TypeVar("Found")


class UnsuitableError(GnvcError):
    """An item that can be read, but is too short or too small for a clip."""


class Draws:
    """The random numbers of one sample, drawn one after another."""

    def __init__(self, seed: int, number: int, purpose: int = CONTENT) -> None:
        self._key = (seed & WORD, seed >> 32 & WORD)
        self._stream = (number & WORD, number >> 32 & WORD, purpose)
        self._block = 0
        self._waiting: list[int] = []

    def word(self) -> int:
        """Draw 32 bits."""
        if not self._waiting:
            self._waiting = [int(word) for word in philox((self._block, *self._stream), self._key)]
            self._block += 1
        return self._waiting.pop()

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * self.word() / (WORD + 1)

    def below(self, count: int) -> int:
        """Draw an integer from 0 to count − 1."""
        return self.word() * count >> 32

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """Make a generator for whole tensors of random numbers; CPUs and GPUs draw different ones."""
        return torch.Generator(device).manual_seed(self.word() << 31 | self.word() >> 1)


def item_of(number: int, count: int, seed: int) -> int:
    """Index of the item, out of `count`, for a sample number."""
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
    """Options for loading batches of clips."""

    workers: int = 0  # number of loader processes
    device: torch.device = CPU  # where clips are made by sources that need no loader processes
    memory: float = 16.0  # limit for clips and files kept on the device, in gigabytes


class Clips(Dataset[Tensor]):
    """Training clips by sample number, 3 T H W uint8; from number `len` on a second pass begins, and so on."""

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def skipped(self) -> dict[str, str]:
        """Items that were skipped so far by this process and its loader processes, with the reasons."""
        return {}

    def batches(self, taken: Iterable[list[int]], loading: LoaderOptions) -> Iterator[Tensor]:
        """Yield batches of clips, one for each list of sample numbers in `taken`, which may be endless."""
        pinned = torch.cuda.is_available()
        yield from DataLoader(self, batch_sampler=taken, num_workers=loading.workers, pin_memory=pinned)

    def register_files(self, material: Material) -> None:
        """From now on make clips from files kept on the material's device; a source without files ignores this."""


class ItemClips(Clips):
    """Clips of named items, one clip of each item in a pass. Items that give no clip are skipped.

    A sample number whose item gives no clip takes another item, drawn from (seed, number, attempt), so that it is the
    same one every time. Each skipped item is logged once and counted, in whichever loader process it was met.
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
        """Make the clip of an item, or raise VideoError or UnsuitableError."""
        raise NotImplementedError

    def _all(self, make: Callable[[int], Found]) -> list[Found]:
        """Apply `make` to every item, leaving out those that are skipped."""
        tried = (self._try_item(item, functools.partial(make, item)) for item in range(len(self)))
        return [clip for clip in tried if clip is not None]

    def _try_item(self, item: int, make: Callable[[], Found]) -> Found | None:
        """Apply `make` to an item; if it raises VideoError or UnsuitableError, skip the item and return None."""
        try:
            return make()
        except (VideoError, UnsuitableError) as error:
            if not self._marks[item]:
                self._marks[item] = UNREADABLE if isinstance(error, VideoError) else UNSUITABLE
                log.warning("%s is skipped: %s", self.names[item], error)
        return None
