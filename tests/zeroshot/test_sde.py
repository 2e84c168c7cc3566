"""The SDE on a Gaussian mixture whose velocity is known exactly: identities, marginals, the wrong sign."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from gnvc_vd.backbone.flow import euler
from gnvc_vd.conventions import UsageError
from gnvc_vd.zeroshot import sde
from gnvc_vd.zeroshot.sde import Schedule

WEIGHTS = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64)
MEANS = torch.tensor([-1.2, 0.3, 1.6], dtype=torch.float64)
DEVIATIONS = torch.tensor([0.25, 0.4, 0.15], dtype=torch.float64)


def posterior_mean(x: Tensor, sigma: float) -> Tensor:
    """E[x_0 | x_σ], from Bayes' rule for each component."""
    a = 1 - sigma
    variance = a**2 * DEVIATIONS**2 + sigma**2
    distance = x[:, None] - a * MEANS
    weight = torch.softmax(WEIGHTS.log() - variance.log() / 2 - distance**2 / (2 * variance), dim=1)
    return (weight * (MEANS + a * DEVIATIONS**2 / variance * distance)).sum(1)


def velocity(x: Tensor, sigma: float) -> Tensor:
    return (x - posterior_mean(x, sigma)) / sigma


def log_density(x: Tensor, sigma: float) -> Tensor:
    a = 1 - sigma
    variance = a**2 * DEVIATIONS**2 + sigma**2
    logs = WEIGHTS.log() - (2 * math.pi * variance).log() / 2 - (x[:, None] - a * MEANS) ** 2 / (2 * variance)
    return torch.logsumexp(logs, dim=1)


def samples(count: int, generator: torch.Generator) -> Tensor:
    which = torch.multinomial(WEIGHTS, count, replacement=True, generator=generator)
    return MEANS[which] + DEVIATIONS[which] * torch.randn(count, dtype=torch.float64, generator=generator)


def distance(a: Tensor, b: Tensor) -> float:
    """Wasserstein-1 of two equally large samples."""
    return float((a.sort().values - b.sort().values).abs().mean())


@pytest.mark.parametrize("sigma", [0.05, 0.4, 0.9, 1.0])
def test_estimates_are_the_mixtures_own(sigma: float) -> None:
    x = torch.linspace(-4, 4, 201, dtype=torch.float64, requires_grad=True)
    (true_score,) = torch.autograd.grad(log_density(x, sigma).sum(), x)
    u = velocity(x.detach(), sigma)
    assert (sde.predict_clean(x.detach(), sigma, u) - posterior_mean(x.detach(), sigma)).abs().max() < 1e-10
    assert (-sde.noise(x.detach(), sigma, u) / sigma - true_score).abs().max() < 1e-10
    mixed = (1 - sigma) * sde.predict_clean(x.detach(), sigma, u) + sigma * sde.noise(x.detach(), sigma, u)
    assert (mixed - x.detach()).abs().max() < 1e-10


def test_a_step_is_the_papers_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(50, dtype=torch.float64, generator=generator) for _ in range(2))
    sigma, after, g_scale = 0.8, 0.71, 3.0
    u, g, dt = velocity(x, sigma), g_scale * sigma**2, sigma - after
    score = -sde.noise(x, sigma, u) / sigma
    drift = u - g**2 / 2 * score
    wanted = x - drift * dt + g * math.sqrt(dt) * z
    assert (sde.step(x, u, sigma, after, g_scale, z) - wanted).abs().max() < 1e-10
    assert torch.equal(sde.step(x, u, sigma, after, 0.0, z), sde.step(x, u, sigma, after, g_scale, None))


def run(x: Tensor, schedule: Schedule, generator: torch.Generator, sign: float = 1.0) -> Tensor:
    """`sign` −1 turns the score's pull around, which no right program does."""

    def asked(at: Tensor, sigma: float) -> Tensor:
        return velocity(at, sigma)

    def normal(_: int, estimate: Tensor) -> Tensor:
        return torch.randn(estimate.shape, dtype=torch.float64, generator=generator)

    if sign > 0:
        return sde.trajectory(asked, x, schedule, normal)
    sigmas = schedule.sigmas
    for sigma, after in pairwise(sigmas):
        u, dt = velocity(x, sigma), sigma - after
        x = 2 * (x - dt * u) - sde.step(x, u, sigma, after, schedule.g_scale, normal(0, x))
    return x


