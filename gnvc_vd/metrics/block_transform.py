"""The transform in which latents are taken as independent Gaussians: for ideal rates (ideal.py), for linear denoising.

latents ─KLT over channels─▶ ─DCT over time and 8×8 places─▶ a coefficient for each channel, frequency and block
"""

import math

import torch
from torch import Tensor

from gnvc_vd.common.constants import constant

BLOCK = 8  # places each way


class Transform:
    """The orthonormal transform of latents like some that are given, B 16 T h w of whole blocks and of zero mean."""

    def __init__(self, centred: Tensor) -> None:
        centred = centred.double()
        covariance = torch.einsum("bcthw,bdthw->cd", centred, centred)
        self._klt = torch.linalg.eigh(covariance).eigenvectors  # columns
        self._time, self._place = dct(centred.shape[2]).to(centred), dct(BLOCK).to(centred)

    def forward(self, latents: Tensor) -> Tensor:
        """Blocks C T 8 8, those of a clip row by row."""
        rotated = torch.einsum("bcthw,ck->bkthw", latents.double(), self._klt)
        blocks = rotated.unflatten(4, (-1, BLOCK)).unflatten(3, (-1, BLOCK))  # B C T rows 8 columns 8
        return torch.einsum("bktrysx,at,iy,jx->brskaij", blocks, self._time, self._place, self._place).flatten(0, 2)

    def inverse(self, coefficients: Tensor, height: int, width: int) -> Tensor:
        """Latents B 16 T h w of this size."""
        shaped = coefficients.unflatten(0, (-1, height // BLOCK, width // BLOCK))
        blocks = torch.einsum("brskaij,at,iy,jx->bktrysx", shaped, self._time, self._place, self._place)
        return torch.einsum("bkthw,ck->bcthw", blocks.flatten(5, 6).flatten(3, 4), self._klt)


def dct(count: int) -> Tensor:
    """The orthonormal DCT-II as a matrix, frequencies × samples."""
    frequency, sample = torch.arange(count, dtype=torch.float64)[:, None], torch.arange(count, dtype=torch.float64)
    matrix = torch.cos(math.pi * (sample + 0.5) * frequency / count) * math.sqrt(2 / count)
    matrix[0] /= math.sqrt(2)
    return matrix


dct_like = constant(dct)
