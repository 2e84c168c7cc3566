"""A multirun's folders as variants of one codec."""

import csv
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest

from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.evaluate.points import read_point, write_point
from gnvc_vd.report.ablation import spread_tables, study, variants_of
from gnvc_vd.report.curves import MEAN, VALIDATION, differences
from gnvc_vd.report.tables import difference_tables
from gnvc_vd.train.log import FIGURES, RUN
from tests.evaluate.evaluations import made_up_set, point


def run(
    folder: Path,
    name: str,
    scale: float,
    sequences: tuple[str, ...] = ("s0", "s1"),
    sha: str = "ab",
    width: int = 40,
    flow: str = "dis",
) -> Path:
    """An evaluation of one codec whose rate is `scale` times another's."""
    for sequence in sequences:
        for level, rate in enumerate((0.01, 0.02, 0.04)):
            one = point("gnvc-vd", sequence, level, scale * rate, psnr_rgb=30.0 + 3 * level, dists=0.3 / 2**level)
            one.settings.update({"sequence": {"sha256": sha}, "flow": flow})
            write_point(folder / name, replace(one, width=width))
    return folder / name


def set_models(evaluated: Path, models: dict[int, str], sequence: str = "*") -> None:
    """As if its codec had been evaluated with a model for each level."""
    for path in evaluated.glob(f"points/*/{sequence}/*.json"):
        one = read_point(path)
        assert one is not None
        if one.level in models:
            one.settings["ours"] = {"codec": "gnvc-vd", "model": models[one.level]}
            write_point(evaluated, one)


def trained(folder: Path, name: str, lift: float, data: str = "clips") -> Path:
    (folder / name).mkdir(parents=True)
    span = {"frames": 9, "size": 64, "short_side": None}
    training = {"data": data, "seed": 0, "stage": {"spans": [span]}, "run": {"clips": 4}}
    (folder / name / RUN).write_text(json.dumps({"training": training}))
    lines = [{"step": step, "loss": 1.0} for step in (1, 2)]
    for step, worse in ((1, 5.0), (2, 0.0)):
        rates = {f"validation_bpp_{q}": 0.01 * 2**place for place, q in enumerate((0, 32, 63))}
        quality = {f"validation_psnr_{q}": 30.0 + 3 * place + lift - worse for place, q in enumerate((0, 32, 63))}
        lines.append({"step": step, **rates, **quality})
    (folder / name / FIGURES).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / name


def test_variants_are_called_by_what_differs_and_compared_with_one_of_them(tmp_path: Path) -> None:
    for steps, scale in ((1, 2.0), (2, 1.25), (5, 1.0)):
        run(tmp_path, f"codecs.gnvc-vd.ours.decode.steps={steps}", scale)
    variants = variants_of([tmp_path])  # a multirun's folder
    assert [one.name for one in variants] == ["1", "2", "5"]
    more = [run(tmp_path / "more", f"a.intra={n},~b=null", 1.0) for n in (0, 2)]
    assert [one.name for one in variants_of(more)] == ["0", "2"]
    rows = [row for one in variants for row in one.rows]
    found = {(one.codec, one.sequence, one.metric): one for one in differences(rows, "5", ["psnr_rgb", "dists"])}
    for metric in ("psnr_rgb", "dists"):
        assert found["1", "s0", metric].rate == pytest.approx(100) and found["2", MEAN, metric].rate == pytest.approx(
            25
        )
    _, table = difference_tables(list(found.values()), "5", MEAN, ["psnr_rgb", "dists"])
    assert table.rows[0] == ("1", "–", "–")  # a third of the rates is too little to share
    assert table.rows[1][:2] == ("2", "−0.966") and float(table.rows[1][2]) > 0  # 3 dB an octave; more of a distance


def test_trainings_are_compared_by_their_last_validation(tmp_path: Path) -> None:
    folders = [trained(tmp_path, f"adaptor_depth-{name}", lift) for name, lift in (("none", 0.0), ("every-2", 1.0))]
    (tmp_path / "notes").mkdir()
    none, every = variants_of(folders)
    assert (none.name, every.name) == ("none", "every-2") and len(every.rows) == 3
    assert [row.figures[VALIDATION] for row in every.rows] == [31, 34, 37]
    assert [one.name for one in variants_of([tmp_path])] == ["every-2", "none"]


