"""One GOP's trajectory at either end: the same loop, with atoms chosen or atoms read.

x_T from the counter ─▶ velocity ─▶ x̂_0 ─▶ codebook of (step, latent): choose by x_0 − x̂_0, or look up ─▶ z ─▶ …
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnvc_vd.common.noise import normal
from gnvc_vd.zeroshot.codebook import Choice, Codebook
from gnvc_vd.zeroshot.parameters import Parameters
from gnvc_vd.zeroshot.payload import Set
from gnvc_vd.zeroshot.sde import Velocity, trajectory

START_KEY, ATOM_KEY, FREE_KEY = 0x47564300, 0x47564301, 0x47564302  # second halves; the stream's seed is the first


@dataclass(frozen=True)
class Sampled:
    """Where a trajectory ended, and by which atoms."""

    latents: Tensor  # 1 16 T h w
    sets: tuple[tuple[Set, ...], ...]


class Gop:
    """What both ends know of a GOP before its first step.

    Args:
        index: its number in the stream.
        shape: of its latents, 1 16 T h w.
        counts: atoms for each latent; a latent without gets free noise, for no bits.
    """

    def __init__(
        self, parameters: Parameters, index: int, shape: Sequence[int], counts: Sequence[int], device: torch.device
    ) -> None:
        self._parameters, self._index = parameters, index
        self._shape, self._counts, self._device = tuple(shape), tuple(counts), device

    def encode(self, velocity: Velocity, latents: Tensor) -> Sampled:
        """Towards these latents."""
        sets: list[tuple[Set, ...]] = []

        def steer(step: int, estimate: Tensor) -> Tensor:
            residual, row, parts = latents - estimate, list[Set](), list[Tensor]()
            for place, count in enumerate(self._counts):
                if count:
                    book = self._book(step, place)
                    choice = book.select(residual[0, :, place], count)
                    parts.append(book.assemble(choice))
                    row.append((tuple(choice.atoms.tolist()), tuple(choice.signs.tolist())))
                else:
                    parts.append(self._free(step, place))
                    row.append(((), ()))
            sets.append(tuple(row))
            return self._joined(parts)

        reached = trajectory(velocity, self._start(), self._parameters.schedule, steer)
        return Sampled(reached, tuple(sets))

    def decode(self, velocity: Velocity, sets: Sequence[Sequence[Set]]) -> Tensor:
        """Along these atoms."""

        def steer(step: int, estimate: Tensor) -> Tensor:
            parts = []
            for place, (atoms, signs) in enumerate(sets[step]):
                if atoms:
                    chosen = (torch.tensor(one, device=self._device) for one in (atoms, signs))
                    parts.append(self._book(step, place).assemble(Choice(*chosen)))
                else:
                    parts.append(self._free(step, place))
            return self._joined(parts)

        return trajectory(velocity, self._start(), self._parameters.schedule, steer)

    def _start(self) -> Tensor:
        return normal(self._shape, (self._parameters.seed, START_KEY), (0, 0, self._index), self._device)

    def _book(self, step: int, place: int) -> Codebook:
        key, stream = (self._parameters.seed, ATOM_KEY), (step, place, self._index)
        return Codebook(self._parameters.codebook, self._places, key, stream, self._device)

    def _free(self, step: int, place: int) -> Tensor:
        return normal((self._places,), (self._parameters.seed, FREE_KEY), (step, place, self._index), self._device)

    @property
    def _places(self) -> int:
        _, channels, _, height, width = self._shape
        return channels * height * width

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        _, channels, _, height, width = self._shape
        return torch.stack([part.view(channels, height, width) for part in parts], dim=1)[None]
