"""Sampling of the stochastic rectified flow, in σ (1 is noise, 0 is data): pure functions and the sampling loop.

    x_σ = (1 − σ) x_0 + σ ε                 u = E[ε − x_0 | x_σ], the model's velocity
    x̂_0 = x − σ u                           the clean estimate
    ε̂   = x + (1 − σ) u                     the noise estimate
    s   = −ε̂ / σ                            the score of x_σ
    g   = g_scale · σ²                      diffusion coefficient; the marginals are the same for any g
    x  ← x − (u − g²/2 · s) dt + g √dt z    Euler-Maruyama, dt = σ_i − σ_i+1; z is noise, or a sum of codebook atoms

g = 0 is the ODE. `step` uses the closed form g²/2 · s = −g_scale² σ³/2 · ε̂, without a division by σ.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from gnvc_vd.conventions import UsageError

MAX_STEPS = 100

Velocity = Callable[[Tensor, float], Tensor]
Noise = Callable[[int, Tensor], Tensor]  # from the step's number and x̂_0 to z of unit variance


@dataclass(frozen=True)
class Schedule:
    """The σ schedule and the noise that each step injects.

    Args:
        steps: number of sampling steps.
        tail: number of last steps that follow the ODE, without noise and so without bits.
        shift: above 1 spends more steps near noise; Wan takes 5 for large pictures and 3 for small ones.
        g_scale: scale of the diffusion coefficient g.
        reuse: reuse the clean estimate of the step before in every second step, instead of running the model.
    """

    steps: int = 20
    tail: int = 3
    shift: float = 3.0
    g_scale: float = 3.0
    reuse: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MAX_STEPS or not 0 <= self.tail < self.steps:
            raise UsageError(f"steps are 1 to {MAX_STEPS} and more than the tail: not {self.steps} and {self.tail}")
        if not 0 < self.shift < 16 or not 0 <= self.g_scale < 16:
            raise UsageError(f"shift is above 0, g_scale 0 or more, both below 16: not {self.shift} and {self.g_scale}")

    @property
    def stochastic(self) -> int:
        """Number of steps whose noise is coded: the first ones."""
        return self.steps - self.tail

    @property
    def sigmas(self) -> list[float]:
        """σ at the start of each step, and 0 at the end of the last."""
        even = [(self.steps - step) / self.steps for step in range(self.steps + 1)]
        return [self.shift * sigma / (1 + (self.shift - 1) * sigma) for sigma in even]


def predict_clean(x: Tensor, sigma: float, velocity: Tensor) -> Tensor:
    return x - sigma * velocity


def noise(x: Tensor, sigma: float, velocity: Tensor) -> Tensor:
    return x + (1 - sigma) * velocity


def step(x: Tensor, velocity: Tensor, sigma: float, next_sigma: float, g_scale: float, z: Tensor | None) -> Tensor:
    """One Euler-Maruyama step to the next σ; without z, an Euler step of the ODE."""
    dt = sigma - next_sigma
    drifted = x - dt * velocity
    if z is None:
        return drifted
    correction = g_scale**2 * sigma**3 / 2 * dt
    return drifted - correction * noise(x, sigma, velocity) + g_scale * sigma**2 * math.sqrt(dt) * z


def trajectory(velocity: Velocity, x: Tensor, schedule: Schedule, noise_at: Noise) -> Tensor:
    """Sample latents from noise x; encoder and decoder differ in `noise_at` alone, which gives each step's noise."""
    estimate = x
    for number, (sigma, next_sigma) in enumerate(pairwise(schedule.sigmas)):
        if schedule.reuse and number % 2:
            u = (x - estimate) / sigma
        else:
            u = velocity(x, sigma)
            estimate = predict_clean(x, sigma, u)
        z = noise_at(number, estimate) if number < schedule.stochastic else None
        x = step(x, u, sigma, next_sigma, schedule.g_scale, z)
    return x
