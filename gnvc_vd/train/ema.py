"""A running average of what trains: what is validated, exported and shipped."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class Ema:
    """The average of a module's trained parameters; it begins fast, so that the start is soon forgotten."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._live = {name: one for name, one in module.named_parameters() if one.requires_grad}
        self.average = {name: one.detach().clone() for name, one in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in self._live.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)
        self.updates += 1

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The module with the average in it."""
        live = {name: parameter.detach().clone() for name, parameter in self._live.items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(live)

    def state(self, kept: bool = True) -> dict[str, Tensor]:
        """Whole tensors on the CPU, wherever the parameters lie; every process of a sharded model must ask."""
        return {name: whole(value, kept) for name, value in self.average.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], updates: int) -> None:
        self.updates = updates
        for name, value in self.average.items():
            put(value, state[name])

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._live.items():
            parameter.copy_(values[name])


def whole(value: Tensor, kept: bool = True) -> Tensor:
    """A copy of a tensor on the CPU, gathered if it is sharded; nothing where it is not kept."""
    gathered = value.full_tensor() if isinstance(value, DTensor) else value
    return gathered.detach().to("cpu", copy=True).contiguous() if kept else torch.empty(0)


def put(place: Tensor, value: Tensor) -> None:
    """A whole tensor into one that may be sharded."""
    if isinstance(place, DTensor):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(place.device), place.device_mesh, place.placements)
    place.copy_(value)
