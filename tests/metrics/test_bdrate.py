"""BD-rate against a published example, constructed curves and an integration of its own."""

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.interpolate import PchipInterpolator

from gnvc_vd.metrics.bdrate import Curve, CurveError, bd_metric, bd_rate

# the worked example that has gone round with BD-rate scripts since VCEG-M33: 31.40 % with the cubic, −1.18 dB
ANCHOR = Curve((686.76, 309.58, 157.11, 85.95), (40.28, 37.18, 34.24, 31.42))
TEST = Curve((893.34, 407.8, 204.93, 112.75), (40.39, 37.21, 34.17, 31.24))

RATES = np.array([0.004, 0.008, 0.016, 0.03])
RISING = np.array([26.0, 28.5, 30.5, 32.0])  # dB
FALLING = np.array([0.31, 0.22, 0.16, 0.13])  # LPIPS


def test_the_published_example() -> None:
    assert bd_rate(ANCHOR, TEST, method="cubic").value == pytest.approx(31.40, abs=0.005)
    assert bd_metric(ANCHOR, TEST, method="cubic").value == pytest.approx(-1.18, abs=0.01)
    assert bd_rate(ANCHOR, TEST).value == pytest.approx(31.38, abs=0.005)  # PCHIP


@pytest.mark.parametrize(("values", "lower_is_better"), [(RISING, False), (FALLING, True)])
@pytest.mark.parametrize("method", ["pchip", "akima", "cubic"])
def test_four_fifths_of_the_rate_are_minus_twenty_percent(
    values: np.ndarray, lower_is_better: bool, method: str
) -> None:
    anchor, test = Curve(RATES, values), Curve(0.8 * RATES, values)
    found = bd_rate(anchor, test, lower_is_better, method)  # type: ignore[arg-type]
    assert found.value == pytest.approx(-20, abs=1e-9) and found.overlap == 1
    assert bd_rate(test, anchor, lower_is_better).value == pytest.approx(25, abs=1e-9)


def test_order_and_number_of_points_do_not_matter() -> None:
    whole = PchipInterpolator(np.log10(RATES), FALLING)  # in between, the curve that PCHIP itself sees is near this one
    dense = np.geomspace(RATES[0], RATES[-1], 9)
    shuffled = np.random.default_rng(0).permutation(9)
    test = Curve(0.8 * dense[shuffled], whole(np.log10(dense))[shuffled])
    assert bd_rate(Curve(RATES, FALLING), test, lower_is_better=True).value == pytest.approx(-20, abs=0.5)
    backwards = Curve(RATES[::-1], FALLING[::-1])
    assert bd_rate(backwards, Curve(0.8 * RATES, FALLING), lower_is_better=True).value == pytest.approx(-20, abs=1e-9)


def by_hand(anchor: Curve, test: Curve, sign: int) -> float:
    """Both log rates as PCHIP of quality, integrated by a fine trapezoid over the shared qualities."""
    curves = []
    for curve in (anchor, test):
        quality, rate = np.array(curve.values) * sign, np.log10(curve.rates)
        order = np.argsort(quality)
        curves.append((quality[order], PchipInterpolator(quality[order], rate[order])))
    low, high = max(q[0] for q, _ in curves), min(q[-1] for q, _ in curves)
    grid = np.linspace(low, high, 200_001)
    mean = trapezoid(curves[1][1](grid) - curves[0][1](grid), grid) / (high - low)
    return float(100 * (10**mean - 1))


def test_both_directions_agree_with_an_integration_by_hand() -> None:
    test = Curve(RATES * np.array([0.7, 0.8, 0.9, 1.0]), FALLING + 0.01)
    found = bd_rate(Curve(RATES, FALLING), test, lower_is_better=True)
    assert found.value == pytest.approx(by_hand(Curve(RATES, FALLING), test, -1), abs=1e-3)
    assert found.overlap == pytest.approx((0.31 - 0.14) / (0.32 - 0.13))
    assert bd_rate(ANCHOR, TEST).value == pytest.approx(by_hand(ANCHOR, TEST, 1), abs=1e-3)


