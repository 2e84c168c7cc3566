"""Exponential moving average of the trained parameters, which validation and export use."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The module's trained parameters, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


class Ema:
    """Moving average of a module's trained parameters; its decay is smaller at first, to forget the initial values."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.live = trained_parameters(module)
        self.average = {name: value.detach().clone() for name, value in self.live.items()}

    @torch.no_grad()
    def restart(self) -> None:
        """Restart the average from the current parameters."""
        for name, parameter in self.live.items():
            self.average[name].copy_(parameter)
        self.updates = 0

    def update(self) -> None:
        self.move(self.pace())
        self.updates += 1

    def pace(self) -> float:
        """Weight of the current parameters in the next update."""
        return 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def move(self, pace: float | Tensor) -> None:
        """Move the average towards the parameters, in one call for all tensors, which is faster on a GPU."""
        pairs = [(one.detach(), self.average[name]) for name, one in self.live.items()]
        for sharded in (False, True):  # torch._foreach functions take either kind, not both
            of_kind = [pair for pair in pairs if isinstance(pair[0], DTensor) == sharded]
            if of_kind:
                live, averages = map(list, zip(*of_kind, strict=True))
                away = torch._foreach_sub(live, averages)
                torch._foreach_mul_(away, pace)
                torch._foreach_add_(averages, away)

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Context in which the module's parameters are the averages."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self.live.items():
            live = parameter.clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(live)


def gather_to_cpu(value: Tensor, kept: bool = True) -> Tensor:
    """Copy a tensor to the CPU, gathered if it is sharded; processes without `kept` get an empty tensor."""
    gathered = value.full_tensor() if isinstance(value, DTensor) else value
    return gathered.detach().to("cpu", copy=True).contiguous() if kept else torch.empty(0)


@torch.no_grad()
def scatter_into(place: Tensor, value: Tensor) -> Tensor:
    """Copy a whole tensor into `place`, of which it takes only this process's rows if `place` is sharded."""
    if isinstance(place, DTensor):
        place.to_local().copy_(value[own_rows(place)])
    else:
        place.copy_(value)
    return place


def own_rows(sharded: DTensor) -> slice:
    """The rows of a sharded tensor that this process holds."""
    (axis,) = (axis for axis, placement in enumerate(sharded.placements) if placement.is_shard())
    count = -(-len(sharded) // sharded.device_mesh.size(axis))
    first = count * sharded.device_mesh.get_local_rank(axis)
    return slice(first, first + count)
