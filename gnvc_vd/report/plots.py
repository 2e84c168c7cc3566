"""Plots of rate–distortion curves, as PNG and PDF for each metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from gnvc_vd.common.files import replacing
from gnvc_vd.report.curves import ALL_METRICS, Row, main_sequence
from gnvc_vd.report.published import PublishedPoint

# Told apart also by those who see few colours: Okabe and Ito's, then darker ones.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a4fbf", "#4d4d4d", "#8c6d31", "#1b9e9e")
MARKERS = "osD^vPX*<>"


def colour_of(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def plot_metrics(
    rows: Sequence[Row],
    metrics: Sequence[str],
    title: str,
    thick: Sequence[str],
    folder: Path,
    published: Sequence[PublishedPoint] = (),
    prefix: str = "",
    suffixes: Sequence[str] = ("png", "pdf"),
) -> None:
    """The curves of the mean, or of the only sequence, as METRIC.png and METRIC.pdf; published ones are dashed."""
    shown = main_sequence(rows)
    own = [row for row in rows if row.sequence == shown]
    others = [one for one in published if one.sequence == shown]
    for metric in metrics:
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        _plot(figure.subplots(), own, others, metric, thick)
        figure.axes[0].set_title(title, fontsize=10)
        for suffix in suffixes:
            about = {"CreationDate": None} if suffix == "pdf" else {}
            with replacing(folder / f"{prefix}{metric}.{suffix}") as part:
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
    scale_by_rate(axes)
    better = "lower" if ALL_METRICS[metric].lower_is_better else "higher"
    axes.set_ylabel(f"{ALL_METRICS[metric].label} ({better} is better)")
    if axes.has_data():
        axes.legend(fontsize=8)


def scale_by_rate(axes: Axes) -> None:
    """A logarithmic axis of rates with plain numbers, and a grid."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.set_xlabel("bits per pixel, of whole files")
