"""A latent codec trained on moving Gaussian fields: minutes on a CPU, to see that every part of it earns its bits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from gnvc_vd.bottleneck.bottleneck import Bottleneck
from gnvc_vd.data.synthetic import moving_fields
from gnvc_vd.train.rate import bits_per_pixel, rate_distortion, sampled_quality

EVALUATION_SEED = 1 << 40  # no training step draws from it


@dataclass(frozen=True)
class Point:
    """One quality on fields that training has not seen."""

    quality: int
    bpp: float | None  # of the payload; None for a model that cannot code
    estimated_bpp: float  # of the fake-quantised model
    error: float  # mean squared, of latents of unit variance


def train(
    model: Bottleneck, steps: int, clips: int = 8, latents: int = 4, side: int = 16, rate: float = 4e-3, seed: int = 0
) -> None:
    """Adam with a cosine's decline, quality sampled for each clip, widening from the middle one."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate)
    decline = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=rate / 100)
    model.train()
    for step in tqdm(range(steps), desc="training", unit="step", disable=None):
        fields = moving_fields(clips, latents, side, side, generator)
        quality = sampled_quality(clips, step / steps, generator)
        out = model(fields, quality[:, None].expand(-1, latents))
        loss = rate_distortion(out.bits, out.latents, fields, quality).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        decline.step()
    model.eval()
    model.freeze()


def measure(
    model: Bottleneck, qualities: Sequence[int], clips: int = 4, latents: int = 7, side: int = 32
) -> list[Point]:
    """Real payloads of a frozen model , and what the trained one estimates for the same."""
    fields = moving_fields(clips, latents, side, side, torch.Generator().manual_seed(EVALUATION_SEED))
    points = []
    for quality in qualities:
        with torch.inference_mode():
            trained = model(fields, torch.full((clips, latents), quality))
        estimated = bits_per_pixel(trained.bits, fields).mean().item()
        error = (trained.latents - fields).square().mean().item()
        if model.float_prior:
            points.append(Point(quality, None, estimated, error))
            continue
        payloads, decoded = model.compress(fields, [quality] * latents)
        bits = torch.tensor([[8.0 * len(payload.data)] for payload in payloads])
        error = (torch.stack([one.latent for one in decoded], 2) - fields).square().mean().item()
        points.append(Point(quality, bits_per_pixel(bits, fields).mean().item(), estimated, error))
    return points
