"""The refiner's flow in σ (1 is noise, 0 is data), and Euler integration of a velocity: pure functions.

The paper's time is τ = 1 − σ and starts at τ = tN, so σ_0 = 1 − tN. The paper's velocity points towards data; here, as
in Wan, it points towards noise.

    x(σ_0) = (1 − σ_0) x_c + σ_0 ε           start: the decoded latent with some noise
    x(σ)   = (1 − σ/σ_0) x_1 + σ/σ_0 x(σ_0)   straight path from the start to the clean latent
    v      = (x(σ_0) − x_1) / σ_0             its constant velocity = (ε − x_1) + (1 − σ_0)/σ_0 (x_c − x_1)
    x_1    = x(σ) − σ v                       the clean latent, from any point of the path

A σ is one number, or one for each clip (B).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from gnvc_vd.bitstream.layout import SIGMA_STEPS

SMALLEST_START = 1 / SIGMA_STEPS  # the smallest that a stream can hold

Sigma = Tensor | float
Velocity = Callable[[Tensor, Any], Tensor]  # of x and a Sigma
Overwrite = Callable[[Tensor, Any], Tensor]


def start_point(decoded: Tensor, noise: Tensor, sigma_0: Sigma) -> Tensor:
    """The start x(σ_0) of refinement."""
    part = per_clip(sigma_0, decoded)
    return (1 - part) * decoded + part * noise


def sigma_0_for(error: Tensor, ratio: float) -> Tensor:
    """σ_0 from the error of decoded latents, so that the start's noise-to-signal ratio is `ratio` times the RMS error.

        σ_0 / (1 − σ_0) = ratio · √mean((x_c − x_1)²)

    Args:
        error: x_c − x_1, B …; there is a σ_0 for each clip.
    """
    noise = ratio * error.square().flatten(1).mean(1).sqrt()
    return (noise / (1 + noise)).clamp_min(SMALLEST_START)


def path(clean: Tensor, start: Tensor, sigma: Tensor, sigma_0: Sigma) -> Tensor:
    """The point x(σ) of the path, with one σ for each clip (B)."""
    part = per_clip(sigma / sigma_0, clean)
    return (1 - part) * clean + part * start


def velocity(clean: Tensor, start: Tensor, sigma_0: Sigma) -> Tensor:
    """The target velocity, constant along the path."""
    return (start - clean) / per_clip(sigma_0, clean)


def estimate(x: Tensor, sigma: Sigma, velocity: Tensor) -> Tensor:
    """The clean latent that a velocity at σ points to."""
    return x - per_clip(sigma, x) * velocity


def grid(sigma_0: Sigma, steps: int) -> list[Sigma]:
    """σ at the start of each of `steps` equal steps, and 0 at the end."""
    return [sigma_0 * (steps - step) / steps for step in range(steps + 1)]


def per_clip(sigma: Sigma, like: Tensor) -> Sigma:
    """Reshape σ, if it is one per clip, so that it multiplies tensors shaped like `like`."""
    return sigma.view(-1, *[1] * (like.ndim - 1)) if isinstance(sigma, Tensor) else sigma


def euler(velocity: Velocity, x: Tensor, sigmas: Sequence[Sigma], hold: Overwrite | None = None) -> Tensor:
    """Integrate a velocity with Euler steps from x at the first σ to the last σ.

    Args:
        hold: overwrites a part of x before each step (the context latent).
    """
    for sigma, next_sigma in pairwise(sigmas):
        if hold is not None:
            x = hold(x, sigma)
        x = x + per_clip(next_sigma - sigma, x) * velocity(x, sigma)
    return x if hold is None else hold(x, sigmas[-1])
