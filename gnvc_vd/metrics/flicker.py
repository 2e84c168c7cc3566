"""Flicker by temporal frequency: changes between a test's frames that neither motion nor the original explains.

    originals ──flow both ways──▶ Step ──▶ FlickerSpectrum     energy per temporal frequency, 8-bit levels squared

Notation is that of temporal.py.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.optical_flow import FlowEstimator, dis, warp
from gnvc_vd.metrics.pairs import LUMA, Pair
from gnvc_vd.metrics.temporal import Step, Steps


def unexplained(step: Step) -> NDArray[np.float32]:
    """e = M · [(W(y_t+1) − y_t) − (W(x_t+1) − x_t)] of luma, H W, in 8-bit levels.

    Errors of the flow and real changes are in both brackets and cancel: an exact copy gives 0 everywhere.
    """
    both = zip(step.reference, step.test, strict=True)
    error = [torch.from_numpy((y.astype(np.float64) - x) @ LUMA)[None, None] for x, y in both]
    residual = (warp(error[1], step.flow) - error[0])[0, 0].numpy()
    return (residual * step.visible).astype(np.float32)


class FlickerSpectrum:
    """The spectrum of e over blocks of `window` steps, which follow one another without overlap.

    S_k = c_k Σ_p |Σ_t e_t(p) exp(−2πi k t / N)|² / (N² V), averaged over blocks. N is `window`, p a pixel, and V the
    mean number of visible pixels per step; c is 1 at k = 0 and k = N / 2, and 2 between. Steps after the last whole
    block are left out. Σ_k S_k is the mean of e² over visible pixels (Parseval).
    """

    def __init__(self, window: int = 16, estimate: FlowEstimator = dis) -> None:
        if window < 2 or window % 2:
            raise ValueError(f"a window is an even number of steps, not {window}")
        self.window = window
        self._steps = Steps(estimate)
        self._block: list[NDArray[np.float32]] = []
        self._visible_pixels = 0
        self._spectra: list[NDArray[np.float64]] = []

    def add(self, pair: Pair) -> None:
        step = self._steps.push(pair.reference, pair.test)
        if step is None:
            return
        self._block.append(unexplained(step))
        self._visible_pixels += int(step.visible.sum())
        if len(self._block) == self.window:
            self._close_block()

    def value(self) -> float:
        """The energy of all bands except drift (k = 0)."""
        return sum(self.spectrum()[1:])

    def spectrum(self) -> tuple[float, ...]:
        """Energy of each band k / N, in cycles a frame from 0 (drift) to 0.5; together, the whole energy."""
        if not self._spectra:
            raise UnavailableError(f"needs {self.window + 1} frames in which part of the picture stays visible")
        return tuple(map(float, np.mean(self._spectra, axis=0)))

    def _close_block(self) -> None:
        weights = np.full(self.window // 2 + 1, 2.0)
        weights[0] = weights[-1] = 1.0
        energy = np.zeros(len(weights))
        for rows in np.array_split(np.arange(self._block[0].shape[0]), max(1, self._block[0].shape[0] // 64)):
            block = np.stack([residual[rows] for residual in self._block])  # a few rows at a time: transforms are large
            energy += np.square(np.abs(np.fft.rfft(block, axis=0))).sum((1, 2))
        if self._visible_pixels:
            self._spectra.append(weights * energy / self.window / self._visible_pixels)
        self._block, self._visible_pixels = [], 0
