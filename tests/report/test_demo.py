"""The demonstration: rivals at the same rates, and all of it from one command."""

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gnvc_vd.baselines.commands import Clip
from gnvc_vd.baselines.hybrid import HIGHEST, Hybrid
from gnvc_vd.conventions import Colour
from gnvc_vd.evaluate.sequences import make_source
from gnvc_vd.report import demo
from gnvc_vd.report.demo import nearest_levels, rate_at
from gnvc_vd.video import create_video
from tests.conftest import smooth_clip

CLIP = Clip(64, 64, 3, Fraction(25), Colour("bt601", "limited"))
X264 = Hybrid("x264", (0,), preset="ultrafast")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    with create_video(folder / "film.mkv", CLIP.width, CLIP.height, CLIP.rate) as out:
        for frame in smooth_clip(CLIP.height, CLIP.width, CLIP.frames):
            out.write(frame)
    make_source(folder / "film.mkv", folder / "source.mkv", CLIP.frames, colour=CLIP.colour)
    return folder / "source.mkv"


def test_the_level_of_a_rate_is_the_one_that_makes_a_file_nearest_to_it(source: Path) -> None:
    rates = {level: rate_at(X264, CLIP, source, level) for level in (19, 20, 21)}
    assert rates[19] > rates[20] > rates[21]
    assert nearest_levels(X264, CLIP, source, [rates[20]]) == (20,)
    near = 0.9 * rates[20] + 0.1 * rates[19], 0.9 * rates[20] + 0.1 * rates[21]
    assert nearest_levels(X264, CLIP, source, near) == (20,)


def test_rates_out_of_reach_get_the_ends_and_levels_come_from_the_lowest_rate_up(source: Path) -> None:
    assert nearest_levels(X264, CLIP, source, [1000.0, 1e-9]) == (HIGHEST["x264"], 0)


@pytest.mark.parametrize("bend", [-0.0008, 0.0, 0.0008])
def test_four_rates_are_matched_in_about_a_dozen_trials(monkeypatch: pytest.MonkeyPatch, bend: float) -> None:
    """By halves it would be 14."""
    rates = [float(np.exp(-0.12 * level - bend * level**2)) for level in range(HIGHEST["x265"] + 1)]
    tried: list[int] = []

    def rate(coder: Hybrid, clip: Clip, source: Path, level: int) -> float:
        tried.append(level)
        return rates[level]

    monkeypatch.setattr(demo, "rate_at", rate)
    wanted = [1.01 * rates[level] for level in (46, 41, 37, 33)]
    assert nearest_levels(Hybrid("x265", (0,)), CLIP, Path(), wanted) == (46, 41, 37, 33)
    assert len(tried) == len(set(tried)) <= 12


@pytest.mark.slow
def test_the_demo_ends_with_every_codec_at_rates_alike_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its parts, on fewer frames, qualities and modes; called again, it makes nothing anew."""
    monkeypatch.setattr(demo, "FRAMES", 9)
    monkeypatch.setattr(demo, "QUALITIES", (48, 63))
    monkeypatch.setattr(demo, "MODES", ("flf2v",))
    monkeypatch.setattr(demo, "METRICS", ("psnr_rgb",))
    table, page = demo.demo(tmp_path / "demo", None, "cpu")
    points = {path: json.loads(path.read_text()) for path in sorted((tmp_path / "demo" / "points").rglob("*.json"))}
    found = Counter(point["codec"] for point in points.values())
    ours = {"gnvc-vd": 2, "gvc-flf2v": 1}  # and none unrefined: tiny refines neither quality
    assert found == ours | {"x265": 2, "vvenc": 2}
    assert all(point["fresh"] and point["frames"] == 9 for point in points.values())
    rates = {
        name: sorted(point["bpp"] for point in points.values() if point["codec"] == name)
        for name in ("gnvc-vd", "x265", "vvenc")
    }
    for name in ("x265", "vvenc"):
        assert rates[name] == pytest.approx(rates["gnvc-vd"], rel=0.25), name
    assert len(table.rows) == len(points) and page.is_file()
    assert page.read_text(encoding="utf-8").count("<video") >= 1
    times = {path: path.stat().st_mtime_ns for path in points}
    demo.demo(tmp_path / "demo", None, "cpu")
    assert {path: path.stat().st_mtime_ns for path in points} == times
