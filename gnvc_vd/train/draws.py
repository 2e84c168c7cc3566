"""Random numbers of a training step: each sample's come from the seed and its number, and from nothing else.

So a step is the same in one process or many, in one pass or several, and after any stop: no random state is kept.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gnvc_vd.data.samples import Draws

STEP, LOSS, PERCEPTION = 1 << 28, 1 << 29, 3 << 28  # purposes: beside those of data/samples.py


class BatchDraws:
    """The numbers of a batch's samples, in the order in which they are asked for."""

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


def step_draws(seed: int, step: int, purpose: int = STEP) -> Draws:
    """What all samples of a step have in common."""
    return Draws(seed, step, purpose)
