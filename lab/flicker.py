"""The flicker that a perceptual distance sees, |d(x_t, x_t+1) − d(y_t, y_t+1)|: studied, and no part of `compare`."""

from collections.abc import Callable

import torch
from torch import Tensor

from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.pairs import Pair

Distance = Callable[[Tensor, Tensor], Tensor]


def temporal_difference(distance: Distance, x: Tensor, y: Tensor) -> Tensor:
    """mean_t |d(x_t, x_t+1) − d(y_t, y_t+1)| → (B,): tLP of Chu et al. (TecoGAN, 2020) for any distance; a loss too."""
    if x.shape != y.shape or x.dim() != 5 or x.shape[2] < 2:
        raise ValueError(f"two B 3 T H W with T > 1, not {tuple(x.shape)} and {tuple(y.shape)}")
    batch = len(x)
    changes = []
    for z in (x, y):
        first, second = (part.transpose(1, 2).flatten(0, 1) for part in (z[:, :, :-1], z[:, :, 1:]))
        changes.append(distance(first, second).view(batch, -1))  # (B, T − 1)
    return (changes[0] - changes[1]).abs().mean(1)


class TemporalDifference:
    """`temporal_difference` of a video, frame by frame."""

    def __init__(self, distance: Distance) -> None:
        self._distance = distance
        self._before: tuple[Tensor, Tensor] | None = None
        self._sum, self._count = 0.0, 0

    @torch.inference_mode()
    def add(self, pair: Pair) -> None:
        before, self._before = self._before, pair.tensors
        if before is not None:
            changes = [self._distance(a, b) for a, b in zip(before, pair.tensors, strict=True)]
            self._sum += float((changes[0] - changes[1]).abs())
            self._count += 1

    def value(self) -> float:
        if not self._count:
            raise UnavailableError("needs at least two frames")
        return self._sum / self._count
