"""Modules without values, to be filled from files: `with shapes_only(): module = …`, then `fill` of sources.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@contextmanager
def shapes_only() -> Iterator[None]:
    """Modules are built on the meta device, where tensors have shapes and no values, and nothing is drawn for them.

    So a wrong size is found before any memory is taken for it. torch would draw even there, by functions in Python
    for which it imports its compiler: a second of every program's start.
    """
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if function in (Tensor.normal_, Tensor.uniform_) else function(*args, **(kwargs or {}))
