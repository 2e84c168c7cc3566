"""Codebooks of pseudo-random ±1 atoms, and a fast search for those that match a residual.

    counter ─Philox─▶ a 32-bit word for each place j: its top bit is s_j, its low bits are the code c_j
    z_k(j) = (−1)^(s_j + ⟨k, c_j⟩)           ⟨·,·⟩ counts common bits; an odd count flips the sign

Any two atoms are independent, as if each had been drawn by itself, because the low bits of the words are random. All K
inner products with a residual r are one fast Walsh-Hadamard transform:

    ⟨z_k, r⟩ = Σ_c (−1)^⟨k, c⟩ f(c),   f(c) = Σ_j [c_j = c] (−1)^(s_j) r_j

This takes D + K log K additions instead of K · D random numbers and products, and memory for K + D numbers instead of
K · D. The sum of chosen atoms is computed for every code by one small matrix product and looked up for each place. It
is all integer arithmetic, equal on every device and for any number of threads. Atom k does not depend on K.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gnvc_vd.common.noise import words

WORDS = 4  # in a block of Philox
SIGN_BIT = 31
MAX_SIZE = 1 << 16
PRECISION = 1 << 29  # the sum of all magnitudes of a residual in integers; sums then fit 31 bits


class Choice(NamedTuple):
    """Indexes of chosen atoms of a codebook, ascending, and their signs ±1."""

    atoms: tuple[int, ...] = ()
    signs: tuple[int, ...] = ()


class Codebook:
    """K atoms over D places.

    Args:
        size: K, a power of two.
        places: D.
        key, stream: the key and counter of Philox; every codebook of a trajectory has its own stream.
    """

    def __init__(
        self,
        size: int,
        places: int,
        key: tuple[int, int],
        stream: tuple[int, int, int],
        device: torch.device | str = "cpu",
    ) -> None:
        check_size(size)
        word = words(-(-places // WORDS), key, stream, device).flatten()[:places]
        self.size, self.places = size, places
        self.sign = (1 - 2 * (word >> SIGN_BIT)).int()
        self.code = word & (size - 1)

    def products(self, residual: Tensor) -> Tensor:
        """⟨z_k, r⟩ for all k, scaled and rounded to integers: K int32."""
        residual = torch.nan_to_num(residual.flatten().double())
        total = float(residual.abs().sum())
        whole = (residual * (PRECISION / total if total > 0 else 0.0)).round().int()
        folded = torch.zeros(self.size, dtype=torch.int32, device=residual.device)
        return hadamard(folded.index_add_(0, self.code, self.sign * whole))

    def select(self, residual: Tensor, count: int) -> Choice:
        """Choose the `count` atoms that match a residual best."""
        return strongest(self.products(residual), count)

    def assemble(self, choice: Choice) -> Tensor:
        """The signed sum of chosen atoms at unit variance: D, float32."""
        half = self.size.bit_length() // 2  # of a code's bits: its upper and lower half have a factor each
        numbers, signs = torch.tensor(choice, dtype=torch.int32, device=self.code.device)
        places = torch.arange(1 << half, dtype=torch.int32, device=self.code.device)
        upper = _characters(numbers >> half, places[: self.size >> half]).float()
        lower = _characters(numbers & ((1 << half) - 1), places).float()
        sums = upper.T @ (signs.float()[:, None] * lower)  # of ±1, up to M: exact in any precision
        summed = sums.flatten()[self.code].int() * self.sign
        power = int(summed.long().square().sum())
        return summed.float() / math.sqrt(power / self.places) if power else summed.float()


def check_size(size: int) -> None:
    if not 1 <= size <= MAX_SIZE or size & (size - 1):
        raise ValueError(f"a codebook holds a power of two of atoms up to {MAX_SIZE}, not {size}")


def strongest(products: Tensor, count: int) -> Choice:
    """The atoms with the largest magnitudes of products; of equal ones the first. The sign of a product of 0 is +1."""
    best = torch.sort(products.abs(), descending=True, stable=True).indices[:count]
    atoms = best.sort().values
    signs = torch.where(products[atoms] < 0, -1, 1)
    return Choice(tuple(atoms.tolist()), tuple(signs.tolist()))


def hadamard(x: Tensor) -> Tensor:
    """The Walsh-Hadamard transform of K = 2^n numbers, in natural order: y_k = Σ_c (−1)^⟨k, c⟩ x_c."""
    half = 1
    while half < len(x):
        pairs = x.view(-1, 2, half)
        x = torch.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], dim=1).flatten()
        half *= 2
    return x


def _characters(numbers: Tensor, codes: Tensor) -> Tensor:
    """(−1)^⟨number, code⟩ for each pair of a number and a code, both of at most 16 bits."""
    common = numbers[:, None] & codes
    for shift in (8, 4, 2, 1):
        common = common ^ (common >> shift)
    return 1 - 2 * (common & 1)
