"""Bjøntegaard deltas: the mean difference of two rate–quality curves, on the bjontegaard package.

Curves are given with their metric as it is; one that is better when lower is negated on the way in, because the
package wants quality to rise with rate. Interpolation is PCHIP over log₁₀ of the rate, as in the JVET common test
conditions. A result needs overlap: curves that share too little of their range are refused, not extrapolated, and so
are those of which one has fewer than two points in what they share: there it would be the other's interpolation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError

Method = Literal["pchip", "akima", "cubic"]
Points = tuple[NDArray[np.float64], NDArray[np.float64]]
SMALLEST_OVERLAP = 0.5  # of the range that either curve covers
FEWEST_SHARED = 2  # points of each curve in the range that both cover, or
BESIDE = 0.1  # of its length away from it: curves of one codec's variants end nearly alike, and not quite
FEWEST = {"pchip": 2, "akima": 2, "cubic": 4}  # points that each interpolation needs


class CurveError(GnvcError):
    """Two curves cannot be compared."""


@dataclass(frozen=True)
class Curve:
    """Rates (any unit, the same for both curves) and a metric at each; in any order."""

    rates: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Delta:
    """`value` in percent of rate (BD-rate) or units of the metric (BD-metric), and how much the curves overlap."""

    value: float
    overlap: float  # shared range over the range that either covers, 0 … 1


def bd_rate(
    anchor: Curve,
    test: Curve,
    lower_is_better: bool = False,
    method: Method = "pchip",
    smallest_overlap: float = SMALLEST_OVERLAP,
) -> Delta:
    """How much more rate the test takes for the same quality, in percent: negative is better.

    The overlap is of the two ranges of the metric.
    """
    from bjontegaard import bd_linear

    rate_a, value_a = _points("the anchor", anchor, lower_is_better, method)
    rate_t, value_t = _points("the test", test, lower_is_better, method)
    overlap = _overlap(value_a, value_t, "the metric", smallest_overlap)
    exponent = bd_linear(value_a, rate_a, value_t, rate_t, method, require_matching_points=False, min_overlap=0)
    return Delta(100 * (10 ** float(exponent) - 1), overlap)


def bd_metric(
    anchor: Curve,
    test: Curve,
    lower_is_better: bool = False,
    method: Method = "pchip",
    smallest_overlap: float = SMALLEST_OVERLAP,
) -> Delta:
    """How far the test's metric lies above the anchor's at the same rate, in the metric's own units and direction.

    For a metric that is better when lower, negative is better. The overlap is of the two ranges of log rate. The metric
    may go either way with rate, since it is read off at a rate.
    """
    from bjontegaard import bd_linear

    rate_a, value_a = _points("the anchor", anchor, lower_is_better, method, monotone=False)
    rate_t, value_t = _points("the test", test, lower_is_better, method, monotone=False)
    overlap = _overlap(rate_a, rate_t, "the rate", smallest_overlap)
    delta = float(bd_linear(rate_a, value_a, rate_t, value_t, method, require_matching_points=False, min_overlap=0))
    return Delta(-delta if lower_is_better else delta, overlap)


def _points(owner: str, curve: Curve, lower_is_better: bool, method: Method, monotone: bool = True) -> Points:
    """log₁₀ of the rates and quality, in the order of rate; refused where rates, or both as asked, do not rise."""
    rates, values = np.asarray(curve.rates, np.float64), np.asarray(curve.values, np.float64)
    require(method in FEWEST, f"a method is one of {', '.join(FEWEST)}, not {method!r}", ValueError)
    if rates.ndim != 1 or rates.shape != values.shape:
        raise CurveError(f"{owner}: a curve has one value for each rate, not {values.size} for {rates.size}")
    if len(rates) < FEWEST[method]:
        raise CurveError(f"{owner}: {method} needs at least {FEWEST[method]} points, not {len(rates)}")
    if not (np.isfinite(rates).all() and np.isfinite(values).all() and (rates > 0).all()):
        raise CurveError(f"{owner}: a curve's rates are positive and all its numbers finite")
    order = np.argsort(rates, kind="stable")
    rates, values = np.log10(rates[order]), values[order] * (-1 if lower_is_better else 1)
    require((np.diff(rates) > 0).all(), f"{owner}: two points of a curve have the same rate", CurveError)
    if monotone and not (np.diff(values) > 0).all():
        direction = "fall" if lower_is_better else "rise"
        raise CurveError(f"{owner}: the metric must {direction} with every step in rate, and here it does not")
    return rates, values


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64], what: str, smallest: float) -> float:
    low, high = max(a[0], b[0]), min(a[-1], b[-1])
    overlap = float(max(0.0, high - low) / (max(a[-1], b[-1]) - min(a[0], b[0])))
    if overlap == 0 or overlap < smallest:
        detail = f"{100 * overlap:.0f} %, and a delta needs {100 * smallest:.0f} %"
        raise CurveError(f"the curves overlap in too little of {what}'s range ({detail})")
    margin = BESIDE * (high - low)
    for owner, curve in (("the anchor", a), ("the test", b)):
        if np.count_nonzero((low - margin <= curve) & (curve <= high + margin)) < FEWEST_SHARED:
            raise CurveError(
                f"{owner} has fewer than {FEWEST_SHARED} points in the part of {what}'s range that both have"
            )
    return overlap
