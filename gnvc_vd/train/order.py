"""Which samples a process sees: step s takes the numbers from first_sample(s) on, whatever the number of processes.

    step s, batch B:   n … n + B − 1  ──divided──▶ process 0 | process 1 | …  ──divided──▶ pass 0 | pass 1 | …

A batch that processes × passes do not divide is refused, so that every step means the same everywhere.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gnvc_vd.conventions import UsageError
from gnvc_vd.train.settings import Stage


class Source(Protocol):
    """A dataset for clips of one shape, which takes any sample number."""

    def __getitem__(self, number: int) -> Tensor: ...


class Share:
    """One process's part of every batch."""

    def __init__(self, stage: Stage, rank: int, processes: int, passes: int) -> None:
        self.stage, self.rank, self.processes, self.passes = stage, rank, processes, passes
        for span in stage.spans:
            if span.batch % (processes * passes):
                raise UsageError(
                    f"a batch of {span.batch} clips cannot be divided over {processes} processes × {passes} passes"
                )

    def numbers(self, step: int) -> list[list[int]]:
        """Sample numbers for each pass of a step."""
        span, first = self.stage.span_at(step), self.stage.first_sample(step)
        size = span.batch // (self.processes * self.passes)
        starts = [first + (self.rank * self.passes + one) * size for one in range(self.passes)]
        return [list(range(start, start + size)) for start in starts]


class Batches(Sampler[list[int]]):
    """The sample numbers of a span's remaining passes, for a DataLoader."""

    def __init__(self, share: Share, start: int, stop: int) -> None:
        self._share, self._start, self._stop = share, start, stop

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self._start, self._stop):
            yield from self._share.numbers(step)

    def __len__(self) -> int:
        return (self._stop - self._start) * self._share.passes


class Numbered(Dataset[tuple[int, Tensor]]):
    """Clips with their numbers; of a source that is to be repeated after some samples, or never."""

    def __init__(self, source: Source, samples: int | None) -> None:
        self._source, self._samples = source, samples

    def __getitem__(self, number: int) -> tuple[int, Tensor]:
        return number, self._source[number if self._samples is None else number % self._samples]


def batches(source: Source, share: Share, start: int, stop: int, workers: int) -> Iterator[tuple[list[int], Tensor]]:
    """Numbers and clips of every pass of the steps from `start` up to `stop`, which lie in one span."""
    loader: DataLoader[tuple[int, Tensor]] = DataLoader(
        Numbered(source, share.stage.samples),
        batch_sampler=Batches(share, start, stop),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
    for numbers, clips in loader:
        yield numbers.tolist(), clips
