"""The refiner's flow, in σ (1 is noise, 0 is data), and Euler's steps along a velocity: functions of tensors.

The paper writes τ = 1 − σ and starts at τ = tN, so σ_0 = 1 − tN; its velocity points towards data, ours, as Wan's,
towards noise.

    x(σ_0) = (1 − σ_0) x_c + σ_0 ε           start: the decoded latent, noised a little
    x(σ)   = (1 − σ/σ_0) x_1 + σ/σ_0 x(σ_0)   a straight path from there to the clean latent
    v      = (x(σ_0) − x_1) / σ_0             its constant velocity = (ε − x_1) + (1 − σ_0)/σ_0 (x_c − x_1)
    x_1    = x(σ) − σ v                       the clean latent as seen from any point of it

A σ is one number, or one for each clip (B).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

SMALLEST_START = 1 / 200  # what a stream can say

Sigma = Tensor | float
Velocity = Callable[[Tensor, Any], Tensor]  # of x and a Sigma
Overwrite = Callable[[Tensor, Any], Tensor]


def start_point(decoded: Tensor, noise: Tensor, sigma_0: Sigma) -> Tensor:
    """Where refinement begins."""
    part = per_clip(sigma_0, decoded)
    return (1 - part) * decoded + part * noise


def sigma_0_for(error: Tensor, ratio: float) -> Tensor:
    """σ_0 for decoded latents with this error: where noise-to-signal on the path is `ratio` times its RMS.

        σ_0 / (1 − σ_0) = ratio · √mean((x_c − x_1)²)

    Args:
        error: x_c − x_1 of each clip, B …; σ_0 is one for each.
    """
    noise = ratio * error.square().flatten(1).mean(1).sqrt()
    return (noise / (1 + noise)).clamp_min(SMALLEST_START)


def path(clean: Tensor, start: Tensor, sigma: Tensor, sigma_0: Sigma) -> Tensor:
    """The point at σ, one for each clip (B)."""
    part = per_clip(sigma / sigma_0, clean)
    return (1 - part) * clean + part * start


def velocity(clean: Tensor, start: Tensor, sigma_0: Sigma) -> Tensor:
    """The target velocity, constant along the path."""
    return (start - clean) / per_clip(sigma_0, clean)


def estimate(x: Tensor, sigma: Sigma, velocity: Tensor) -> Tensor:
    """The clean latent that a velocity at σ points to."""
    return x - per_clip(sigma, x) * velocity


def grid(sigma_0: Sigma, steps: int) -> list[Sigma]:
    """σ at the beginning of each step, and 0 at the end: equal steps."""
    return [sigma_0 * (steps - step) / steps for step in range(steps + 1)]


def per_clip(sigma: Sigma, like: Tensor) -> Sigma:
    """Clips' own σ, to be multiplied with what has their shape."""
    return sigma.view(-1, *[1] * (like.ndim - 1)) if isinstance(sigma, Tensor) else sigma


def euler(velocity: Velocity, x: Tensor, sigmas: Sequence[Sigma], hold: Overwrite | None = None) -> Tensor:
    """From a start to the clean latent: x at the last σ.

    Args:
        hold: what overwrites part of x before each step (a context latent that is known already).
    """
    for sigma, next_sigma in pairwise(sigmas):
        if hold is not None:
            x = hold(x, sigma)
        x = x + per_clip(next_sigma - sigma, x) * velocity(x, sigma)
    return x if hold is None else hold(x, sigmas[-1])
