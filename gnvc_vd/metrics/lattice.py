"""Fixed patterns that repeat with a codec's strides, such as checkerboard artefacts: here called the lattice.

    luma of test − reference ──mean over frames──▶ H W ──mean over blocks──▶ s × s phases ──root mean square──▶ levels

Perceptual distances hardly mind such patterns, since the networks behind them stride through the picture, too. In
moving pictures other errors average out over frames, so that what stays is the pattern; the chance level is
measured at strides that no codec here has, and subtracted: a codec without a pattern scores near 0.

A latent codec's blocks of 2×2 latents have a stride of 16 pixels, and move with the scene where a codec compensates a
pan. Their pattern is looked for in every frame apart, in whatever place it is, and energies are what is averaged.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gnvc_vd.conventions import Frame
from gnvc_vd.metrics import UnavailableError, check_sides
from gnvc_vd.metrics.pairs import LUMA, Pair

STRIDES = (2, 4, 8)
CONTROL_STRIDES = (3, 5, 7)
BLOCK_STRIDE = 16
BLOCK_CONTROL_STRIDES = (13, 14, 15, 17, 18, 19)  # on both sides, since chance grows with the square of the stride
SMALLEST = 32  # pixels: four blocks of the largest stride


def lattice(error: NDArray[np.float64], stride: int) -> float:
    """Of an error H W, the mean of a clip's frames, in 8-bit levels."""
    return phase_deviation(error, stride) - float(np.mean([phase_deviation(error, other) for other in CONTROL_STRIDES]))


def phase_deviation(error: NDArray[np.float64], stride: int) -> float:
    """The root mean square over phases (y mod s, x mod s) of the error's means there, less the mean of all."""
    rows, columns = (side // stride for side in error.shape)
    blocks = error[: rows * stride, : columns * stride].reshape(rows, stride, columns, stride)
    return float(blocks.mean((0, 2)).std())


def block_energy(error: NDArray[np.float64]) -> float:
    """What repeats with the stride of blocks in one frame's error H W, in squared levels, less chance."""
    found = [phase_deviation(error, stride) ** 2 for stride in (BLOCK_STRIDE, *BLOCK_CONTROL_STRIDES)]
    return found[0] - float(np.mean(found[1:]))


def lattices(reference: Frame, test: Frame) -> dict[str, float]:
    """Of two clips T H W 3, by the names that they have in `gnvc-vd compare`."""
    error = np.mean(test, 0, np.float64) - np.mean(reference, 0, np.float64)
    return {f"lattice_{stride}": lattice(error @ LUMA, stride) for stride in STRIDES}


class Lattice:
    """The lattice of a video at one stride; it holds one picture, the sum of errors."""

    def __init__(self, stride: int) -> None:
        self._stride, self._count = stride, 0
        self._sum: NDArray[np.int32] | None = None

    def add(self, pair: Pair) -> None:
        error = pair.test.astype(np.int32) - pair.reference
        self._sum = error if self._sum is None else self._sum + error
        self._count += 1

    def value(self) -> float:
        if self._sum is None:
            raise UnavailableError("needs at least one frame")
        check_sides(SMALLEST, self._sum.shape[1], self._sum.shape[0])
        return lattice(self._sum @ LUMA / self._count, self._stride)


class BlockLattice:
    """The lattice of a codec's blocks: the root of its mean energy over frames, 0 if chance leaves more."""

    def __init__(self) -> None:
        self._energies = list[float]()

    def add(self, pair: Pair) -> None:
        error = pair.test.astype(np.float64) - pair.reference
        check_sides(2 * SMALLEST, error.shape[1], error.shape[0])
        self._energies.append(block_energy(error @ LUMA))

    def value(self) -> float:
        if not self._energies:
            raise UnavailableError("needs at least one frame")
        return math.sqrt(max(0.0, float(np.mean(self._energies))))
