"""What a piece of work would cost, computed on tensors without data: no weights, no time, any size.

Operations are counted by torch's own counter. Memory is what the tensors that exist at once would hold: an allocator's
slack and a kernel's workspace come on top of it. It is measured in a run of its own, as the counter's hooks keep alive
what checkpointing lets go.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from gnvc_vd.bench.refine_speed import CPU_ATTENTION, attention_operations


@dataclass(frozen=True)
class ComputeCost:
    """Operations (a multiplication and an addition are two) and bytes beside the weights."""

    operations: int
    peak_bytes: int


def compute(work: Callable[[], object], gradients: bool = False) -> ComputeCost:
    """Run `work` twice, whose tensors are on the meta device or fake; with gradients, it may go backward.

    Gradients that the first run leaves are there in the second, and not counted.
    """
    counter = FlopCounterMode(display=False, custom_mapping={CPU_ATTENTION: attention_operations})
    with torch.set_grad_enabled(gradients):
        with counter:
            work()
        with _LiveBytes() as live:
            work()
    return ComputeCost(counter.get_total_flops(), live.peak)


class _LiveBytes(TorchDispatchMode):
    """Adds up the storages that operations make, for as long as each lives."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out) - _storages((args, kwargs)):  # neither in place nor a view
            self._add(storage.nbytes())
            weakref.finalize(storage, self._add, -storage.nbytes())
        return out

    def _add(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)


def _storages(tree: Any) -> set[torch.UntypedStorage]:
    return {leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)}
