"""What all stages take and give: a step's place in the training, losses with their terms, a verdict with pictures."""

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
    """Where in the training a batch stands, and what is random about it."""

    seed: int
    number: int
    steps: int  # of the whole training
    samples: list[int]
    span: Span | None = None  # whose clips they are; by default the one of its number
    planned_step: float | None = None  # how many of the steps are over by the clock (clock.py); by default its number
    kept: "StaticNumbers | None" = None  # the tensors that hold its numbers, if they are not drawn anew

    @property
    def progress(self) -> float | Tensor:
        """Which share of the training is over."""
        return self.part if self.kept is None else self.kept.next(lambda step: torch.tensor(step.part).double())

    @property
    def part(self) -> float:
        return (self.number if self.planned_step is None else self.planned_step) / max(1, self.steps)

    def draws(self, device: torch.device) -> BatchDraws:
        """Each sample's own numbers."""
        return BatchDraws(self.seed, self.samples, device) if self.kept is None else self.kept.draws()

    def shared(self, purpose: int) -> Draws:
        """Numbers that all of its samples have in common, drawn by the host."""
        return Draws(self.seed, self.number, purpose)


class StaticNumbers:
    """Tensors that stay where they are and hold one step's numbers after the other's.

    A forward pass asks for the same things in the same order in all steps of one variant, which each stage names: for
    the first step a tensor is made of each, and later ones are written into it. Then the pass is always the same.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._makes: list[Callable[[Step], Tensor]] = []
        self._tensors: list[Tensor] = []

    def fill(self, step: Step) -> Step:
        """The same step, its numbers in these tensors."""
        self._step, self._next = step, 0
        self._draws: list[BatchDraws] = []  # as often as the pass begins to draw
        for make, place in zip(self._makes, self._tensors, strict=True):
            place.copy_(make(step), non_blocking=True)
        self._begun = 0
        return step._replace(kept=self)

    def next(self, make: Callable[[Step], Tensor]) -> Tensor:
        """What a forward pass asks for now."""
        if self._next == len(self._tensors):
            self._makes.append(make)
            self._tensors.append(make(self._step).to(self.device, copy=True))
        self._next += 1
        return self._tensors[self._next - 1]

    def draws(self) -> BatchDraws:
        self._begun += 1
        return StaticDraws(self, self._begun - 1)

    def batch(self, turn: int, step: Step) -> BatchDraws:
        """What `step.draws` would have returned for the first, second … time."""
        while len(self._draws) <= turn:
            self._draws.append(step.draws(self.device))
        return self._draws[turn]


class StaticDraws(BatchDraws):
    """A batch's numbers, kept."""

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
    """What a training is judged by, on clips that it never draws: a score (lower is better), figures, pictures."""

    score: float
    figures: dict[str, float]
    pictures: dict[str, Frame]


def latents_of(vae: VideoVae, clips: Tensor) -> Tensor:
    """x_1 of videos, or latents made before."""
    return clips.float() if clips.shape[1] == LATENT_CHANNELS else vae.encode(to_model(clips))
