"""The report as one HTML file that needs no network: curves, player, flicker view, tables, commands.

    rows, tables, videos ──JSON, base64──▶ assets/report/page.html ◀── page.css, curves.js, player.js, page.js

The player offers each codec's point nearest to each of some rates, so that rates compared are about equal, and
prints its rate. The videos in it are copies (evaluate/sequences.py).
"""

import base64
import html
import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from gnvc_vd.common.strict import require
from gnvc_vd.evaluate.compare import METRICS
from gnvc_vd.evaluate.evaluation import Evaluation
from gnvc_vd.evaluate.points import Point
from gnvc_vd.evaluate.run import player_path
from gnvc_vd.evaluate.test_sets import ASSETS
from gnvc_vd.report.curves import MEAN, Row, labels_of
from gnvc_vd.report.plots import colour_of
from gnvc_vd.report.published import PublishedPoint
from gnvc_vd.report.tables import Table

SCRIPTS = ("curves.js", "player.js", "page.js")  # in this order
LARGEST = 200_000_000  # bytes of videos: browsers cannot hold a string twice as long
PlayerLevels = dict[str, dict[str, dict[str, int]]]  # sequence → codec → place of the rate → level


def page(
    evaluation: Evaluation,
    points: Sequence[Point],
    rows: Sequence[Row],
    published: Sequence[PublishedPoint],
    tables: Sequence[Table],
    about: str,
) -> str:
    """The whole file's text."""

    def asset(name: str) -> str:
        return (ASSETS / "report" / name).read_text(encoding="utf-8")

    folder = Path(evaluation.folder)
    middle = sorted(one.bpp for one in points)[len(points) // 2]
    rates = evaluation.report.rates or (float(f"{middle:.1g}"),)
    offered = _player_levels(points, rates)
    shown = _sequences_that_fit(offered, evaluation.report.shown, folder)
    if len(shown) < len(offered):
        about += f" The player has {', '.join(shown)}; report.shown chooses."
    data = {
        "about": about,
        "metrics": [
            {"key": name, "label": METRICS[name].label, "lower": METRICS[name].lower_is_better}
            for name in evaluation.metrics
        ],
        "sequences": sorted(dict.fromkeys(row.sequence for row in rows), key=lambda name: name != MEAN),
        "codecs": _codecs(evaluation, points, published),
        "rows": [*map(vars, rows), *map(_published_row, published)],
        "rates": [f"{rate:g} bpp" for rate in rates],
        "clips": {
            one.sequence: {"width": one.width, "height": one.height, "frames": one.frames} | {"rate": one.rate}
            for one in points
            if one.sequence in shown
        },
        "shown": shown,
        "videos": {key: base64.b64encode(path.read_bytes()).decode() for key, path in _videos(folder, shown).items()},
        "tables": [*map(vars, tables)],
        "commands": [*map(_command, points)],
    }
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", r"\u003c")  # no tag, and no comment
    title = html.escape(f"{evaluation.name}: video codecs side by side")
    script = "\n".join(map(asset, SCRIPTS))
    return Template(asset("page.html")).substitute(title=title, style=asset("page.css"), script=script, data=text)


def nearest(points: Sequence[Point], rate: float) -> Point:
    """In octaves, so that half and twice the rate are equally far."""
    return min(points, key=lambda one: (abs(math.log(one.bpp / rate)), one.level))


def _player_levels(points: Sequence[Point], rates: Sequence[float]) -> PlayerLevels:
    """Of every sequence, each codec's points nearest to the rates."""
    shown: PlayerLevels = {}
    for sequence, codec in dict.fromkeys((one.sequence, one.codec) for one in points):
        own = [one for one in points if (one.sequence, one.codec) == (sequence, codec)]
        levels = {str(place): nearest(own, rate).level for place, rate in enumerate(rates)}
        shown.setdefault(sequence, {})[codec] = levels
    return shown


def _sequences_that_fit(shown: PlayerLevels, wanted: Sequence[str], folder: Path) -> PlayerLevels:
    """The sequences that are asked for, as far as they fit; the first does."""
    asked = wanted or tuple(shown)
    absent = ", ".join(name for name in asked if name not in shown)
    require(not absent, f"report.shown: there is no sequence {absent}; there are {', '.join(shown)}")
    fitting: PlayerLevels = {}
    size = 0
    for name in asked:
        size += sum(path.stat().st_size for path in _videos(folder, {name: shown[name]}).values())
        if fitting and size > LARGEST:
            break
        fitting[name] = shown[name]
    return fitting


def _videos(folder: Path, shown: PlayerLevels) -> dict[str, Path]:
    paths = {f"source/{sequence}": player_path(folder, "source", sequence) for sequence in shown}
    for sequence, codecs in shown.items():
        for codec, levels in codecs.items():
            for level in set(levels.values()):
                paths[f"{codec}/{sequence}/{level}"] = player_path(folder, codec, sequence, level)
    return paths


def _codecs(
    evaluation: Evaluation, points: Sequence[Point], published: Sequence[PublishedPoint]
) -> list[dict[str, str]]:
    """With what readers see each called and a colour, both the same as in the plots."""
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
        note += f"\nprinted as {one.bpp_printed:g} bpp"
    figures = {key: value for key, value in one.figures.items() if key in METRICS}
    row = {"codec": one.label, "sequence": one.sequence, "level": None, "bytes": 0, "bpp": one.bpp}
    return {**row, "figures": figures, "note": note}


def _command(one: Point) -> dict[str, str]:
    return {
        "name": f"{one.codec}, {one.sequence}, level {one.level}: {one.bytes} bytes, sha256 {one.stream_sha256[:16]}…",
        "encode": shlex.join(one.encode),
        "decode": shlex.join(one.decode),
        "settings": json.dumps({"settings": one.settings, "environment": one.environment}, ensure_ascii=False),
    }
