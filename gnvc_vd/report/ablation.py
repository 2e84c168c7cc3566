"""A Hydra multirun as a study: variants of one codec, their curves, and BD-rates against one of them.

    multirun folder ──▶ a variant for each run in it ──▶ ablation.md  ablation.csv  METRIC.png  METRIC.pdf

A run is an evaluation (its points), or a training (the rates and PSNRs of its last validation), and is called by its
folder. Variants that were not measured on the same frames are refused.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix
from pathlib import Path

from gnvc_vd.common.files import write_text
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.evaluate.points import Point, read_point
from gnvc_vd.report import tables
from gnvc_vd.report.curves import MEAN, OF_SEQUENCES, VALIDATION, Row, differences, main_sequence, rows_of
from gnvc_vd.report.plots import plot_metrics
from gnvc_vd.train.log import FIGURES, RUN, judged_curves, read_figures

POINTS = "points"
SIGNS = "=-_.,["


@dataclass(frozen=True)
class Variant:
    """A run's curve under the run's name; `measured_on` is what must be the same for all."""

    name: str
    rows: tuple[Row, ...]
    measured_on: frozenset[tuple[str, str, int, int, int]]


def study(folders: Sequence[Path], out: Path, codec: str | None = None, anchor: str | None = None) -> Path:
    """Everything; the path of its text. The anchor is the first variant unless one is named."""
    variants = variants_of(folders, codec)
    names = [one.name for one in variants]
    anchor = anchor or names[0]
    require(anchor in names, f"there is no variant {anchor!r}; there are {', '.join(names)}")
    for one in variants:
        both = f"{one.name} and {names[0]} were not measured on the same frames of the same sequences"
        require(one.measured_on == variants[0].measured_on, both, GnvcError)
    rows = [row for one in variants for row in one.rows]
    metrics = [name for name in rows[0].figures if all(name in row.figures for row in rows)]
    found = differences(rows, anchor, metrics)
    shown = main_sequence(rows)
    of_rate, of_value = tables.difference_tables(found, anchor, shown, metrics)
    of_rates = tables.difference_tables(found, anchor, OF_SEQUENCES, metrics)[:1] if shown == MEAN else ()
    text = tables.as_markdown([of_rate, *of_rates, of_value, tables.rate_table(rows, shown, metrics)])
    write_text(out / "ablation.md", text)
    write_text(out / "ablation.csv", tables.differences_csv(found, anchor))
    plot_metrics(rows, metrics, f"against {anchor}, {shown}", [anchor], out)
    return out / "ablation.md"


def variants_of(folders: Sequence[Path], codec: str | None = None) -> list[Variant]:
    """The runs that these folders are, or hold."""
    runs = [run for folder in folders for run in _runs(folder)]
    here = f"{', '.join(map(str, folders))}: a study compares two runs at least, and here are {len(runs)}"
    require(len(runs) >= 2, here, GnvcError)
    names = _short([run.name for run in runs])
    return [
        _evaluated(run, name, codec) if (run / POINTS).is_dir() else _trained(run, name)
        for run, name in zip(runs, names, strict=True)
    ]


def _runs(folder: Path) -> list[Path]:
    require(folder.is_dir(), f"{folder}: no such folder", GnvcError)
    return [folder] if _is_run(folder) else sorted(filter(_is_run, folder.iterdir()))


def _is_run(folder: Path) -> bool:
    return (folder / POINTS).is_dir() or (folder / FIGURES).is_file()


def _short(names: Sequence[str]) -> list[str]:
    """Folders' names without what all have in common at both ends, up to a sign."""
    ahead = commonprefix(list(names))  # noqa: RUF071 - letters are what is meant
    behind = commonprefix([name[::-1] for name in names])[::-1]  # noqa: RUF071
    start = max(ahead.rfind(sign) for sign in SIGNS) + 1
    ends = [place for sign in SIGNS if (place := behind.find(sign)) >= 0]
    stop = len(behind) - min(ends) if ends else 0
    short = [name[start : len(name) - stop].strip("[]") for name in names]
    return short if all(short) and len(set(short)) == len(names) else list(names)


def _evaluated(run: Path, name: str, codec: str | None) -> Variant:
    there = sorted(path.name for path in (run / POINTS).iterdir())
    named = codec is not None or len(there) == 1
    require(named, f"{run} holds points of {', '.join(there)}; say --codec which of them varies")
    files = sorted((run / POINTS / (codec or there[0])).glob("*/*.json"))
    points = [point for file in files if (point := read_point(file)) is not None]
    require(points, f"{run}: no points of {codec}; there are {', '.join(there) or 'none'}", GnvcError)
    several = f"{run}: points of several settings of {points[0].codec} in one folder; remove the older ones"
    require(len(set(map(_as_set, points))) == 1, several, GnvcError)
    measured = frozenset(
        (one.sequence, str(one.settings["sequence"]["sha256"]), one.frames, one.width, one.height) for one in points
    )
    return Variant(name, tuple(rows_of(replace(one, codec=name) for one in points)), measured)


def _trained(run: Path, name: str) -> Variant:
    points = judged_curves(read_figures(run / FIGURES))
    require(points, f"{run}: no validation of a codec there yet", GnvcError)
    curve = enumerate(points[max(points)])
    rows = [Row(name, "validation", level, 0, bpp, 0.0, {VALIDATION: psnr}) for level, (bpp, psnr) in curve]
    return Variant(name, tuple(rows), frozenset({_judged_on(run)}))


def _as_set(point: Point) -> str:
    """How its codec was set, whatever the level and the sequence; what a call left of earlier settings differs."""
    told = {kind: point.settings[kind] for kind in ("ours", "external") if kind in point.settings}
    hybrid = point.settings.get("hybrid", {})
    spelt = ("encode", "decode")  # its commands, which say level and frame rate
    return json.dumps([told, {key: value for key, value in hybrid.items() if key not in spelt}], sort_keys=True)


def _judged_on(run: Path) -> tuple[str, str, int, int, int]:
    """A training's validation clips, by what draws them."""
    if not (run / RUN).is_file():
        return ("validation", "", 0, 0, 0)
    training = json.loads((run / RUN).read_text(encoding="utf-8"))["training"]
    last, clips = training["stage"]["spans"][-1], training["run"]["clips"]
    drawn = json.dumps([training["data"], training["seed"], clips, last["short_side"]])
    return ("validation", drawn, last["frames"], last["size"], last["size"])
