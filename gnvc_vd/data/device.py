"""Banks of training clips, made on the training device; batches are taken from them by sample number.

    number ──÷ (clips × uses)──▶ bank, place ──permutation of the use──▶ content ──source, on the device──▶ clip

A content is a sample number of the source. A bank is used `uses` times: first in order (so with one use, sample n is
content n), then in a new permutation each time. The mapping has no other state: each process makes only the clips of
its own sample numbers, and a training resumed in the middle of a bank makes only the remaining clips.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice

import torch
from torch import Tensor

from gnvc_vd.common.strict import require
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.material import Material
from gnvc_vd.data.samples import BANKED, Clips, LoaderOptions, order

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bank:
    """Size of a bank: the number of clips made at once, and the number of uses of each."""

    clips: int
    uses: int = 1

    def __post_init__(self) -> None:
        require(self.clips >= 1 and self.uses >= 1, f"a bank has clips, and each is used: not {self}")

    @property
    def samples(self) -> int:
        """Number of samples taken from one bank."""
        return self.clips * self.uses


class DeviceClips(Clips):
    """The clips of another source, made on the training device if that source supports it.

    Args:
        material: decoded files, loaded once and shared by all sources.
    """

    def __init__(self, source: Clips, spec: ClipSpec, bank: Bank, material: Material) -> None:
        self.source, self.spec, self.bank, self.material = source, spec, bank, material

    def __len__(self) -> int:
        return len(self.source)

    @property
    def skipped(self) -> dict[str, str]:
        return self.source.skipped

    def __getitem__(self, number: int) -> Tensor:
        return self.source[self.source_number(number)]

    def source_number(self, number: int) -> int:
        """Map a sample number to the source's sample number."""
        require(0 <= number < 1 << 63, f"there is no sample {number}", IndexError)
        bank, place = divmod(number, self.bank.samples)
        turn, slot = divmod(place, self.bank.clips)
        if turn:
            slot = int(order(self.bank.clips, self.spec.seed, bank * self.bank.uses + turn, BANKED)[slot])
        return bank * self.bank.clips + slot

    def _banks(self, taken: Iterable[list[int]]) -> Iterator[list[list[int]]]:
        """The source's numbers of batches that one bank gives; of one that repeats without end, again and again."""
        for _, group in groupby(taken, lambda numbers: numbers[0] // self.bank.samples):
            while passes := list(islice(group, self.bank.samples)):
                yield [[self.source_number(number) for number in numbers] for numbers in passes]

    def batches(self, taken: Iterable[list[int]], loading: LoaderOptions) -> Iterator[Tensor]:
        """Batches on the device; a bank too large for memory is refused before anything is decoded."""
        rest = iter(taken)
        first = list(islice(rest, self.bank.clips))  # later batches are not longer
        most = min(sum(map(len, first)), self.bank.clips + max(map(len, first)) - 1)  # one may span two banks
        size = 3 * self.spec.frames * self.spec.height * self.spec.width
        self.source.register_files(self.material)
        self.material.load(loading.device, loading.memory, most * size, f"{most} clips of {size / 1e6:.3g} MB")
        clips: Tensor | None = None
        for passes in self._banks(chain(first, rest)):
            contents = sorted({content for one in passes for content in one})
            log.info("a bank of %d clips, %d to %d, on %s", len(contents), contents[0], contents[-1], loading.device)
            for row, content in enumerate(contents):
                clip = self.source[content]
                if clips is None:
                    clips = torch.empty(most, *clip.shape, dtype=clip.dtype, device=loading.device)
                clips[row] = clip
            assert clips is not None
            rows = {content: row for row, content in enumerate(contents)}
            for one in passes:
                yield clips[torch.tensor([rows[content] for content in one], device=loading.device)]
