"""Flicker: what changes from frame to frame though the original's motion does not explain it.

    originals ──flow both ways──▶ Step (neighbouring frames, flow, what stays visible) ──▶ E_warp, levels squared

x is the original and y the test; flow F_t leads from frame t to t + 1 and is computed on the originals alone; W_t
warps along it; M_t is 1 where a pixel of frame t is visible in frame t + 1 (optical_flow.py).
"""

from dataclasses import dataclass

import numpy as np
import torch

from gnvc_vd.conventions import Frame
from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.optical_flow import FlowEstimator, FlowField, Mask, dis, visible, warp
from gnvc_vd.metrics.pairs import Pair


@dataclass(frozen=True)
class Step:
    """Two neighbouring frames of both videos, and the original's motion between them."""

    reference: tuple[Frame, Frame]
    test: tuple[Frame, Frame]
    flow: FlowField
    visible: Mask


class Steps:
    """Turns frames as they come into steps; holds the frame before."""

    def __init__(self, estimate: FlowEstimator = dis) -> None:
        self._estimate = estimate
        self._before: tuple[Frame, Frame] | None = None

    def push(self, reference: Frame, test: Frame) -> Step | None:
        """The step that ends here; None at the first frame."""
        before, self._before = self._before, (reference, test)
        if before is None:
            return None
        forward, backward = self._estimate(before[0], reference), self._estimate(reference, before[0])
        return Step((before[0], reference), (before[1], test), forward, visible(forward, backward))


def warping_error(step: Step) -> float | None:
    """Σ_p M(p) |y_t(p) − W(y_t+1)(p)|² / (3 Σ_p M(p)) in 8-bit levels squared; None where nothing stays visible."""
    if not step.visible.any():
        return None
    first, second = (torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].double() for frame in step.test)
    difference = (first - warp(second, step.flow))[0].square().mean(0)  # H W
    return float(difference[torch.from_numpy(step.visible)].mean())


class WarpingError:
    """E_warp of a video: the mean of its steps' warping errors (Lai et al., ECCV 2018, in levels instead of [0, 1])."""

    def __init__(self, estimate: FlowEstimator = dis) -> None:
        self._steps, self._errors = Steps(estimate), list[float]()

    def add(self, pair: Pair) -> None:
        step = self._steps.push(pair.reference, pair.test)
        error = None if step is None else warping_error(step)
        if error is not None:
            self._errors.append(error)

    def value(self) -> float:
        if not self._errors:
            raise UnavailableError("needs two frames in which part of the picture stays visible")
        return float(np.mean(self._errors))
