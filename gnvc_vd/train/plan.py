"""The plan of a training: which samples a step takes, and what random numbers it draws. Both follow from numbers alone.

    step s, batch B:   n … n + B − 1  ──divided──▶ process 0 | process 1 | …  ──divided──▶ pass 0 | pass 1 | …

Step s takes the samples from first_sample(s) on, whatever the number of processes; a batch that processes × passes do
not divide is refused, so that every step means the same everywhere. A sample's random numbers come from the seed and
its number: a step is the same in one process or many, in one pass or several, and after any stop. No random state is
kept.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gnvc_vd.conventions import UsageError
from gnvc_vd.data.samples import Clips, Draws, Loading
from gnvc_vd.train.settings import Stage

# What random numbers are for, beside the purposes of data/samples.py: what all samples of a step have in common, each
# sample's own in its loss, and how long a step's rotations are.
STEP, LOSS, ROTATION = 1 << 28, 1 << 29, 5 << 28


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


def batches(source: Clips, share: Share, start: int, stop: int, loading: Loading) -> Iterator[tuple[list[int], Tensor]]:
    """Numbers and clips of every pass of the steps from `start` up to `stop`, which lie in one span."""
    passes = [numbers for step in range(start, stop) for numbers in share.numbers(step)]
    samples = share.stage.samples  # of a source that is repeated after so many, or never
    taken = passes if samples is None else [[number % samples for number in numbers] for numbers in passes]
    yield from zip(passes, source.batches(taken, loading), strict=True)


class BatchDraws:
    """Random numbers of a batch's samples, in the order in which they are asked for."""

    def __init__(self, seed: int, numbers: Sequence[int], device: torch.device) -> None:
        self._generators = [Draws(seed, number, LOSS).generator() for number in numbers]
        self._device = device

    def uniform(self, *shape: int) -> Tensor:
        """B *shape in [0, 1)."""
        return torch.stack([torch.rand(shape, generator=one) for one in self._generators]).to(self._device)

    def normal(self, *shape: int) -> Tensor:
        return torch.stack([torch.randn(shape, generator=one) for one in self._generators]).to(self._device)

    def uniform_like(self, x: Tensor) -> Tensor:
        return self.uniform(*x.shape[1:]).to(x.dtype)

    def normal_like(self, x: Tensor) -> Tensor:
        return self.normal(*x.shape[1:]).to(x.dtype)