def test_bd_metric_keeps_the_metrics_own_direction() -> None:
    better = bd_metric(Curve(RATES, RISING), Curve(RATES, RISING + 0.7))
    assert better.value == pytest.approx(0.7) and better.overlap == 1
    lower = bd_metric(Curve(RATES, FALLING), Curve(RATES, FALLING - 0.02), lower_is_better=True)
    assert lower.value == pytest.approx(-0.02)


def test_a_metric_that_turns_back_has_no_rate_and_is_still_read_off_at_a_rate() -> None:
    turning = Curve(RATES, (26, 28, 27.9, 30))
    with pytest.raises(CurveError, match="must rise"):
        bd_rate(turning, turning)
    assert bd_metric(turning, Curve(RATES, (27, 29, 28.9, 31))).value == pytest.approx(1)


def test_curves_that_hardly_overlap_are_refused_with_the_share() -> None:
    anchor, test = Curve(RATES, RISING), Curve(RATES, RISING + 4.5)
    with pytest.raises(CurveError, match=r"too little of the metric's range \(14 %, and a delta needs 50 %"):
        bd_rate(anchor, test)
    test = Curve(RATES, (30.5, 31.8, 34, 36.5))
    assert bd_rate(anchor, test, smallest_overlap=0.1).overlap == pytest.approx(1.5 / 10.5)
    for smallest in (0.5, 0.0):  # nothing shared is never enough
        with pytest.raises(CurveError, match=r"metric's range \(0 %"):
            bd_rate(anchor, Curve(RATES, RISING + 7), smallest_overlap=smallest)
        with pytest.raises(CurveError, match=r"rate's range \(0 %"):
            bd_metric(anchor, Curve(10 * RATES, RISING), smallest_overlap=smallest)


def test_a_delta_needs_two_points_of_each_curve_where_both_are() -> None:
    """Both cover 28.5 … 32, more than half of what either covers; one curve alone has two points there."""
    few, many = Curve(RATES[:2], (25.0, 32.0)), Curve(RATES, (28.5, 30, 31, 33))
    for pair, whose in (((few, many), "anchor"), ((many, few), "test")):
        with pytest.raises(CurveError, match=f"^the {whose} has fewer than 2 points in the part of the metric's range"):
            bd_rate(*pair, smallest_overlap=0.4)
    steps = Curve(RATES[:3], (25.0, 29.0, 32.0))
    assert bd_rate(steps, many, smallest_overlap=0.4).overlap == pytest.approx(3.5 / 8)
    nearly = Curve((1.02 * RATES[0], RATES[1], 0.98 * RATES[-1]), (RISING[0] + 0.1, RISING[1], RISING[-1] - 0.1))
    ends = Curve((RATES[0], RATES[2], RATES[-1]), (RISING[0], RISING[2], RISING[-1]))
    assert bd_rate(ends, nearly).overlap > 0.9  # one point of `ends` lies inside, the others just beside
    inside = Curve((0.001, 0.02), (26.0, 30.0))  # of its rates, 0.02 alone is one that RATES cover
    with pytest.raises(CurveError, match=r"^the test has fewer than 2 points in the part of the rate's range"):
        bd_metric(Curve(RATES, RISING), inside, smallest_overlap=0.1)


@pytest.mark.parametrize(
    ("curve", "lower_is_better", "sentence"),
    [
        (Curve(RATES, FALLING), False, "must rise"),
        (Curve(RATES, RISING), True, "must fall"),
        (Curve(RATES, (26, 28, 27.9, 30)), False, "must rise"),
        (Curve((1, 1, 2, 3), RISING), False, "the same rate"),
        (Curve(RATES, RISING[:3]), False, "3 for 4"),
        (Curve(RATES[:3], RISING[:3]), False, "at least 4 points, not 3"),
        (Curve((0, 1, 2, 3), RISING), False, "positive"),
        (Curve(RATES, (26, 28, float("nan"), 30)), False, "finite"),
    ],
)
def test_what_is_no_curve_is_refused(curve: Curve, lower_is_better: bool, sentence: str) -> None:
    good = Curve(RATES, FALLING if lower_is_better else RISING)
    for whose, pair in (("anchor", (curve, curve)), ("anchor", (curve, good)), ("test", (good, curve))):
        with pytest.raises(CurveError, match=f"^the {whose}: .*{sentence}"):
            bd_rate(*pair, lower_is_better, "cubic")
