"""The frequency tables of the entropy coder: 16-bit integers, fixed at export.

Table i is a zero-mean normal distribution of scale SMALLEST · exp(STEP · i) with unit bins. Its symbols are −reach to
+reach, and an escape at each end, after which the coder writes the value.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Integers = NDArray[np.int64]

PRECISION = 16
TOTAL = 1 << PRECISION
LEVELS = 64
SMALLEST, LARGEST = 0.11, 64.0
STEP = math.log(LARGEST / SMALLEST) / (LEVELS - 1)  # difference in ln(scale) between neighbouring tables
DEVIATIONS = 4.5  # standard deviations up to which a table has symbols


class Tables:
    """Cumulative frequencies in the coder's format, with the bits and ranges of symbols."""

    def __init__(self, frequencies: Sequence[Integers]) -> None:
        for one in frequencies:
            if one.min() < 1 or one.sum() != TOTAL:
                raise ValueError(f"frequencies must be positive and sum to {TOTAL}")
        counts = np.array([len(one) for one in frequencies])
        self.frequencies = frequencies
        self.reach: Integers = (counts - 3) // 2
        self.edge = (self.reach + 1).astype(np.int32)  # magnitude from which on values are escapes
        self.first: Integers = np.cumsum(counts) - counts  # index of a table's first symbol in `bits`
        self.bits = PRECISION - np.log2(np.concatenate(list(frequencies)))  # bits of each symbol of each table
        # compressai's own escape is the last bin; it is empty, so it is never used.
        self.cumulative = [[0, *np.cumsum(one).tolist(), TOTAL] for one in frequencies]
        self.sizes = [len(one) for one in self.cumulative]
        self.offsets = [0] * len(frequencies)

    def up_to(self, index: int) -> tuple[list[list[int]], list[int], list[int]]:
        """The tables 0 to `index` as compressai takes them: every call converts all that it is given."""
        return self.cumulative[: index + 1], self.sizes[: index + 1], self.offsets[: index + 1]


def normal_tables() -> Tensor:
    """All tables as one integer tensor, LEVELS × bins, padded with zeros; built once, at export."""
    tables = [torch.from_numpy(_normal(SMALLEST * math.exp(STEP * level))) for level in range(LEVELS)]
    return nn.utils.rnn.pad_sequence(tables, batch_first=True).int()


def tables_of(stored: Tensor) -> Tables:
    """Tables from the tensor in a checkpoint."""
    rows = stored.cpu().numpy().astype(np.int64)
    return Tables([row[: np.flatnonzero(row)[-1] + 1] for row in rows])


def _normal(scale: float) -> Integers:
    reach = math.ceil(DEVIATIONS * scale) + 1
    edges = [*(symbol + 0.5 for symbol in range(reach + 1)), math.inf]
    beyond = np.array([0.5 * math.erfc(edge / (scale * math.sqrt(2))) for edge in edges])
    right = beyond[:-1] - beyond[1:]  # 1 … reach, then the escape
    return quantise_pmf(np.concatenate([right[::-1], [1 - 2 * beyond[0]], right]))


def quantise_pmf(probabilities: NDArray[np.float64]) -> Integers:
    """Quantise probabilities to positive frequencies that sum to TOTAL; the middle symbol gets the remainder."""
    room = TOTAL - len(probabilities)
    frequencies: Integers = 1 + np.floor(probabilities / probabilities.sum() * room).astype(np.int64)
    frequencies[len(frequencies) // 2] += TOTAL - frequencies.sum()
    return frequencies
