"""Inputs and results of all stages: a step and its random numbers, losses, validations."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.conventions import LATENT_CHANNELS, Frame
from gnvc_vd.data.samples import Draws
from gnvc_vd.train.plan import BatchDraws
from gnvc_vd.train.settings import Span
from gnvc_vd.video.pixels import to_model


class Step(NamedTuple):
    """A training step of a batch: its position in the training, and its random numbers."""

    seed: int
    number: int
    steps: int  # of the whole training
    samples: list[int]
    span: Span | None = None  # the span of its clips; None: the span of its number
    planned_step: float | None = None  # number of planned steps that are over by the clock (clock.py); None: its number
    kept: "StaticNumbers | None" = None  # static tensors with its random numbers; None: they are drawn

    @property
    def progress(self) -> float | Tensor:
        """The share of the training that is over, as `part`, or as a tensor of a captured step."""
        return self.part if self.kept is None else self.kept.next(lambda step: torch.tensor(step.part).double())

    @property
    def part(self) -> float:
        return (self.number if self.planned_step is None else self.planned_step) / max(1, self.steps)

    def draws(self, device: torch.device) -> BatchDraws:
        """The samples' own random numbers."""
        return BatchDraws(self.seed, self.samples, device) if self.kept is None else self.kept.draws()

    def shared(self, purpose: int) -> Draws:
        """Random numbers that its samples share, drawn on the host."""
        return Draws(self.seed, self.number, purpose)


class StaticNumbers:
    """Static tensors for the numbers of one step after another, as CUDA graphs need them.

    The forward passes of all steps of one variant (a stage's `variant`) take the same numbers in the same order. The
    first step allocates a tensor for each; later steps write their numbers into these tensors.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._makes: list[Callable[[Step], Tensor]] = []
        self._tensors: list[Tensor] = []
        self._step, self._next, self._begun = Step(0, 0, 0, []), 0, 0  # of the pass
        self._draws: list[BatchDraws] = []  # one for each call of `draws` in the pass

    def fill(self, step: Step) -> Step:
        """Write a step's numbers into the tensors; return the step with these as its numbers."""
        self._step, self._next, self._begun, self._draws = step, 0, 0, []
        for make, place in zip(self._makes, self._tensors, strict=True):
            place.copy_(make(step), non_blocking=True)
        return step._replace(kept=self)

    def next(self, make: Callable[[Step], Tensor]) -> Tensor:
        """The tensor for the next number of the forward pass; `make` computes its value for a step."""
        if self._next == len(self._tensors):
            self._makes.append(make)
            self._tensors.append(make(self._step).to(self.device, copy=True))
        self._next += 1
        return self._tensors[self._next - 1]

    def draws(self) -> BatchDraws:
        self._begun += 1
        return StaticDraws(self, self._begun - 1)

    def batch(self, turn: int, step: Step) -> BatchDraws:
        """The draws of call number `turn` of `step.draws`."""
        while len(self._draws) <= turn:
            self._draws.append(step.draws(self.device))
        return self._draws[turn]


class StaticDraws(BatchDraws):
    """Draws for a batch, from static tensors."""

    def __init__(self, kept: StaticNumbers, turn: int) -> None:
        self._kept, self._turn = kept, turn

    def uniform(self, *shape: int) -> Tensor:
        return self._kept.next(lambda step: self._kept.batch(self._turn, step).uniform(*shape))

    def normal(self, *shape: int) -> Tensor:
        return self._kept.next(lambda step: self._kept.batch(self._turn, step).normal(*shape))


class Losses(NamedTuple):
    total: Tensor
    terms: dict[str, Tensor]  # B, for the log


class Validation(NamedTuple):
    """Result of a validation on held-out clips: a score (lower is better), figures and pictures."""

    score: float
    figures: dict[str, float]
    pictures: dict[str, Frame]


def latents_of(vae: VideoVae, clips: Tensor) -> Tensor:
    """Encode clips to latents x_1, unless they are precomputed latents."""
    return clips.float() if clips.shape[1] == LATENT_CHANNELS else vae.encode(to_model(clips))
