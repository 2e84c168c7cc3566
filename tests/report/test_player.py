"""Which streams a page opens on: at equal rates, told apart by the measure that matters."""

from dataclasses import replace
from pathlib import Path

import pytest

from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.evaluate.evaluation import CodecEntry, OwnCodec, ReportOptions
from gnvc_vd.evaluate.points import Point
from gnvc_vd.report.player import (
    Selection,
    default_pair,
    initial_selection,
    main_metric,
    most_different_pair,
    nearest_point,
    player_levels,
    player_rates,
)
from tests.evaluate.evaluations import evaluation, point

OURS, X264, X265 = (CodecEntry(ours=OwnCodec((0, 1))), *(CodecEntry(hybrid=Hybrid(x, (0,))) for x in ("x264", "x265")))


def points_of(codec: str, sequence: str, *rates_and_figures: tuple[float, float]) -> list[Point]:
    return [point(codec, sequence, n, rate, cvvdp=figure) for n, (rate, figure) in enumerate(rates_and_figures)]


# Rates alike at 0.01 of a, 0.04 of a and 0.01 of b; figures 1, 2.5 and 2 apart.
POINTS = [
    *points_of("ours", "a", (0.01, 5), (0.04, 6)),
    *points_of("x265", "a", (0.0105, 4), (0.0395, 8.5)),
    *points_of("ours", "b", (0.01, 5), (0.04, 6)),
    *points_of("x265", "b", (0.0098, 3), (0.08, 9.9)),
]


def test_the_nearest_rate_is_nearest_in_octaves() -> None:
    own = points_of("x", "a", (0.01, 1), (0.04, 2), (0.16, 3))
    assert [nearest_point(own, rate).level for rate in (0.001, 0.019, 0.021, 0.1, 5)] == [0, 0, 1, 2, 2]


def test_the_measure_is_colorvideovdp_where_it_was_measured_whatever_the_order() -> None:
    every = ("psnr_rgb", "vmaf", "cvvdp")
    both = [point("x", "a", 0, 1.0, cvvdp=5.0, vmaf=50.0, psnr_rgb=30.0)]
    assert main_metric(every, both) == "cvvdp"
    assert main_metric(every, [point("x", "a", 0, 1.0, cvvdp=None, vmaf=50.0, psnr_rgb=30.0)]) == "vmaf"
    assert main_metric(("psnr_rgb", "vmaf"), both) == "vmaf"
    assert main_metric(("psnr_rgb",), both) == "psnr_rgb"


def test_ours_is_set_beside_x265_else_the_anchor_else_the_next_else_the_source(tmp_path: Path) -> None:
    codecs = {"fast": X264, "ours": OURS, "ours-2": OURS, "hevc": X265}
    whole = evaluation(tmp_path, codecs=codecs, report=ReportOptions(anchor="fast"))
    assert default_pair(whole, list(codecs)) == ("ours", "hevc")  # whatever it is called
    assert default_pair(whole, ["fast", "ours", "ours-2"]) == ("ours", "fast")
    assert default_pair(replace(whole, report=ReportOptions()), ["ours-2", "ours"]) == ("ours-2", "ours")
    assert default_pair(whole, ["ours"]) == ("ours", "source")
    assert default_pair(whole, ["fast"]) == ("fast", "source")


def test_the_player_opens_on_the_two_at_equal_rates_that_differ_most_whoever_is_better() -> None:
    levels = player_levels(POINTS, (0.01, 0.04))
    assert initial_selection(POINTS, levels, ("ours", "x265"), "cvvdp") == Selection(
        "a", 1, "ours", "x265"
    )  # x265 is ahead
    assert initial_selection(POINTS, {"b": levels["b"]}, ("ours", "x265"), "cvvdp") == Selection("b", 0, "ours", "x265")
    # At 0.04 of b the two are 3.9 apart, and an octave in rate.
    assert initial_selection(POINTS, levels, ("ours", "source"), "cvvdp") == Selection("a", 0, "ours", "source")


def test_where_no_rates_are_alike_it_opens_on_the_nearest() -> None:
    pairs = [(POINTS[1], POINTS[7]), (POINTS[0], POINTS[3]), (POINTS[5], POINTS[7])]
    assert most_different_pair(pairs, "cvvdp") == 0  # the first of two that are an octave apart
    assert most_different_pair([pairs[1], pairs[0]], "cvvdp") == 1


def test_where_nobody_names_rates_it_is_the_one_of_that_pair() -> None:
    (rate,) = player_rates(POINTS, ("ours", "x265"), "cvvdp")
    assert rate == pytest.approx(0.0397)  # of 0.04 and 0.0395
    levels = player_levels(POINTS, (rate,))
    assert initial_selection(POINTS, levels, ("ours", "x265"), "cvvdp") == Selection("a", 0, "ours", "x265")
    assert levels["a"] == {"ours": {"0": 1}, "x265": {"0": 1}}
    assert player_rates(POINTS, ("ours", "source"), "cvvdp") == (0.0395,)  # the middle of all
