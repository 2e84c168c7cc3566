"""Symbols through an entropy coder, in either direction, and what networks say of them."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.entropy.cdf_tables import SMALLEST, STEP
from gnvc_vd.entropy.coder import Decoder, Encoder

MIDDLE = 23  # the table of a network that says zero: a scale of about 1.1
MIDDLE_SCALE = SMALLEST * math.exp(STEP * MIDDLE)
PARAMETER_REACH = (1 << 15) - 1

Coders = Sequence[Encoder | Decoder]  # one for each clip
Uniform = Callable[[Tensor], Tensor]  # numbers in [0, 1), as many as another tensor's


def code_symbols(coders: Coders, indexes: Tensor, wanted: Tensor | None) -> Tensor:
    """The symbols of every clip, B N, through its coder: written if there are some to write, else read."""
    tables = indexes.cpu().numpy()
    symbols = np.zeros_like(tables) if wanted is None else wanted.cpu().numpy()
    for clip, coder in enumerate(coders):
        if isinstance(coder, Encoder):
            coder.put(symbols[clip], tables[clip])
        else:
            symbols[clip] = coder.get(tables[clip])
    return torch.from_numpy(symbols).to(indexes.device)


def code_masked_symbols(coders: Coders, indexes: Tensor, mask: Tensor, wanted: Tensor | None) -> Tensor:
    """Of B C h w only the masked symbols; zero elsewhere."""
    places = torch.nonzero(mask[0].flatten())[:, 0]
    chosen = None if wanted is None else wanted.flatten(1)[:, places]
    symbols = code_symbols(coders, indexes.flatten(1)[:, places], chosen)
    return torch.zeros_like(indexes).flatten(1).index_copy(1, places, symbols).view_as(indexes)