@pytest.mark.slow
def test_a_study_is_text_figures_and_plots(tmp_path: Path) -> None:
    for name, scale in (("full", 1.0), ("no-stage1", 1.5)):
        run(tmp_path / "study", name, scale)
    text = study([tmp_path / "study"], tmp_path / "out", anchor="full").read_text()
    assert "| no-stage1 | +50.0 | +50.0 |" in text and "BD-metric against full" in text
    with (tmp_path / "out" / "ablation.csv").open() as stream:
        rates = {(one["sequence"], one["metric"]): float(one["bd_rate_percent"]) for one in csv.DictReader(stream)}
    assert rates["s1", "dists"] == pytest.approx(50) and len(rates) == 8
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"psnr_rgb.png", "psnr_rgb.pdf", "dists.png", "dists.pdf"} < names


@pytest.mark.slow
def test_a_multirun_of_evaluations_becomes_a_study(tmp_path: Path) -> None:
    """Through the scripts; x264 stands for a codec whose setting varies."""
    made_up_set(tmp_path, sequences=1)
    hybrid = "{hybrid: {encoder: x264, levels: [24, 34, 44], intra: 0, preset: ultrafast}}"
    study_folder = "folder=${hydra:sweep.dir}/${hydra:job.override_dirname}"
    command = [
        *(sys.executable, "scripts/evaluate.py", "-m", "experiment=steps", f"manifest={tmp_path}/set.json"),
        *(f"root={tmp_path}", f"hydra.sweep.dir={tmp_path}/study", study_folder, "metrics=[psnr_yuv]", "device=cpu"),
        *("~codecs.gnvc-vd", f"+codecs.x264={hybrid}", "codecs.x264.hybrid.intra=0,2"),
        "hydra.job.config.override_dirname.exclude_keys=[experiment,manifest,root,folder,metrics,device,codecs.x264]",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = subprocess.run(
        [sys.executable, "scripts/ablate.py", "study", f"{tmp_path}/study"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]
    rate = next(line for line in found.stdout.splitlines() if line.startswith("| 2 |")).split("|")[2]
    assert "against 0" in found.stdout and float(rate.replace("−", "-")) > 5  # intra pictures cost
    assert (tmp_path / "study" / "ablation" / "psnr_yuv.png").is_file()


def test_a_difference_has_its_spread_over_seeds_beside_it(tmp_path: Path) -> None:
    """3 dB an octave: rates scaled by s are 3 · log2(s) dB of difference at equal rate, for each seed."""
    for name, scales in (("full", (1.0, 1.02, 0.98)), ("less", (1.2, 1.3, 1.25)), ("same", (1.0, 1.05, 0.97))):
        for seed, scale in enumerate(scales):
            run(tmp_path / "study" / name, f"seed-{seed}", scale)
    variants = variants_of([tmp_path / "study"])
    assert [(one.name, len(one.runs)) for one in variants] == [("full", 3), ("less", 3), ("same", 3)]
    assert [row.bpp for row in variants[1].rows[:3]] == pytest.approx([0.0125, 0.025, 0.05])
    (table,) = spread_tables(variants, "full", MEAN, ["psnr_rgb"])
    (less, less_cell), (_, same_cell) = table.rows
    own, base = ([3 * math.log2(scale) for scale in scales] for scales in ((1.2, 1.3, 1.25), (1.0, 1.02, 0.98)))
    spread = math.hypot(stdev(own), stdev(base))
    mean, beside = (float(one) for one in less_cell.strip("*").replace("−", "-").split(" ± "))
    assert mean == pytest.approx(-fmean(own), rel=5e-3) and beside == pytest.approx(spread, rel=0.05)
    assert less == "less (3 runs)" and less_cell.startswith("**−0.9") and "*" not in same_cell
    assert "| less (3 runs) | **−0.9" in study([tmp_path / "study"], tmp_path / "out", anchor="full").read_text()


def test_variants_of_an_ablation_keep_the_names_that_its_file_gives_them(tmp_path: Path) -> None:
    for name in ("depth-0", "depth-2"):
        run(tmp_path / "evaluations" / name, "seed-0", 1.0)
    assert [one.name for one in variants_of([tmp_path / "evaluations"])] == ["depth-0", "depth-2"]
    assert "against depth-2" in study([tmp_path / "evaluations"], tmp_path / "out", anchor="depth-2").read_text()


def test_runs_of_one_name_are_told_apart_by_the_folders_above(tmp_path: Path) -> None:
    folders = [run(tmp_path / parent, "run", scale) for parent, scale in (("p", 1.0), ("q", 1.25))]
    variants = variants_of([*folders, folders[0]])  # one that is given twice is one
    assert [one.name for one in variants] == ["p/run", "q/run"]
    assert "| q/run | +25.0 | +25.0 |" in study(folders, tmp_path / "out").read_text()
    assert [one.name for one in variants_of([*folders, run(tmp_path / "r", "other", 1.0)])][2] == "r/other"


def test_variants_may_have_a_model_for_each_level(tmp_path: Path) -> None:
    one, each = (run(tmp_path, name, 1.0) for name in ("one", "each"))
    set_models(one, {0: "a@1", 1: "a@1", 2: "a@1"})
    set_models(each, {0: "a@1", 1: "b@2", 2: "c@3"})
    assert [len(variant.rows) for variant in variants_of([one, each])] == [9, 9]  # two sequences and the mean
    set_models(each, {0: "a@1", 1: "a@1", 2: "c@3"})
    with pytest.raises(GnvcError, match="points of several settings"):
        variants_of([one, each])
    set_models(each, {1: "b@2"}, sequence="s0")
    with pytest.raises(GnvcError, match="points of several settings"):
        variants_of([one, each])


def test_motion_that_was_measured_otherwise_is_refused(tmp_path: Path) -> None:
    dis, raft = (run(tmp_path, name, 1.0, flow=name) for name in ("dis", "raft"))
    with pytest.raises(GnvcError, match="not measured on the same frames of the same sequences, by one flow"):
        study([dis, raft], tmp_path / "out")
    run(tmp_path, "raft", 1.0, sequences=("s0",), flow="dis")
    with pytest.raises(GnvcError, match="points of several settings"):
        study([dis, raft], tmp_path / "out")


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    first, second = (run(tmp_path / "a", name, 1.0) for name in ("x", "y"))
    with pytest.raises(UsageError, match="no variant 'z'; there are x, y"):
        study([first, second], tmp_path / "out", anchor="z")
    with pytest.raises(GnvcError, match="two runs at least, and here are 1"):
        variants_of([first])
    with pytest.raises(GnvcError, match="no points of vvenc; there are gnvc-vd"):
        variants_of([first, second], "vvenc")
    for other in (run(tmp_path / "b", "fewer", 1.0, ("s0",)), run(tmp_path / "b", "other", 1.0, sha="cd")):
        with pytest.raises(GnvcError, match="not measured on the same frames"):
            study([first, other], tmp_path / "out")
    with pytest.raises(GnvcError, match="not measured on the same frames"):
        study([first, run(tmp_path / "b", "cropped", 1.0, width=32)], tmp_path / "out")
    with pytest.raises(GnvcError, match="not measured on the same frames"):
        study([first, trained(tmp_path, "t", 0)], tmp_path / "out")
    with pytest.raises(GnvcError, match="not measured on the same frames"):
        study([trained(tmp_path, "u", 0), trained(tmp_path, "v", 0, data="others")], tmp_path / "out")
    older = run(tmp_path / "c", "older", 1.0)
    left = point("gnvc-vd", "s0", 7, 0.1, psnr_rgb=1.0, dists=0.5)
    left.settings.update({"sequence": {"sha256": "ab"}, "flow": "dis", "ours": {"model": "another"}})
    write_point(older, left)
    with pytest.raises(GnvcError, match="points of several settings of gnvc-vd in one folder"):
        study([first, older], tmp_path / "out")
    write_point(first, point("x265", "s0", 1, 0.1, psnr_rgb=1.0))
    with pytest.raises(UsageError, match="say --codec"):
        variants_of([first, second])
    assert len(variants_of([first, second], "gnvc-vd")) == 2
