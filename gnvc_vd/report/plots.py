"""Curves on paper: rate–distortion, PNG and PDF for each metric; and those of trainings, from RUN/figures.jsonl."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from gnvc_vd.common.files import replacing
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.report.curves import MEASURED, Row, sequence_shown
from gnvc_vd.report.published import PublishedPoint
from gnvc_vd.train.log import FIGURES, read_figures

# Told apart also by those who see few colours: Okabe and Ito's, then darker ones.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a4fbf", "#4d4d4d", "#8c6d31", "#1b9e9e")
MARKERS = "osD^vPX*<>"
NOT_LOSSES = {"step", "gradient_norm", "learning_rate", "clips_per_second"}
JUDGED = "validation_"
RATE = re.compile(r"validation_bpp_(\d+)")


def colour_of(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def plot_metrics(
    rows: Sequence[Row],
    metrics: Sequence[str],
    title: str,
    thick: Sequence[str],
    folder: Path,
    published: Sequence[PublishedPoint] = (),
) -> None:
    """The curves of the mean, or of the only sequence, as METRIC.png and METRIC.pdf; published ones are dashed."""
    shown = sequence_shown(rows)
    own = [row for row in rows if row.sequence == shown]
    others = [one for one in published if one.sequence == shown]
    for metric in metrics:
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        _plot(figure.subplots(), own, others, metric, thick)
        figure.axes[0].set_title(title, fontsize=10)
        for suffix, about in (("png", {}), ("pdf", {"CreationDate": None})):
            with replacing(folder / f"{metric}.{suffix}") as part:
                figure.savefig(part, dpi=130, format=suffix, metadata=about)


def _plot(
    axes: Axes, rows: Sequence[Row], published: Sequence[PublishedPoint], metric: str, thick: Sequence[str]
) -> None:
    ours = {row.codec for row in rows}
    named: list[tuple[str, Row | PublishedPoint]] = [(row.codec, row) for row in rows]
    named += [(one.label, one) for one in published]
    for place, label in enumerate(dict.fromkeys(name for name, _ in named)):
        own = [one for name, one in named if name == label]
        known = sorted((one.bpp, value) for one in own if (value := one.figures.get(metric)) is not None)
        style: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "linestyle": "--"}
        if label in ours:
            width = 2.6 if label in thick else 1.5
            style = {"marker": MARKERS[place % len(MARKERS)], "markersize": 5, "linewidth": width}
        if known:
            axes.plot(*zip(*known, strict=True), color=colour_of(place), label=label, **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.set_xlabel("bits per pixel, of whole files")
    better = "lower" if MEASURED[metric].lower_is_better else "higher"
    axes.set_ylabel(f"{MEASURED[metric].label} ({better} is better)")
    if axes.has_data():
        axes.legend(fontsize=8)


@dataclass(frozen=True)
class TrainingCurves:
    """What a run's lines hold, by name: steps and values."""

    losses: dict[str, list[tuple[float, float]]]
    judged: dict[str, list[tuple[float, float]]]  # of validations, rates and PSNRs of a codec apart
    points: dict[int, list[tuple[float, float]]]  # step → (bpp, PSNR) from the lowest quality up


def training_curves(run: Path) -> TrainingCurves:
    lines = read_figures(run / FIGURES)
    require(lines, f"{run / FIGURES}: no figures there", GnvcError)
    curves = TrainingCurves({}, {}, {})
    for line in lines:
        step = line["step"]
        qualities = sorted(int(match[1]) for name in line if (match := RATE.fullmatch(name)))
        if qualities:
            curves.points[int(step)] = [(line[f"validation_bpp_{q}"], line[f"validation_psnr_{q}"]) for q in qualities]
            continue
        for name, value in line.items():
            if name.startswith(JUDGED):
                curves.judged.setdefault(name.removeprefix(JUDGED), []).append((step, value))
            elif name not in NOT_LOSSES:
                curves.losses.setdefault(name, []).append((step, value))
    return curves


def plot_runs(runs: Sequence[Path], out: Path) -> None:
    """A row for each run: its losses, and its validations."""
    found = [training_curves(run) for run in runs]
    figure = Figure(figsize=(9, 2.6 * len(runs)), layout="constrained")
    rows = figure.subplots(len(runs), 2, squeeze=False)
    for run, curves, (left, right) in zip(runs, found, rows, strict=True):
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
