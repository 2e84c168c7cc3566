"""An ideal transform code of latents: what they would cost, and how they would come back, before there is a codec.

    latents ──Transform──▶ coefficients, a variance σ_i² for each
    reverse water-filling at level θ:  D_i = min(θ, σ_i²),  R_i = ½ log2(σ_i² / D_i)
    coefficients as that code would give them back:  (1 − D_i/σ_i²) c + √(D_i (1 − D_i/σ_i²)) n  ─▶ latents

Variances are taken over the clip's blocks, so what differs from place to place costs bits that a codec with contexts
would save; entropy coding is ideal and its tables are free. The figure compares VAEs; it is no codec's rate.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gnvc_vd.metrics.block_transform import BLOCK, Transform

BISECTIONS = 60


@dataclass(frozen=True)
class IdealResult:
    """Latents as an ideal code at some rate gives them back."""

    latents: Tensor
    bits: float
    level: float  # θ


class IdealCode:
    """The transform code of one clip's latents, B 16 T h w."""

    def __init__(self, latents: Tensor) -> None:
        self._size = latents.shape[3:]
        height, width = self._size
        whole_blocks = (0, -width % BLOCK, 0, -height % BLOCK, 0, 0)  # left, right, top, bottom, front, back
        padded = torch.nn.functional.pad(latents.double(), whole_blocks, mode="replicate")
        self._mean = padded.mean((0, 2, 3, 4), keepdim=True)
        centred = padded - self._mean
        self._transform = Transform(centred)
        self._coefficients = self._transform.forward(centred)  # blocks C T 8 8
        self._padded = padded.shape[3:]
        self._variance = self._coefficients.square().mean(0).clamp_min(1e-12)
        # Only the true picture's places are paid for.
        self._blocks = math.prod(self._size) * len(latents) / BLOCK**2

    def bits(self, level: float) -> float:
        """Of the whole clip, at a water level."""
        rates = 0.5 * torch.log2(self._variance / self._variance.clamp_max(level))
        return float(rates.sum()) * self._blocks

    def at_bits(self, bits: float, seed: int = 0) -> IdealResult:
        """The code that spends so many bits."""
        low, high = 1e-12, float(self._variance.max())
        for _ in range(BISECTIONS):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.bits(middle) > bits else (low, middle)
        return IdealResult(self._at_level(high, seed), self.bits(high), high)

    def _at_level(self, level: float, seed: int) -> Tensor:
        kept = 1 - self._variance.clamp_max(level) / self._variance
        noise = torch.randn(
            self._coefficients.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        spread = (self._variance.clamp_max(level) * kept).sqrt()
        coded = kept * self._coefficients + spread * noise.to(kept.device)
        padded = self._transform.inverse(coded, *self._padded) + self._mean
        return padded[..., : self._size[0], : self._size[1]].float()
