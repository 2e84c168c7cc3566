"""Latents whose statistics are known: smooth Gaussian fields that move, with a little that is new at every latent."""

import math

import torch
from torch import Tensor

from gnvc_vd.conventions import LATENT_CHANNELS

SMOOTHNESS = 0.06  # cycles per place beyond which a field has little
FASTEST = 1.5  # places a latent
FRESH = 0.15  # the part of a latent's variance that the one before says nothing of


def moving_fields(clips: int, latents: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """B 16 T h w, of zero mean and unit variance."""
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    envelope = 1 / (1 + (rows.square() + columns.square()) / SMOOTHNESS**2)
    mixing = torch.randn(LATENT_CHANNELS, LATENT_CHANNELS, generator=torch.Generator().manual_seed(0)) / 4
    velocity = FASTEST * (2 * torch.rand(clips, 2, generator=generator) - 1)
    turn = torch.exp(-2j * math.pi * (velocity[:, :1, None] * rows + velocity[:, 1:, None] * columns))[:, None]

    def fresh() -> Tensor:
        noise = torch.randn(clips, LATENT_CHANNELS, height, width, generator=generator)
        mixed = torch.einsum("ij,bjhw->bihw", mixing, noise) + 0.5 * noise
        return torch.fft.rfft2(mixed) * envelope

    field, out = fresh(), []
    for _ in range(latents):
        out.append(torch.fft.irfft2(field, s=(height, width)))
        field = math.sqrt(1 - FRESH) * field * turn + math.sqrt(FRESH) * fresh()
    stacked = torch.stack(out, dim=2)
    return stacked / stacked.std()
