"""Terms of the losses as pure functions, one number for each clip (B); the papers' equations beside them."""

import torch
from torch import Tensor

from gnvc_vd.bitstream.gop import frames_of
from gnvc_vd.conventions import QUALITIES, SPATIAL_STRIDE
from gnvc_vd.train.settings import Rate


def lambda_of(quality: Tensor, rate: Rate = Rate()) -> Tensor:  # noqa: B008 - frozen
    """λ_r of a quality, log-spaced over the levels."""
    part = quality.double() / (QUALITIES - 1)
    return (rate.smallest * (rate.largest / rate.smallest) ** part).float()


def sampled_quality(uniform: Tensor, rate: Rate, progress: float) -> Tensor:
    """A quality for each number in [0, 1): the middle one first, then ever further from it, all from 0.3 on."""
    if rate.quality is not None:
        return torch.full_like(uniform, rate.quality, dtype=torch.long)
    half = (QUALITIES - 1) / 2
    spread = half * (min(1.0, max(0.0, 4 * progress - 0.2)) if rate.widening else 1.0)
    return (half + spread * (2 * uniform - 1)).round().clamp(0, QUALITIES - 1).long()


def bits_per_pixel(bits: Tensor, latents: Tensor) -> Tensor:
    """R: bits B T of latents B 16 T h w, for each pixel of the video."""
    count, height, width = latents.shape[2:]
    return bits.sum(1) / (frames_of(count) * height * width * SPATIAL_STRIDE**2)


def squared_error(found: Tensor, wanted: Tensor) -> Tensor:
    """‖a − b‖², as a mean."""
    return (found - wanted).square().flatten(1).mean(1)


def absolute_error(found: Tensor, wanted: Tensor) -> Tensor:
    return (found - wanted).abs().flatten(1).mean(1)


def temporal_error(found: Tensor, wanted: Tensor) -> Tensor:
    """|ΔṼ − ΔV|, Δ from frame to frame: what flickers."""
    return absolute_error(found.diff(dim=2), wanted.diff(dim=2))


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)) for each value, averaged."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).mean(1) / 2


def flow_matching(velocity: Tensor, target: Tensor, context: int = 0) -> Tensor:
    """L_CFM = E ‖v_θ(x_τ, τ, x_c) − v_τ‖²; the first `context` latents are given and do not count."""
    return squared_error(velocity[:, :, context:], target[:, :, context:])


def rate_distortion(bpp: Tensor, distortion: Tensor, quality: Tensor, rate: Rate) -> Tensor:
    """R + λ_r D; over √λ_r where one model has all qualities, so that none drowns the others."""
    weight = lambda_of(quality, rate)
    total = bpp + weight * distortion
    return total if rate.quality is not None else total / weight.sqrt()
