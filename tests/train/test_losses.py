"""Loss terms against closed forms, and against torch's own where there is one.

The transform code that a VAE is trained through has the rate and error of a Gaussian channel.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from gnvc_vd.conventions import UsageError
from gnvc_vd.train import losses
from gnvc_vd.train.losses import FINEST, code_latents, level_of
from gnvc_vd.train.settings import Rate

PIXELS = 9 * 64 * 64


def test_lambda_is_log_spaced_and_quality_widens_from_the_middle() -> None:
    levels = losses.lambda_of(torch.tensor([0, 63, 21, 42]))
    assert levels.tolist() == pytest.approx([0.02, 2.0, 0.02 * 100 ** (1 / 3), 0.02 * 100 ** (2 / 3)], rel=1e-4)
    uniform, widening = torch.linspace(0, 0.999, 1000), Rate(widening=True)
    assert set(losses.sample_quality(uniform, widening, 0.0).tolist()) <= {31, 32}
    for rate, progress in ((widening, 0.5), (Rate(), 0.0)):
        drawn = losses.sample_quality(uniform, rate, progress)
        assert set(drawn.tolist()) == set(range(64))
    assert set(losses.sample_quality(uniform, Rate(quality=7), 0.0).tolist()) == {7}


def test_one_rate_is_the_papers_sum_and_many_are_over_the_root_of_lambda() -> None:
    bpp, distortion = torch.tensor([0.03, 0.01]), torch.tensor([4.0, 4.0])
    quality = torch.tensor([0, 63])
    many = losses.rate_distortion(bpp, distortion, quality, Rate())
    assert many.tolist() == pytest.approx([(0.03 + 0.02 * 4) / 0.02**0.5, (0.01 + 2 * 4) / 2**0.5], rel=1e-5)
    one = losses.rate_distortion(bpp, distortion, quality, Rate(0.5, 0.5, quality=32))
    assert one.tolist() == pytest.approx([0.03 + 0.5 * 4, 0.01 + 0.5 * 4])


def test_bits_are_counted_over_the_videos_pixels() -> None:
    bits = torch.tensor([[100.0, 60.0]])
    assert losses.bits_per_pixel(bits, torch.zeros(1, 16, 2, 4, 6)).item() == pytest.approx(160 / (5 * 32 * 48))


def test_divergence_is_torchs() -> None:
    mean, log_variance = torch.randn(2, 16, 3, 4, 4), torch.randn(2, 16, 3, 4, 4)
    theirs = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).flatten(1).mean(1)
    assert torch.allclose(losses.divergence(mean, log_variance), theirs, rtol=1e-4)


def test_a_single_frame_has_no_temporal_error() -> None:
    assert losses.temporal_error(torch.rand(2, 3, 1, 8, 8), torch.rand(2, 3, 1, 8, 8)).tolist() == [0, 0]


def test_the_temporal_error_sees_flicker_and_no_constant_error() -> None:
    video = torch.rand(1, 3, 6, 8, 8)
    assert losses.temporal_error(video + 0.3, video).item() == pytest.approx(0, abs=1e-6)
    flicker = 0.1 * torch.tensor([1.0, -1.0] * 3).view(1, 1, 6, 1, 1)
    assert losses.temporal_error(video + flicker, video).item() == pytest.approx(0.2, rel=1e-4)


def planted(stride: int, side: int = 64) -> Tensor:
    """A cell of noise without a mean, repeated: 1 3 1 side side, and of energy 1."""
    cell = torch.randn(3, stride, stride, generator=torch.Generator().manual_seed(stride))
    cell = cell - cell.mean((1, 2), keepdim=True)
    return (cell / cell.square().mean().sqrt()).repeat(1, side // stride, side // stride)[None, :, None]


def test_a_lattice_is_the_energy_of_what_repeats_at_each_stride() -> None:
    video = torch.rand(2, 3, 5, 64, 64)
    for stride, strides_of_it in ((2, 3), (4, 3)):  # what repeats with 2 or 4 repeats with 8 and 16 too
        found = losses.lattice(video + torch.tensor([0.1, 0.3]).view(2, 1, 1, 1, 1) * planted(stride), video)
        assert found.tolist() == pytest.approx([strides_of_it * 0.01, strides_of_it * 0.09], rel=1e-4)
    eight = planted(8)
    folded = eight[0, :, 0, :8, :8].unflatten(2, (2, 4)).unflatten(1, (2, 4)).mean((1, 3))
    found = losses.lattice(video + 0.1 * eight, video)
    assert found.tolist() == pytest.approx([0.01 * (2 + folded.square().mean().item())] * 2, rel=1e-4)


def test_what_does_not_repeat_is_no_lattice() -> None:
    still, place = torch.zeros(1, 3, 4, 64, 64), torch.arange(64.0)
    for waves in (1, 3, 5, 7):  # of a window of 32; 2, a stride of 16, and 4 and 6 would be one
        wave = 0.2 * torch.sin(2 * math.pi * waves / 32 * place)
        for error in (wave, wave[:, None]):
            assert losses.lattice(still + 0.3 + error, still).item() < 1e-12
    assert losses.lattice(still + 0.2 * torch.sin(2 * math.pi * 4 / 32 * place), still).item() == pytest.approx(0.04)
    assert losses.lattice(still + 0.2 * torch.sin(2 * math.pi * 2 / 32 * place), still).item() == pytest.approx(0.02)
    flicker = torch.tensor([1.0, -1, 1, -1]).view(1, 1, 4, 1, 1)
    assert losses.lattice(still + flicker * planted(8), still).item() < 1e-12
    elsewhere = torch.cat([planted(8, 32), -planted(8, 32)], dim=4)  # the other way round in the next window
    assert losses.lattice(elsewhere.repeat(1, 1, 4, 2, 1), still).item() > 1


@pytest.mark.parametrize("side", [16, 40, 48, 64, 96])
def test_noise_is_a_lattice_by_as_much_as_means_of_it_are_left(side: int) -> None:
    """σ² over as many values as a mean is of, and less by the part that is the cell's own mean."""
    noise = torch.randn(300, 3, 2, side, side, generator=torch.Generator().manual_seed(0))
    windows = {4: min(side, 32), 8: min(side, 32), 16: min(side, 64)}
    windows |= {40: {4: 40, 8: 40, 16: 40}, 48: {4: 48, 8: 48, 16: 48}, 96: {4: 32, 8: 32, 16: 96}}.get(side, {})
    expected = sum((1 - 1 / stride**2) / (2 * (window // stride) ** 2) for stride, window in windows.items())
    assert losses.lattice(noise, torch.zeros_like(noise)).mean().item() == pytest.approx(expected, rel=0.03)


def test_the_lattices_gradient_is_the_pattern_alone() -> None:
    """Of each stride 2 / n times the cell that repeats, n values."""
    wave = torch.sin(2 * math.pi * 3 / 32 * torch.arange(64.0))
    shown = (0.4 + 0.3 * wave + 0.1 * planted(4)).expand(1, 3, 5, 64, 64).clone().requires_grad_()
    losses.lattice(shown, torch.zeros(1, 3, 5, 64, 64)).sum().backward()
    assert shown.grad is not None
    assert torch.allclose(shown.grad * shown.numel() / 6, 0.1 * planted(4).expand_as(shown), atol=1e-5)


def test_given_latents_do_not_count_in_the_flow_matching_loss() -> None:
    target = torch.zeros(2, 16, 3, 2, 2)
    found = target + 1
    found[:, :, 0] = 100
    assert losses.flow_matching(found, target, context=1).tolist() == [1.0, 1.0]
    assert losses.flow_matching(found, target).tolist() == pytest.approx([(100**2 + 2) / 3] * 2)


@pytest.mark.parametrize("wrong", [{"smallest": 3.0}, {"quality": 64}, {"thrift": -0.1}, {"thrift": float("nan")}])
def test_a_rate_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"above 0|0 to 1"):
        Rate(**wrong)  # type: ignore[arg-type]


def normal(seed: int) -> Tensor:
    return torch.randn(2, 16, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def levels(value: float) -> Tensor:
    return torch.full((2, 1, 1, 1, 1), value)


def rate(latents: Tensor, level: float) -> Tensor:
    return code_latents(latents, levels(level), torch.zeros_like(latents))[1]


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
    found, _ = code_latents(latents, levels(1.0), normal(2))
    assert (found - latents).square().mean().item() == pytest.approx(error, rel=0.03)
    if scale < 1:
        assert found.abs().max() < 0.02 * latents.abs().max()


def test_the_error_of_a_constant_is_in_its_one_coefficient() -> None:
    """c = 2 √192 in one coefficient a channel, d = c: half of it comes back, and half of one noise."""
    level = 2 * math.sqrt(192)
    found, _ = code_latents(torch.full((2, 16, 3, 8, 8), 2.0), levels(level), torch.zeros(2, 16, 3, 8, 8))
    assert torch.allclose(found, torch.ones_like(found), atol=1e-5)


def test_levels_are_every_octaves_as_often() -> None:
    found = level_of(torch.tensor([0.0, 1 / 6, 0.5, 1.0]), 1.5)
    assert found.tolist() == pytest.approx([1.5, 0.75, 1.5 / 8, 1.5 * FINEST])


def test_each_clip_has_its_own_level() -> None:
    latents, noise = normal(3), normal(4)
    both, bits = code_latents(latents, torch.tensor([0.1, 1.0]).view(2, 1, 1, 1, 1), noise)
    for index, level in enumerate((0.1, 1.0)):
        found, own = code_latents(latents, levels(level), noise)
        assert torch.equal(both[index], found[index]) and bits[index] == own[index]


def test_gradients_pull_down_bits_and_pass_what_is_kept() -> None:
    latents = normal(5).requires_grad_()
    found, bits = code_latents(latents, levels(0.01), torch.zeros_like(latents))
    (kept,) = torch.autograd.grad(found.sum(), latents, retain_graph=True)
    assert kept.mean().item() == pytest.approx(1, abs=0.01)
    (pull,) = torch.autograd.grad(bits.sum(), latents)
    assert rate(latents.detach() - 10 * pull, 0.01).sum() < bits.sum()
