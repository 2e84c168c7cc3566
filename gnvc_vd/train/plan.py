"""The plan of a training: the samples of each step and their random numbers, both functions of step and seed alone.

    step s, batch B:   n … n + B − 1  ──divided──▶ process 0 | process 1 | …  ──divided──▶ pass 0 | pass 1 | …

Step s takes the batch that begins at sample first_sample(s), for any number of processes. A batch size must be a
multiple of processes × passes, so that each step is the same everywhere. A sample's random numbers depend on the seed
and its number only, so a step is the same in one process or many, in one pass or several, and after a restart; no
random state is saved. (But for an adversarial term, whose discriminator remembers what its own process showed it, pass
by pass.) GPUs draw tensors of random numbers themselves, and these differ from a CPU's.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count, tee

import torch
from torch import Tensor

from gnvc_vd.common.noise import WORD, philox
from gnvc_vd.conventions import UsageError
from gnvc_vd.data.samples import Clips, LoaderOptions
from gnvc_vd.train.settings import Span, Stage

# Purposes of random numbers, beside those of data/samples.py: numbers that all samples of a step share, each sample's
# own numbers in its loss, and the number of latents in a step's rotations.
STEP, LOSS, ROTATION = 1 << 28, 1 << 29, 5 << 28


class Share:
    """One process's part of every batch."""

    def __init__(self, stage: Stage, rank: int, processes: int, passes: int) -> None:
        self.stage, self.rank, self.processes, self.passes = stage, rank, processes, passes
        for span in stage.spans:
            if span.batch % (processes * passes):
                raise UsageError(_why_indivisible(span.batch, processes, passes))

    def numbers(self, step: int) -> list[list[int]]:
        """Sample numbers for each pass of a step."""
        return self.divided(self.stage.first_sample(step), self.stage.span_at(step).batch)

    def divided(self, first: int, batch: int) -> list[list[int]]:
        """Sample numbers for each pass of a batch that begins with sample `first`."""
        size = batch // (self.processes * self.passes)
        starts = [first + (self.rank * self.passes + one) * size for one in range(self.passes)]
        return [list(range(start, start + size)) for start in starts]


def _why_indivisible(batch: int, processes: int, passes: int) -> str:
    """Error message for a batch size that is no multiple of processes × passes, with a way out."""
    fewer = math.gcd(batch // passes, processes) if batch % passes == 0 else processes
    beside = processes // fewer
    what = f"give a batch that they divide (stage.spans.0.batch={processes * passes})"
    if beside > 1:
        what = f"{fewer} processes train one rate, so train {beside} rates beside one another (rate=…), or {what}"
    return f"a batch of {batch} clips cannot be divided over {processes} processes × {passes} passes: {what}"


Batches = Iterator[tuple[list[int], Tensor]]  # numbers and clips of every pass


def batches(source: Clips, share: Share, start: int, stop: int, loading: LoaderOptions) -> Batches:
    """Yield the batches of the steps from `start` to `stop` − 1, which lie in one span."""
    return _batches(source, share, map(share.numbers, range(start, stop)), loading)


def endless_batches(source: Clips, share: Share, span: Span, start: int, loading: LoaderOptions) -> Batches:
    """Yield batches from step `start` on without end, for trainings whose length a clock decides.

    The number of steps in earlier spans is not known then, so sample numbers are counted as if every step had the
    largest batch.
    """
    most = max(span.batch for span in share.stage.spans)
    return _batches(source, share, (share.divided(most * step, span.batch) for step in count(start)), loading)


def _batches(source: Clips, share: Share, steps: Iterable[list[list[int]]], loading: LoaderOptions) -> Batches:
    passes, taken = tee(chain.from_iterable(steps))
    samples = share.stage.samples  # number of samples after which the source repeats; None: never
    if samples is not None:
        taken = ([number % samples for number in numbers] for numbers in taken)
    yield from zip(passes, source.batches(taken, loading), strict=True)


class BatchDraws:
    """The random numbers of a batch's samples, drawn one tensor after another."""

    def __init__(self, seed: int, numbers: Sequence[int], device: torch.device) -> None:
        self._device = device if device.type == "cuda" else torch.device("cpu")  # the device that draws
        self._home = device
        self._generators = [torch.Generator(self._device).manual_seed(one) for one in seeds(seed, numbers)]

    def uniform(self, *shape: int) -> Tensor:
        """Draw B × shape numbers from [0, 1)."""
        return self._each(torch.rand, shape)

    def normal(self, *shape: int) -> Tensor:
        return self._each(torch.randn, shape)

    def uniform_like(self, x: Tensor) -> Tensor:
        return self.uniform(*x.shape[1:]).to(x.dtype)

    def normal_like(self, x: Tensor) -> Tensor:
        return self.normal(*x.shape[1:]).to(x.dtype)

    def _each(self, draw: Callable[..., Tensor], shape: Sequence[int]) -> Tensor:
        fields = [draw(shape, generator=one, device=self._device) for one in self._generators]
        return torch.stack(fields).to(self._home)


def seeds(seed: int, numbers: Sequence[int]) -> list[int]:
    """The generators' seeds, one for each sample: those that `Draws` would give, but all computed at once."""
    at = torch.tensor(numbers)
    _, _, second, first = philox((0, at & WORD, at >> 32 & WORD, LOSS), (seed & WORD, seed >> 32 & WORD))
    return (first << 31 | second >> 1).tolist()
