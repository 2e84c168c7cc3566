"""Constant tensors, made once for each type and device.

A copy from the host makes it wait for an accelerator, and a captured step (train/capture.py) may hold none.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def constant(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """What `make` returns of whole numbers, in the type and on the device of a tensor that is given before them."""

    @functools.cache
    def cached(dtype: torch.dtype, device: torch.device, *arguments: int) -> Tensor:
        with torch.inference_mode(False):  # usable outside inference mode too
            return make(*arguments).to(device, dtype)

    def like(x: Tensor, *arguments: int) -> Tensor:
        if type(x) is not Tensor:  # it may hold no data (lab/training_cost.py), and then nor would what is kept
            return make(*arguments).to(x)
        return cached(x.dtype, x.device, *arguments)

    return like
