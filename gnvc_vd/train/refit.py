"""The re-fit of qualities after training: where each of the 64 lies on the trained scale.

    rate of the trained scale, measured ─▶ last place of each rate ─▶ 64 places whose log rate rises evenly

λ was log-spaced over the scale, and nothing made the rate so: it may rise in jumps, or fall for a while. So that the
lowest quality is the lowest rate and each step costs the same factor, the qualities are moved. Where a rate is reached
more than once the last place is taken, the one of the largest λ; the places before it, which cost more and were trained
to care less, no quality uses.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnvc_vd.conventions import QUALITIES, GnvcError
from gnvc_vd.learned.bottleneck.contextual import Bottleneck
from gnvc_vd.train.losses import bits_per_pixel

LEVELS = tuple(range(0, QUALITIES, 3))  # places at which the rate is measured: both ends and twenty between


@dataclass(frozen=True)
class Refit:
    """The measured curve, and what became of it."""

    levels: tuple[float, ...]  # places measured
    rates: tuple[float, ...]  # bits per pixel there
    places: tuple[float, ...]  # of each quality
    expected: tuple[float, ...]  # bits per pixel of each quality


def refitted(bottleneck: Bottleneck, latents: Tensor, levels: Sequence[float] = LEVELS) -> Refit:
    """Measure a trained codec on clips' latents, B 16 T h w, and place its qualities."""
    rates = rates_of(bottleneck, latents, levels)
    places, expected = evenly_placed(levels, rates)
    return Refit(tuple(levels), tuple(rates), tuple(places), tuple(expected))


def rates_of(bottleneck: Bottleneck, latents: Tensor, levels: Sequence[float]) -> list[float]:
    """Bits per pixel by the frozen model's tables at places of the trained scale; the model given stays as it is."""
    model = copy.deepcopy(bottleneck).eval().requires_grad_(False)
    rates = []
    for first in range(0, len(levels), QUALITIES):
        group = torch.tensor(levels[first : first + QUALITIES], dtype=torch.float32)
        model.freeze(torch.cat([group, group[-1:].expand(QUALITIES - len(group))]))
        for quality in range(len(group)):
            payloads, _ = model.compress(latents, [quality] * latents.shape[2])
            bits = torch.tensor([[payload.estimated_bits] for payload in payloads])
            rates.append(float(bits_per_pixel(bits, latents).mean()))
    return rates


def evenly_placed(
    levels: Sequence[float], rates: Sequence[float], count: int = QUALITIES
) -> tuple[list[float], list[float]]:
    """Places on the scale for so many qualities, and the rate that the curve has there.

    The curve is linear in log rate between the places measured. Log rates rise evenly from the lowest rate to that of
    the last place.
    """
    scale, logarithm = np.asarray(levels, float), np.log(np.maximum(rates, 1e-9))
    low, high = float(logarithm.min()), float(logarithm[-1])
    if not high > low:
        raise GnvcError("the rate does not rise with the quality: there is nothing to place qualities by")
    targets = np.linspace(low, high, count)
    places = [_last_place(scale, logarithm, target) for target in targets]
    return places, np.exp(targets).tolist()


def _last_place(scale: NDArray[np.float64], logarithm: NDArray[np.float64], target: float) -> float:
    """The last place at which the curve is no higher than the target."""
    last = int(np.flatnonzero(logarithm <= target + 1e-12)[-1])
    if last == len(scale) - 1:
        return float(scale[-1])
    part = (target - logarithm[last]) / (logarithm[last + 1] - logarithm[last])
    return float(scale[last] + max(0.0, part) * (scale[last + 1] - scale[last]))
