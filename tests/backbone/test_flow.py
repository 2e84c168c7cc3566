"""The flow in σ against the paper's formulas in τ, and Euler's steps against the line they follow."""

import pytest
import torch

from gnvc_vd.backbone import flow
from gnvc_vd.backbone.flow import euler

SIGMA_0 = 0.3
T_N = 1 - SIGMA_0
torch.manual_seed(0)
CLEAN, DECODED, NOISE = torch.randn(3, 4, 16, 2, 3, 5, dtype=torch.float64)
START = flow.start_point(DECODED, NOISE, SIGMA_0)


def test_the_start_is_the_paper_s() -> None:
    assert torch.allclose(START, T_N * DECODED + (1 - T_N) * NOISE)


@pytest.mark.parametrize("tau", [0.7, 0.8, 0.95, 1.0])
def test_the_path_is_the_paper_s(tau: float) -> None:
    theirs = (tau - T_N) / (1 - T_N) * CLEAN + (1 - tau) / (1 - T_N) * START
    sigma = torch.full((4,), 1 - tau, dtype=torch.float64)
    assert torch.allclose(flow.path(CLEAN, START, sigma, SIGMA_0), theirs)


def test_the_velocity_is_the_paper_s_with_its_sign_turned_and_its_factor_seven_thirds() -> None:
    theirs = (CLEAN - NOISE) - 7 / 3 * (DECODED - CLEAN)
    assert torch.allclose(flow.velocity(CLEAN, START, SIGMA_0), -theirs)


def test_the_velocity_is_the_path_s_slope_and_points_to_the_clean_latent_from_anywhere() -> None:
    velocity = flow.velocity(CLEAN, START, SIGMA_0)
    sigmas = torch.tensor([0.05, 0.1, 0.2, 0.29], dtype=torch.float64)
    here, further = (flow.path(CLEAN, START, sigmas + step, SIGMA_0) for step in (0, 1e-3))
    assert torch.allclose((further - here) / 1e-3, velocity)
    assert torch.allclose(flow.estimate(here, sigmas, velocity), CLEAN)
    assert torch.allclose(flow.estimate(START, SIGMA_0, velocity), CLEAN)


def test_each_clip_may_have_a_start_of_its_own() -> None:
    starts = torch.tensor([0.05, 0.1, 0.3, 1.0], dtype=torch.float64)
    begun, points = flow.start_point(DECODED, NOISE, starts), flow.path(CLEAN, START, starts / 2, starts)
    velocity = flow.velocity(CLEAN, begun, starts)
    arrived = euler(lambda x, _: velocity, begun, flow.grid(starts, 3))
    assert torch.allclose(arrived, CLEAN) and torch.allclose(points, (CLEAN + START) / 2)
    for clip, sigma_0 in enumerate(starts.tolist()):
        one = slice(clip, clip + 1)
        assert torch.allclose(begun[one], flow.start_point(DECODED[one], NOISE[one], sigma_0))
        assert torch.allclose(velocity[one], flow.velocity(CLEAN[one], begun[one], sigma_0))


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_a_measured_start_has_as_much_noise_to_its_signal_as_the_decoded_latents(ratio: float) -> None:
    sizes = torch.tensor([1e-6, 0.1, 0.25, 3.0])
    signs = torch.randn(4, 16, 2, 3, 5, generator=torch.Generator().manual_seed(0)).sign()
    starts = flow.sigma_0_for(sizes.view(-1, 1, 1, 1, 1) * signs, ratio)
    assert torch.allclose(starts[1:] / (1 - starts[1:]), ratio * sizes[1:], rtol=1e-5)
    assert starts[0] == torch.tensor(1 / 200)  # no stream can say less


def test_the_grid_is_the_paper_s_five_timesteps() -> None:
    assert [1000 * sigma for sigma in flow.grid(SIGMA_0, 5)] == pytest.approx([300, 240, 180, 120, 60, 0])
    assert flow.grid(0.3, 1) == [0.3, 0.0]


@pytest.mark.parametrize("steps", [1, 2, 5, 9])
def test_euler_along_the_true_velocity_arrives_whatever_the_steps(steps: int) -> None:
    velocity = flow.velocity(CLEAN, START, SIGMA_0)
    seen: list[float] = []

    def true(x: torch.Tensor, sigma: float) -> torch.Tensor:
        seen.append(sigma)
        return velocity

    assert torch.allclose(euler(true, START, flow.grid(SIGMA_0, steps)), CLEAN)
    assert seen == flow.grid(SIGMA_0, steps)[:-1]


def test_euler_has_first_order_on_a_curve() -> None:
    """dx/dσ = x from 1 to 0 is x/e; halving the step halves the error."""
    x = torch.ones(1, dtype=torch.float64)
    errors = [abs(euler(lambda x, _: x, x, flow.grid(1.0, n)).item() - torch.e**-1) for n in (50, 100)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)


def test_what_is_held_is_overwritten_before_every_step_and_at_the_end() -> None:
    sigmas: list[float] = []

    def hold(x: torch.Tensor, sigma: float) -> torch.Tensor:
        sigmas.append(sigma)
        return torch.cat([torch.full_like(x[:1], sigma), x[1:]])

    out = euler(lambda x, _: torch.ones_like(x), torch.zeros(2), [0.5, 0.25, 0.0], hold)
    assert sigmas == [0.5, 0.25, 0.0] and out.tolist() == [0.0, -0.5]
