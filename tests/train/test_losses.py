"""Loss terms against closed forms, and against torch's own where there is one."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from gnvc_vd.conventions import UsageError
from gnvc_vd.train import losses
from gnvc_vd.train.settings import Rate


def test_lambda_is_log_spaced_and_quality_widens_from_the_middle() -> None:
    levels = losses.lambda_of(torch.tensor([0, 63, 21, 42]))
    assert levels.tolist() == pytest.approx([0.02, 2.0, 0.02 * 100 ** (1 / 3), 0.02 * 100 ** (2 / 3)], rel=1e-4)
    uniform, widening = torch.linspace(0, 0.999, 1000), Rate(widening=True)
    assert set(losses.sampled_quality(uniform, widening, 0.0).tolist()) <= {31, 32}
    for rate, progress in ((widening, 0.5), (Rate(), 0.0)):
        drawn = losses.sampled_quality(uniform, rate, progress)
        assert set(drawn.tolist()) == set(range(64))
    assert set(losses.sampled_quality(uniform, Rate(quality=7), 0.0).tolist()) == {7}


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


def test_the_temporal_error_sees_flicker_and_no_constant_error() -> None:
    video = torch.rand(1, 3, 6, 8, 8)
    assert losses.temporal_error(video + 0.3, video).item() == pytest.approx(0, abs=1e-6)
    flicker = 0.1 * torch.tensor([1.0, -1.0] * 3).view(1, 1, 6, 1, 1)
    assert losses.temporal_error(video + flicker, video).item() == pytest.approx(0.2, rel=1e-4)


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
