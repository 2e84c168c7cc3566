"""The re-fit of qualities after training: where each of the 64 lies on the trained scale.

    rate of the trained scale, measured ─▶ last place of each rate ─▶ 64 places whose log rate rises evenly

λ was log-spaced over the scale, and nothing made the rate so: it may rise in jumps, or fall for a while. So that the
lowest quality is the lowest rate and each step costs the same factor, the qualities are moved. Where a rate is reached
more than once the last place is taken, the one of the largest λ; the places before it, which cost more and were trained
to care less, no quality uses.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.conventions import QUALITIES, GnvcError
from gnvc_vd.learned.bottleneck.base import Bottleneck
from gnvc_vd.train.losses import bits_per_pixel

LEVELS = tuple(range(0, QUALITIES, 3))  # places at which the rate is measured: both ends and twenty between


class Refit(NamedTuple):
    """Where qualities lie on the trained scale."""

    places: list[float]  # of each quality
    expected: list[float]  # bits per pixel of each quality


def rates_of(bottleneck: Bottleneck, latents: Tensor, levels: Sequence[float]) -> list[float]:
    """Bits per pixel by the frozen model's tables at 64 places of the trained scale or fewer.

    The model given stays as it is. Latents are of clips, B 16 T h w.
    """
    model = copy.deepcopy(bottleneck).eval().requires_grad_(False)
    model.freeze(torch.tensor([*levels, *[levels[-1]] * (QUALITIES - len(levels))], dtype=torch.float32))
    rates = []
    for quality in range(len(levels)):
        payloads, _ = model.compress(latents, [quality] * latents.shape[2])
        bits = torch.tensor([[payload.estimated_bits] for payload in payloads])
        rates.append(float(bits_per_pixel(bits, latents).mean()))
    return rates


def place_evenly(levels: Sequence[float], rates: Sequence[float], count: int = QUALITIES) -> Refit:
    """Places on the scale for so many qualities, and the rate that the curve has there.

    The curve is linear in log rate between the places measured. Log rates rise evenly from the lowest rate to that of
    the last place.
    """
    scale, logarithm = np.asarray(levels, float), np.log(np.maximum(rates, 1e-9))
    low, high = float(logarithm.min()), float(logarithm[-1])
    if not high > low:
        raise GnvcError("the rate does not rise with the quality: there is nothing to place qualities by")
    targets = np.linspace(low, high, count)
    places = []
    for target in targets:
        last = int(np.flatnonzero(logarithm <= target + 1e-12)[-1])  # at which the curve is no higher than the target
        places.append(float(np.interp(target, logarithm[last : last + 2], scale[last : last + 2])))
    return Refit(places, np.exp(targets).tolist())
