"""The refiner's flow, in σ (1 is noise, 0 is data), and Euler's steps along a velocity: functions of tensors.

The paper writes τ = 1 − σ and starts at τ = tN, so σ_0 = 1 − tN; its velocity points towards data, ours, as Wan's,
towards noise.

    x(σ_0) = (1 − σ_0) x_c + σ_0 ε           start: the decoded latent, noised a little
    x(σ)   = (1 − σ/σ_0) x_1 + σ/σ_0 x(σ_0)   a straight path from there to the clean latent
    v      = (x(σ_0) − x_1) / σ_0             its constant velocity = (ε − x_1) + (1 − σ_0)/σ_0 (x_c − x_1)
    x_1    = x(σ) − σ v                       the clean latent as seen from any point of it
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
Held = Callable[[Tensor, float], Tensor]


def start(decoded: Tensor, noise: Tensor, sigma_0: float) -> Tensor:
    """Where refinement begins."""
    return (1 - sigma_0) * decoded + sigma_0 * noise


def path(clean: Tensor, start: Tensor, sigma: Tensor, sigma_0: float) -> Tensor:
    """The point at σ, one for each clip (B)."""
    part = (sigma / sigma_0).view(-1, *[1] * (clean.ndim - 1))
    return (1 - part) * clean + part * start


def velocity(clean: Tensor, start: Tensor, sigma_0: float) -> Tensor:
    """What the network should say, anywhere on the path."""
    return (start - clean) / sigma_0


def estimate(x: Tensor, sigma: Tensor | float, velocity: Tensor) -> Tensor:
    """The clean latent that a velocity at σ points to."""
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    return x - sigma.view(-1, *[1] * (x.ndim - 1)) * velocity


def grid(sigma_0: float, steps: int) -> list[float]:
    """σ at the beginning of each step, and 0 at the end: equal steps."""
    return [sigma_0 * (steps - step) / steps for step in range(steps + 1)]


def euler(velocity: Velocity, x: Tensor, sigmas: Sequence[float], hold: Held | None = None) -> Tensor:
    """From a start to the clean latent: x at the last σ.

    Args:
        hold: what overwrites part of x before each step (a context latent that is known already).
    """
    for sigma, next_sigma in pairwise(sigmas):
        if hold is not None:
            x = hold(x, sigma)
        x = x + (next_sigma - sigma) * velocity(x, sigma)
    return x if hold is None else hold(x, sigmas[-1])
