"""A run's lines as curves, and a picture of them."""

import json
from pathlib import Path

import pytest

from gnvc_vd.conventions import GnvcError
from gnvc_vd.video.pictures import read_picture
from lab.plot_run import plot_runs, training_curves
from tests.conftest import names_beside

LINES = [
    {"step": 1, "loss": 2.0, "rate": 1.0, "gradient_norm": 9.0, "learning_rate": 1e-4, "seconds": 3.0},
    {"step": 10, "loss": 1.0, "rate": 0.5, "gradient_norm": 9.0, "learning_rate": 1e-4, "clips_per_second": 3.0},
    {"step": 10, "validation_bpp_63": 0.2, "validation_psnr_63": 30.0, "validation_bpp_0": 0.1,
     "validation_psnr_0": 25.0},
]  # fmt: skip


def written(folder: Path, lines: list[dict[str, float]]) -> Path:
    folder.mkdir()
    (folder / "figures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 11, "lo')
    return folder


def test_lines_become_curves_of_losses_and_rate_distortion_points(tmp_path: Path) -> None:
    curves = training_curves(written(tmp_path / "codec", LINES))
    assert curves.losses == {"loss": [(1, 2.0), (10, 1.0)], "rate": [(1, 1.0), (10, 0.5)]}
    assert curves.points == {10: [(0.1, 25.0), (0.2, 30.0)]} and curves.judged == {}
    vae = training_curves(written(tmp_path / "vae", [{"step": 5, "loss": 1.0}, {"step": 5, "validation_psnr": 20.0}]))
    assert vae.judged == {"psnr": [(5, 20.0)]} and vae.points == {}


def test_runs_are_drawn_below_one_another(tmp_path: Path) -> None:
    runs = [written(tmp_path / name, LINES) for name in ("one", "two", "three")]
    plot_runs(runs[:1], tmp_path / "one.png")
    plot_runs(runs, tmp_path / "three.png")
    small, large = read_picture(tmp_path / "one.png"), read_picture(tmp_path / "three.png")
    assert large.shape == (3 * small.shape[0], small.shape[1], 3)
    assert len({tuple(colour) for colour in small.reshape(-1, 3).tolist()}) > 20
    assert names_beside(tmp_path) == ["one", "one.png", "three", "three.png", "two"]


def test_a_folder_without_figures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GnvcError, match="no figures there"):
        plot_runs([tmp_path], tmp_path / "out.png")
    assert names_beside(tmp_path) == []
