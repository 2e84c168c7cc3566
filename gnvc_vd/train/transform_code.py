"""Latents as a transform code would give them back, differentiable: so that a VAE's survive one and cost it little.

    c = DCT(latents),  k = c²/(c² + d²)    each coefficient's own energy stands for its variance
    coded: k (c + d n)    bits: ½ log2(1 + c²/d²) = −½ log2(1 − k)

That is the Gaussian channel of error k d²: a coefficient far above d comes back with noise d, one far below it as 0.
Large ones are paid by the octave and small ones are nearly free, so what has to be said gathers in few of them.
"""

import torch
from torch import Tensor

from gnvc_vd.bitstream.gop import frames_of
from gnvc_vd.conventions import SPATIAL_STRIDE
from gnvc_vd.metrics.block_transform import dct

FINEST = 1 / 64  # of the coarsest level


def level_of(uniform: Tensor, coarsest: float) -> Tensor:
    """d for each number in [0, 1): every octave between the finest and the coarsest as often."""
    return coarsest * FINEST**uniform


def coded(latents: Tensor, level: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Latents B 16 T h w as codes of levels B 1 1 1 1 return them, and their bits for each pixel of the video, B."""
    coefficients = _transformed(latents)
    energy = (coefficients / level).square()
    found = energy / (1 + energy) * (coefficients + level * noise)
    count, height, width = latents.shape[2:]
    bits = 0.5 * torch.log2(1 + energy).flatten(1).sum(1)
    return _transformed(found, back=True), bits / (frames_of(count) * height * width * SPATIAL_STRIDE**2)


def _transformed(x: Tensor, back: bool = False) -> Tensor:
    """Over time and place, the whole clip one block."""
    for axis in (2, 3, 4):
        matrix = dct(x.shape[axis]).to(x)
        x = torch.movedim(torch.movedim(x, axis, -1) @ (matrix if back else matrix.T), -1, axis)
    return x
