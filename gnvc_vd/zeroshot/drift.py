"""How far another machine's latents have drifted from the encoder's, from eight bytes of the stream.

Each of four numbers is a projection of a GOP's final latents on ±1 over √D. If the decoder's latents differ by δ, each
projection differs by a number of variance mean(δ²): their root mean square estimates the drift, to a factor of about
1.5, in deviations of a latent. Equal latents have equal sketches.
"""

import math

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.common.noise import words

SKETCH_KEY = 0x47564303
NUMBERS = 4
BYTES = 2 * NUMBERS
STEPS = 1024  # of a sketch to a unit


def sketch(latents: Tensor) -> bytes:
    flat = torch.nan_to_num(latents.flatten().double().cpu())
    signs = 1 - 2 * (words(len(flat), (0, SKETCH_KEY), (0, 0, 0)) >> 31).double()
    numbers = (flat @ signs / math.sqrt(len(flat)) * STEPS).round().clamp(-(1 << 15), (1 << 15) - 1)
    return numbers.numpy().astype(">i2").tobytes()


def drift(stated: bytes, latents: Tensor) -> float:
    """The estimated root mean square difference from the encoder's latents."""
    there, here = (np.frombuffer(one, ">i2").astype(np.float64) for one in (stated, sketch(latents)))
    return float(np.sqrt(np.mean((there - here) ** 2)) / STEPS)
