"""Rate–distortion curves on paper: PNG and PDF, a file for each metric."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from gnvc_vd.common.files import replacing
from gnvc_vd.evaluate.evaluation import LOWER_IS_BETTER
from gnvc_vd.report.curves import Row
from gnvc_vd.report.published import PublishedPoint
from gnvc_vd.report.tables import LABELS

# Told apart also by those who see few colours: Okabe and Ito's, then darker ones.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a4fbf", "#4d4d4d", "#8c6d31", "#1b9e9e")
MARKERS = "osD^vPX*<>"


def colour_of(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def plot(
    rows: Sequence[Row], published: Sequence[PublishedPoint], metric: str, title: str, ours: Sequence[str], out: Path
) -> None:
    """One metric of the curves in `rows`, as out.png and out.pdf; ours are drawn thick, published ones dashed."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    codecs = list(dict.fromkeys(row.codec for row in rows))
    for place, codec in enumerate(codecs):
        known = [(row.bpp, value) for row in rows if row.codec == codec and (value := row.figures[metric]) is not None]
        if known:
            axes.plot(
                *zip(*known, strict=True),
                color=colour_of(place),
                marker=MARKERS[place % len(MARKERS)],
                markersize=5,
                linewidth=2.6 if codec in ours else 1.5,
                label=codec,
            )
    for place, codec in enumerate(dict.fromkeys(point.codec for point in published), len(codecs)):
        points = sorted(
            (one.bpp, one.figures[metric]) for one in published if one.codec == codec and metric in one.figures
        )
        if points:
            style = {"color": colour_of(place), "marker": "o", "markerfacecolor": "none", "linestyle": "--"}
            axes.plot(*zip(*points, strict=True), label=f"{codec} (published)", **style)  # type: ignore[arg-type]
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.set_xlabel("bits per pixel, of whole files")
    axes.set_ylabel(f"{LABELS[metric]} ({'lower' if metric in LOWER_IS_BETTER else 'higher'} is better)")
    axes.set_title(title, fontsize=10)
    if axes.has_data():
        axes.legend(fontsize=8)
    for suffix, about in (("png", {}), ("pdf", {"CreationDate": None})):
        with replacing(out.with_name(f"{out.name}.{suffix}")) as part:
            figure.savefig(part, dpi=130, format=suffix, metadata=about)
