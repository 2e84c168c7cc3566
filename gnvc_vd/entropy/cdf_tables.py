"""The frozen tables that symbols are coded with: cumulative frequencies in 16 bits, integers from the export on.

Table i is a zero-mean normal distribution of scale SMALLEST · exp(STEP · i), cut into unit steps. Its
symbols run from −reach to +reach; the bins beyond each end say "further out", and the coder spells the rest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Integers = NDArray[np.int64]

PRECISION = 16
TOTAL = 1 << PRECISION
LEVELS = 64
SMALLEST, LARGEST = 0.11, 64.0
STEP = math.log(LARGEST / SMALLEST) / (LEVELS - 1)  # one index, as a logarithm of the scale
DEVIATIONS = 4.5  # how many of them a table reaches


@dataclass(frozen=True)
class Tables:
    """Cumulative frequencies in the form the coder takes, with what guards need beside them."""

    frequencies: Sequence[Integers]
    cumulative: list[list[int]] = field(init=False)
    sizes: list[int] = field(init=False)
    offsets: list[int] = field(init=False)
    reach: Integers = field(init=False)
    first: Integers = field(init=False)  # where a table begins in `bits`
    bits: NDArray[np.float64] = field(init=False)  # what each symbol of each table costs

    def __post_init__(self) -> None:
        for frequencies in self.frequencies:
            if frequencies.min() < 1 or frequencies.sum() != TOTAL:
                raise ValueError(f"frequencies must be positive and sum to {TOTAL}")
        # The coder's own escape is the last bin: of no width, so it is never reached.
        cumulative = [[0, *np.cumsum(frequencies).tolist(), TOTAL] for frequencies in self.frequencies]
        counts = np.array([len(frequencies) for frequencies in self.frequencies])
        own = {
            "cumulative": cumulative,
            "sizes": [len(one) for one in cumulative],
            "offsets": [0] * len(cumulative),
            "reach": (counts - 3) // 2,
            "first": np.cumsum(counts) - counts,
            "bits": PRECISION - np.log2(np.concatenate(list(self.frequencies))),
        }
        for name, value in own.items():
            object.__setattr__(self, name, value)


def normal_tables() -> Tensor:
    """All levels as one integer tensor, LEVELS × bins, zeros beyond each table's end. Made once, at the export."""
    tables = [_normal(SMALLEST * math.exp(STEP * level)) for level in range(LEVELS)]
    out = torch.zeros(LEVELS, max(map(len, tables)), dtype=torch.int32)
    for row, frequencies in zip(out, tables, strict=True):
        row[: len(frequencies)] = torch.from_numpy(frequencies)
    return out


def tables_of(stored: Tensor) -> Tables:
    """The tables of a checkpoint."""
    rows = stored.cpu().numpy().astype(np.int64)
    return Tables([row[: np.flatnonzero(row)[-1] + 1] for row in rows])


def _normal(scale: float) -> Integers:
    reach = math.ceil(DEVIATIONS * scale) + 1
    edges = [*(symbol + 0.5 for symbol in range(reach + 1)), math.inf]
    beyond = np.array([0.5 * math.erfc(edge / (scale * math.sqrt(2))) for edge in edges])
    right = beyond[:-1] - beyond[1:]  # 1 … reach, then further out
    return quantised(np.concatenate([right[::-1], [1 - 2 * beyond[0]], right]))


def quantised(probabilities: NDArray[np.float64]) -> Integers:
    """Integer frequencies, none of them zero, that sum to TOTAL; the middle symbol takes what rounding leaves."""
    room = TOTAL - len(probabilities)
    frequencies: Integers = 1 + np.floor(probabilities / probabilities.sum() * room).astype(np.int64)
    frequencies[len(frequencies) // 2] += TOTAL - frequencies.sum()
    return frequencies
