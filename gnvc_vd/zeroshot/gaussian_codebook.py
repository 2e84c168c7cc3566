"""Atoms drawn from a Gaussian one by one, as published, in the place of those of ±1 (codebook.py).

    counter (block, atom, step · 2^16 + latent, GOP) ─Philox─▶ 16-bit quantiles of a normal distribution: z_k, D numbers
    search: all K · D of them drawn, in parts, and ⟨z_k, r⟩ added up in floats;  look-up: the M that were chosen, alone

What a decoder does is whole numbers until the last division. An encoder draws K · D numbers for each step and latent,
which codebook.py is there to spare: a GOP of 33 frames at 1280 × 720 takes 5.8 · 10^11.
"""

import math

import torch
from torch import Tensor

from gnvc_vd.common.noise import FIXED_POINT, NORMALS_PER_BLOCK, quantiles_of, words
from gnvc_vd.zeroshot.codebook import Choice, check_size, strongest

DRAWN_AT_ONCE = 1 << 22  # numbers
SQUARED_AT_ONCE = 1 << 20  # numbers below 2^21, as a rule: their squares' sum is far below 2^63
STEP_UNIT = 1 << 16  # latents of a GOP, at most


class GaussianCodebook:
    """K atoms over D places; the arguments are Codebook's."""

    def __init__(
        self,
        size: int,
        places: int,
        key: tuple[int, int],
        stream: tuple[int, int, int],
        device: torch.device | str = "cpu",
    ) -> None:
        check_size(size)
        step, latent, gop = stream
        self.size, self.places = size, places
        self._key, self._place, self._device = key, (step * STEP_UNIT + latent, gop), device

    def products(self, residual: Tensor) -> Tensor:
        """⟨z_k, r⟩ for all k: K float32."""
        residual = torch.nan_to_num(residual.flatten().float())
        parts = self._parts(torch.arange(self.size, device=self._device))
        return torch.cat([(self.atoms(part).float() / FIXED_POINT) @ residual for part in parts])

    def select(self, residual: Tensor, count: int) -> Choice:
        return strongest(self.products(residual), count)

    def assemble(self, choice: Choice) -> Tensor:
        """The signed sum of chosen atoms over its deviation, with the mean left in, as published: D, float32."""
        numbers, signs = torch.tensor(choice, dtype=torch.int64, device=self._device)
        summed = torch.zeros(self.places, dtype=torch.int64, device=self._device)
        for part, sign in zip(self._parts(numbers), self._parts(signs), strict=True):
            summed += (sign[:, None] * self.atoms(part)).sum(0)
        power = sum(int(part.square().sum()) for part in summed.split(SQUARED_AT_ONCE))
        variance = (power - int(summed.sum()) ** 2 / self.places) / max(1, self.places - 1)
        return summed.float() / math.sqrt(variance) if variance > 0 else summed.float()

    def atoms(self, numbers: Tensor) -> Tensor:
        """Those of these numbers, each whatever others are asked for: n D int32, over 2^16."""
        blocks = -(-self.places // NORMALS_PER_BLOCK)
        return quantiles_of(words(blocks, self._key, (numbers[:, None], *self._place), self._device), self.places)

    def _parts(self, atoms: Tensor) -> tuple[Tensor, ...]:
        """Of one number for each of some atoms: as many as are drawn at once."""
        return atoms.split(max(1, DRAWN_AT_ONCE // self.places))