def test_without_diffusion_it_is_the_ode() -> None:
    x = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    schedule = Schedule(steps=12, tail=2, g_scale=0.0)
    assert torch.equal(run(x, schedule, torch.Generator()), euler(velocity, x, schedule.sigmas))


def test_marginals_are_preserved_and_a_wrong_sign_is_seen() -> None:
    generator = torch.Generator().manual_seed(2)
    count, schedule = 2000, Schedule(steps=60, tail=0, shift=1.0)
    x = torch.randn(count, dtype=torch.float64, generator=generator)
    data, again = samples(count, generator), samples(count, generator)
    floor = distance(data, again)
    found = run(x, schedule, generator)
    assert distance(found, data) < floor + 0.03
    assert abs(float(found.std() / data.std()) - 1) < 0.04
    assert float(run(x, schedule, generator, sign=-1).std()) > 1.5 * float(data.std())


@pytest.mark.slow
def test_marginals_hold_on_the_way() -> None:
    generator = torch.Generator().manual_seed(3)
    count, steps = 10000, 500
    x = torch.randn(count, dtype=torch.float64, generator=generator)
    for number in range(steps):
        sigma, after = 1 - 0.6 * number / steps, 1 - 0.6 * (number + 1) / steps
        z = torch.randn(count, dtype=torch.float64, generator=generator)
        x = sde.step(x, velocity(x, sigma), sigma, after, 3.0, z)
        if round(after, 6) in (0.9, 0.7, 0.4):
            noise = torch.randn(count, dtype=torch.float64, generator=generator)
            assert distance(x, (1 - after) * samples(count, generator) + after * noise) < 0.03


def test_the_grid_is_the_papers_table() -> None:
    """§3 of the published method: σ and g √dt at some steps, shifts 5 and 3."""
    for shift, known in ((5.0, {0: (1.0, 0.3062), 10: (0.8333, 0.3594), 16: (0.5556, 0.2728)}),
                         (3.0, {2: (0.9643, 0.3929), 14: (0.5625, 0.2373), 16: (0.4286, 0.1582)})):  # fmt: skip
        sigmas = Schedule(shift=shift).sigmas
        assert (len(sigmas), sigmas[0], sigmas[-1]) == (21, 1.0, 0.0)
        for place, (sigma, strength) in known.items():
            assert sigmas[place] == pytest.approx(sigma, abs=5e-5)
            injected = 3 * sigmas[place] ** 2 * math.sqrt(sigmas[place] - sigmas[place + 1])
            assert injected == pytest.approx(strength, abs=5e-5)
    assert Schedule().stochastic == 17


def test_reuse_asks_the_model_at_every_second_step_and_keeps_the_clean_estimate() -> None:
    asked: list[float] = []
    estimates: list[Tensor] = []

    def counted(x: Tensor, sigma: float) -> Tensor:
        asked.append(sigma)
        return velocity(x, sigma)

    def heard(_: int, estimate: Tensor) -> Tensor:
        estimates.append(estimate)
        return torch.ones_like(estimate)

    schedule = Schedule(steps=9, tail=2, reuse=True)
    sde.trajectory(counted, torch.zeros(3, dtype=torch.float64), schedule, heard)
    assert asked == schedule.sigmas[:-1:2] and len(asked) == 5
    assert all(torch.equal(a, b) for a, b in zip(estimates[::2], estimates[1::2], strict=False))
    assert not torch.equal(estimates[1], estimates[2])
    asked.clear()
    sde.trajectory(counted, torch.zeros(3, dtype=torch.float64), Schedule(steps=9), heard)
    assert len(asked) == 9


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 101}, {"tail": 20}, {"shift": 0.0}, {"g_scale": 16.0}])
def test_impossible_schedules_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Schedule(**wrong)  # type: ignore[arg-type]
