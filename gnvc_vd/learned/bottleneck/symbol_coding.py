"""Encode or decode tensors of symbols, and constants that entropy models share."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.entropy.cdf_tables import SMALLEST, STEP
from gnvc_vd.entropy.coder import Decoder, Encoder

MIDDLE = 23  # the table for a network's output of zero: a scale of about 1.1
MIDDLE_SCALE = SMALLEST * math.exp(STEP * MIDDLE)
PARAMETER_REACH = (1 << 15) - 1

Coders = Sequence[Encoder | Decoder]  # one for each clip
Uniform = Callable[[Tensor], Tensor]  # draws from [0, 1), shaped like the argument


def code_symbols(coders: Coders, indexes: Tensor, wanted: Tensor | None) -> Tensor:
    """Encode `wanted`, B N, each clip with its own coder, or decode if the coders are decoders; return the symbols."""
    tables = indexes.cpu().numpy()
    symbols = np.zeros_like(tables) if wanted is None else wanted.cpu().numpy()
    for clip, coder in enumerate(coders):
        if isinstance(coder, Encoder):
            coder.put(symbols[clip], tables[clip])
        else:
            symbols[clip] = coder.get(tables[clip])
    return torch.from_numpy(symbols).to(indexes.device)


def code_masked_symbols(coders: Coders, indexes: Tensor, mask: Tensor, wanted: Tensor | None) -> Tensor:
    """Likewise for the masked symbols of B C h w; the others are zero."""
    places = torch.nonzero(mask[0].flatten())[:, 0]
    chosen = None if wanted is None else wanted.flatten(1)[:, places]
    symbols = code_symbols(coders, indexes.flatten(1)[:, places], chosen)
    return torch.zeros_like(indexes).flatten(1).index_copy(1, places, symbols).view_as(indexes)
