"""Float32 that is float32: no autocast, no TF32 on a GPU, no bfloat16 inside a CPU's products.

For paths whose results machines must agree on to float32's rounding. TF32 keeps 10 bits of a factor; a temporal
recursion drifted by 0.0035 over three latents with it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Products and convolutions in full float32 inside; what was set before comes back afterwards.

    What is set holds for the whole process. Gradients are computed by what is set when they are.
    """
    products, cudnn = _readable(torch.get_float32_matmul_precision), _readable(lambda: torch.backends.cudnn.allow_tf32)
    parts = [part for kind in (torch.backends.cudnn, torch.backends.mkldnn) for part in (kind.conv, kind.rnn)]
    parts += [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]
    before = [part.fp32_precision for part in parts]
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for part in parts:  # a part that says nothing would follow torch.backends.fp32_precision
        part.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if cudnn is not None:
            torch.backends.cudnn.allow_tf32 = cudnn
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


def _readable(setting: Callable[[], T]) -> T | None:
    """A setting of torch's older kind; None where the newer kind was set to what the older cannot say."""
    try:
        return setting()
    except RuntimeError:
        return None
