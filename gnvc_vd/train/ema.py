"""A running average of what trains: what is validated, exported and shipped."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


class Ema:
    """The average of a module's trained parameters; it begins fast, so that the start is soon forgotten."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._live = trained(module)
        self.average = _copies(self._live)

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in self._live.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)
        self.updates += 1

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The module with the average in it."""
        live = _copies(self._live)
        self._put(self.average)
        try:
            yield
        finally:
            self._put(live)

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
        value = distribute_tensor(value.to(place.device), place.device_mesh, place.placements)
    place.copy_(value)


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
