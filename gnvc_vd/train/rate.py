"""What a quality is worth: its λ, and the loss that trades bits against error."""

import math

import torch
from torch import Tensor

from gnvc_vd.conventions import QUALITIES, SPATIAL_STRIDE
from gnvc_vd.gop import frames_of

SMALLEST_LAMBDA, LARGEST_LAMBDA = 0.02, 2.0


def lambda_of(quality: Tensor) -> Tensor:
    """λ_r of a quality, log-spaced over the levels."""
    part = quality.double() / (QUALITIES - 1)
    return (math.log(SMALLEST_LAMBDA) + part * math.log(LARGEST_LAMBDA / SMALLEST_LAMBDA)).exp().float()


def bits_per_pixel(bits: Tensor, latents: Tensor) -> Tensor:
    """B T bits of latents B 16 T h w: bits for each pixel of the video, B."""
    count, height, width = latents.shape[2:]
    return bits.sum(1) / (frames_of(count) * height * width * SPATIAL_STRIDE**2)


def rate_distortion(bits: Tensor, decoded: Tensor, latents: Tensor, quality: Tensor) -> Tensor:
    """R + λ‖l̂ − l‖², divided by √λ so that no quality drowns the others: one number for each clip.

    Args:
        quality: of each clip, B.
    """
    error = (decoded - latents).square().mean((1, 2, 3, 4))
    weight = lambda_of(quality)
    return (bits_per_pixel(bits, latents) + weight * error) / weight.sqrt()


def sampled_quality(clips: int, progress: float, generator: torch.Generator | None = None) -> Tensor:
    """A quality for each clip: the middle one first, then ever further from it, all from half the warm-up on."""
    half = (QUALITIES - 1) / 2
    spread = half * min(1.0, max(0.0, 4 * progress - 0.2))
    drawn = half + spread * (2 * torch.rand(clips, generator=generator) - 1)
    return drawn.round().clamp(0, QUALITIES - 1).long()
