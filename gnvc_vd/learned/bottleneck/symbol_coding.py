"""Encode or decode tensors of symbols, and constants that entropy models share."""

import math
from collections.abc import Callable, Sequence
from typing import cast

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
    """Encode `wanted`, B N, each clip with its own coder, or decode if the coders are decoders; return the symbols.

    What a device must send, and wait for, is one tensor.
    """
    if wanted is not None:
        both = torch.stack([wanted.int(), indexes.int()], dim=1).cpu().numpy()
        for coder, (values, tables) in zip(coders, both, strict=True):
            cast(Encoder, coder).put(values, tables)
        return wanted
    listed = indexes.to("cpu", torch.uint8).numpy()
    decoded = [cast(Decoder, coder).get(tables) for coder, tables in zip(coders, listed, strict=True)]
    return torch.from_numpy(np.stack(decoded)).to(indexes.device).long()
