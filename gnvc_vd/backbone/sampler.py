"""From a start to the clean latent, by Euler's steps along a velocity."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
Held = Callable[[Tensor, float], Tensor]


def euler(velocity: Velocity, x: Tensor, sigmas: Sequence[float], hold: Held | None = None) -> Tensor:
    """x at the last σ.

    Args:
        hold: what overwrites part of x before each step (a context latent that is known already).
    """
    for sigma, next_sigma in pairwise(sigmas):
        if hold is not None:
            x = hold(x, sigma)
        x = x + (next_sigma - sigma) * velocity(x, sigma)
    return x if hold is None else hold(x, sigmas[-1])
