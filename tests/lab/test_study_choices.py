"""The choice of a way for each GOP, and what a whole study prints."""

from pathlib import Path

import pytest

from lab.study_choices import LEVELS, Point, choose, main, percent, slope_between, total


def test_the_best_way_is_on_the_lower_side_of_the_usual_way_s_slope() -> None:
    usual = [Point(100 * 2**level, 64.0 / 2**level) for level in range(len(LEVELS))]
    assert slope_between(usual[0], usual[1]) == 0.32
    better = [*usual[:4], *(Point(one.bits, 0.9 * one.error) for one in usual[4:])]
    dear = [Point(2 * one.bits, 0.99 * one.error) for one in usual]
    assert choose({"usual": usual, "better": better, "dear": dear}, "usual") == ["usual"] * 4 + ["better"] * 4


def test_a_way_of_half_the_bits_takes_half_the_rate_and_gops_add_up() -> None:
    usual = [Point(100 * 2**level, 64.0 / 2**level) for level in range(len(LEVELS))]
    half = [Point(one.bits // 2, one.error) for one in usual]
    assert percent(usual, half) == "-50.0 %"
    assert total([usual, half])[0] == Point(150, 64.0)
    assert percent(usual[:1], half) == "–"


@pytest.mark.slow
def test_a_study_of_both_codecs_prints_a_row_for_each_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.study_choices.LEVELS", (10, 30))
    monkeypatch.setattr("lab.study_choices.SIDE", 64)
    clip = Path("gnvc_vd/assets/clips/bunny.mp4")
    for model in ("tiny", "tiny-contextual"):
        monkeypatch.setattr("sys.argv", ["study_choices", model, str(clip), "--gops", "1"])
        assert main() == 0
    transform, contextual = (one for one in capsys.readouterr().out.splitlines() if one.startswith("| bunny"))
    assert transform.count("|") == 10 and contextual.count("|") == 7 and "%" in transform
