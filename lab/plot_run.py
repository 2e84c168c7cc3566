"""The curves of one or more runs as a picture: python -m lab.plot_run RUN… OUT.png

A run is a folder of scripts/train.py. Each has a row: terms of its loss over steps, and what its validations found, for
a codec the rate–distortion curve of every validation, from pale (first) to dark (last).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import GnvcError
from gnvc_vd.train.log import FIGURES, RATE, judged_curves, read_figures

NOT_LOSSES = {"step", "gradient_norm", "learning_rate", "clips_per_second", "seconds"}
JUDGED = "validation_"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("out", type=Path, help="a .png")
    arguments = parser.parse_args(argv)
    try:
        plot_runs(arguments.runs, arguments.out)
    except GnvcError as error:
        print(f"plot_run: {error}", file=sys.stderr)
        return 1
    print(arguments.out)
    return 0


@dataclass(frozen=True)
class TrainingCurves:
    """What a run's lines hold, by name: steps and values."""

    losses: dict[str, list[tuple[float, float]]]
    judged: dict[str, list[tuple[float, float]]]  # of validations, rates and PSNRs of a codec apart
    points: dict[int, list[tuple[float, float]]]  # step → (bpp, PSNR) from the lowest quality up


def training_curves(run: Path) -> TrainingCurves:
    lines = read_figures(run / FIGURES)
    if not lines:
        raise GnvcError(f"{run / FIGURES}: no figures there")
    curves = TrainingCurves({}, {}, judged_curves(lines))
    for line in lines:
        if any(map(RATE.fullmatch, line)):
            continue
        for name, value in line.items():
            if name.startswith(JUDGED):
                curves.judged.setdefault(name.removeprefix(JUDGED), []).append((line["step"], value))
            elif name not in NOT_LOSSES:
                curves.losses.setdefault(name, []).append((line["step"], value))
    return curves


def plot_runs(runs: Sequence[Path], out: Path) -> None:
    """A row for each run: its losses, and its validations."""
    trained = [training_curves(run) for run in runs]
    figure = Figure(figsize=(9, 2.6 * len(runs)), layout="constrained")
    rows = figure.subplots(len(runs), 2, squeeze=False)
    for run, curves, (left, right) in zip(runs, trained, rows, strict=True):
        _lines(left, curves.losses, log=True)
        left.set_title(f"{run.name}: loss and its terms", fontsize=9)
        if curves.points:
            _rate_distortion(right, curves.points)
        else:
            _lines(right, curves.judged, log=False)
        right.set_title(f"{run.name}: validation", fontsize=9)
        for axes in (left, right):
            axes.tick_params(labelsize=7)
            if axes.has_data():
                axes.legend(fontsize=6, ncols=1 if axes is right and curves.points else 2)
    with replacing(out) as part:
        figure.savefig(part, dpi=80, format="png")


def _lines(axes: Axes, curves: dict[str, list[tuple[float, float]]], log: bool) -> None:
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), label=name, linewidth=2.0 if name == "loss" else 1.0)
    if log and all(value > 0 for points in curves.values() for _, value in points):
        axes.set_yscale("log")
    axes.set_xlabel("step", fontsize=8)


def _rate_distortion(axes: Axes, points: dict[int, list[tuple[float, float]]]) -> None:
    colours = matplotlib.colormaps["viridis_r"]
    for place, (step, curve) in enumerate(sorted(points.items())):
        colour = colours(0.15 + 0.85 * place / max(1, len(points) - 1))
        axes.plot(*zip(*curve, strict=True), marker=".", color=colour, label=f"step {step}")
    axes.set_xlabel("bits per pixel, of whole streams", fontsize=8)
    axes.set_ylabel("PSNR, dB", fontsize=8)


if __name__ == "__main__":
    raise SystemExit(main())
