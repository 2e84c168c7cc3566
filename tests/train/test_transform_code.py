"""The transform code that a VAE is trained through: rate and error of a Gaussian channel."""

import math

import pytest
import torch
from torch import Tensor

from gnvc_vd.train.losses import FINEST, coded, level_of

PIXELS = 9 * 64 * 64


def normal(seed: int) -> Tensor:
    return torch.randn(2, 16, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def levels(value: float) -> Tensor:
    return torch.full((2, 1, 1, 1, 1), value)


def rate(latents: Tensor, level: float) -> Tensor:
    return coded(latents, levels(level), torch.zeros_like(latents))[1]


def test_bits_are_paid_by_the_octave_and_what_is_smooth_is_cheap() -> None:
    noise, still = normal(0), torch.full((2, 16, 3, 8, 8), 2.0)
    alone = 0.5 * math.log2(1 + 4 * 3 * 64 / 0.25) * 16 / PIXELS  # one coefficient of a channel holds all its energy
    assert rate(still, 0.5).tolist() == pytest.approx([alone] * 2, rel=1e-5)
    octave = rate(2e4 * noise, 1.0) - rate(1e4 * noise, 1.0)
    assert octave.tolist() == pytest.approx([noise[0].numel() / PIXELS] * 2, rel=1e-3)
    assert torch.allclose(rate(3 * noise, 1.5), rate(noise, 0.5))
    smooth = noise.mean((3, 4), keepdim=True).expand_as(noise)
    equal = smooth * (noise.square().mean() / smooth.square().mean()).sqrt()
    assert (rate(equal, 0.3) < 0.2 * rate(noise, 0.3)).all()


@pytest.mark.parametrize(("scale", "error"), [(1e3, 1.0), (1e-3, 1e-6)])
def test_loud_latents_come_back_with_the_levels_noise_and_faint_ones_as_nothing(scale: float, error: float) -> None:
    """k d² of error: d² where c ≫ d, c² where c ≪ d."""
    latents = scale * normal(1)
    found, _ = coded(latents, levels(1.0), normal(2))
    assert (found - latents).square().mean().item() == pytest.approx(error, rel=0.03)
    if scale < 1:
        assert found.abs().max() < 0.02 * latents.abs().max()


def test_the_error_of_a_constant_is_in_its_one_coefficient() -> None:
    """c = 2 √192 in one coefficient a channel, d = c: half of it comes back, and half of one noise."""
    level = 2 * math.sqrt(192)
    found, _ = coded(torch.full((2, 16, 3, 8, 8), 2.0), levels(level), torch.zeros(2, 16, 3, 8, 8))
    assert torch.allclose(found, torch.ones_like(found), atol=1e-5)


def test_levels_are_every_octaves_as_often() -> None:
    found = level_of(torch.tensor([0.0, 1 / 6, 0.5, 1.0]), 1.5)
    assert found.tolist() == pytest.approx([1.5, 0.75, 1.5 / 8, 1.5 * FINEST])


def test_each_clip_has_its_own_level() -> None:
    latents, noise = normal(3), normal(4)
    both, bits = coded(latents, torch.tensor([0.1, 1.0]).view(2, 1, 1, 1, 1), noise)
    for index, level in enumerate((0.1, 1.0)):
        found, own = coded(latents, levels(level), noise)
        assert torch.equal(both[index], found[index]) and bits[index] == own[index]


def test_gradients_pull_down_bits_and_pass_what_is_kept() -> None:
    latents = normal(5).requires_grad_()
    found, bits = coded(latents, levels(0.01), torch.zeros_like(latents))
    (kept,) = torch.autograd.grad(found.sum(), latents, retain_graph=True)
    assert kept.mean().item() == pytest.approx(1, abs=0.01)
    (pull,) = torch.autograd.grad(bits.sum(), latents)
    assert rate(latents.detach() - 10 * pull, 0.01).sum() < bits.sum()
