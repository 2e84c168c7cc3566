"""The report as one HTML file that needs no network: curves, player, flicker view, tables, commands.

    rows, tables, videos ──JSON, base64──▶ assets/report/page.html ◀── page.css and scripts

For each of a few rates, the player offers every codec's nearest point, so that compared rates are about equal; it shows
each point's rate. Its videos are copies of the decoded ones that browsers can play (evaluate/sequences.py).
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from gnvc_vd.evaluate.compare import METRICS
from gnvc_vd.evaluate.evaluation import Evaluation
from gnvc_vd.evaluate.points import Point
from gnvc_vd.metrics.cvvdp import DISPLAY
from gnvc_vd.report.curves import MEAN, Row, labels_of
from gnvc_vd.report.links import Link, cards, commit_links, paper_links
from gnvc_vd.report.markup import asset, document, environment_html, fold, points_html, section, tables_html
from gnvc_vd.report.player import (
    default_pair,
    embed_videos,
    initial_selection,
    main_metric,
    player_levels,
    player_rates,
    sequences_that_fit,
    video_paths,
)
from gnvc_vd.report.plots import colour_of
from gnvc_vd.report.published import PublishedPoint
from gnvc_vd.report.tables import Table, three_digits


def page(
    evaluation: Evaluation,
    points: Sequence[Point],
    rows: Sequence[Row],
    published: Sequence[PublishedPoint],
    tables: Sequence[Table],
    about: str,
) -> str:
    """The whole HTML page as text."""
    folder = Path(evaluation.folder)
    metric = main_metric(evaluation.metrics, points)
    names = list(dict.fromkeys(one.codec for one in points))
    entries = {name: evaluation.codecs[name] for name in names if name in evaluation.codecs}
    pair = default_pair(evaluation, names)
    rates = evaluation.report.rates or player_rates(points, pair, metric)
    offered = player_levels(points, rates)
    shown = sequences_that_fit(offered, evaluation.report.shown, folder)
    if len(shown) < len(offered):
        about += f" The player shows only {', '.join(shown)}; the setting report.shown selects others."
    data = {
        "metrics": metrics_data(evaluation.metrics),
        "metric": metric,
        "sequences": sorted(dict.fromkeys(row.sequence for row in rows), key=lambda name: name != MEAN),
        "codecs": _codecs(evaluation, points, published),
        "rows": [*map(vars, rows), *map(_published_row, published)],
        "rates": [f"{three_digits(rate)} bpp" for rate in rates],
        "clips": {
            one.sequence: {"width": one.width, "height": one.height, "frames": one.frames} | {"rate": one.rate}
            for one in points
            if one.sequence in shown
        },
        "shown": shown,
        "opening": vars(initial_selection(points, shown, pair, metric)),
        "source": "source",
        "videos": embed_videos(video_paths(folder, shown)),
    }
    texts = cards(entries)
    links = [*paper_links(entries), *(Link(f"model card: {name}", f"#card-{name}") for name in texts)]
    how_made = environment_html([one.environment for one in points])
    for name, text in texts.items():
        how_made += fold(f"Model card: {name}", f"<pre>{escape(text)}</pre>", f"card-{name}") + "\n"
    parts = [
        asset("curves.html"),
        asset("player.html"),
        section("tables", "Tables", tables_html(tables)),
        section("commands", "How each point was made", how_made + points_html(points)),
    ]
    title = f"{evaluation.name}: video codecs side by side"
    return document(title, about, [*links, *commit_links(points)], parts, data)


def metrics_data(metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Metrics for the page's scripts, each with a short name for switches and a unit for axes."""
    found: list[dict[str, Any]] = []
    for key in sorted(metrics, key=list(METRICS).index):  # in the order of METRICS: the most important first
        label = METRICS[key].label
        name, _, unit = label.replace(f" ({DISPLAY})", "").partition(", ")
        found.append({"key": key, "label": label, "name": name, "unit": unit, "lower": METRICS[key].lower_is_better})
    return found


def _codecs(
    evaluation: Evaluation, points: Sequence[Point], published: Sequence[PublishedPoint]
) -> list[dict[str, str]]:
    """Codecs for the page's scripts, each with its label and colour, both the same as in the plots."""
    labels = labels_of(points)
    own = [(name, labels[name], one.kind) for name, one in evaluation.codecs.items() if name in labels]
    known = dict.fromkeys([*own, *((one.label, one.label, "published") for one in published)])
    return [
        {"name": name, "label": label, "kind": kind, "colour": colour_of(place)}
        for place, (name, label, kind) in enumerate(known)
    ]


def _published_row(one: PublishedPoint) -> dict[str, Any]:
    note = f"published, {one.width} × {one.height}"
    if one.bpp_printed is not None:
        note += f"\nprinted as {three_digits(one.bpp_printed)} bpp"
    figures = {key: value for key, value in one.figures.items() if key in METRICS}
    row = {"codec": one.label, "sequence": one.sequence, "level": None, "bytes": 0, "bpp": one.bpp}
    return {**row, "figures": figures, "note": note}
