"""Compare the runs of a study: variants of one codec, their curves, and BD-rates against one of them.

    folder ──▶ a variant for each run in it ──▶ ablation.md  ablation.csv  METRIC.png  METRIC.pdf

A run is an evaluation (its points), or a training (the rates and PSNRs of its last validation), and is called by its
folder. A variant may be a folder of runs, one for each seed (seed-N): curves are then means over seeds, and every
difference has its spread beside it. Variants that were not measured on the same frames are refused.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby
from os.path import commonprefix
from pathlib import Path
from statistics import fmean, stdev

from gnvc_vd.common.files import write_text
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.evaluate.points import Point, read_point
from gnvc_vd.report import tables
from gnvc_vd.report.curves import (
    ALL_METRICS,
    MEAN,
    OF_SEQUENCES,
    VALIDATION,
    Row,
    differences,
    main_sequence,
    mean_of_all,
    rows_of,
)
from gnvc_vd.report.plots import plot_metrics
from gnvc_vd.train.log import FIGURES, RUN, judged_curves, read_figures

POINTS = "points"
SIGNS = "=-_.,["
SEED = "seed-"  # a run's folder, and the number of its seed


@dataclass(frozen=True)
class Variant:
    """A curve under the name of its folder; `measured_on` is what must be the same for all.

    Args:
        rows: the mean of its runs where there are several.
        runs: the curve of each, if there are several seeds.
    """

    name: str
    rows: tuple[Row, ...]
    measured_on: frozenset[tuple[object, ...]]
    runs: tuple[tuple[Row, ...], ...] = ()


def study(folders: Sequence[Path], out: Path, codec: str | None = None, anchor: str | None = None) -> Path:
    """Everything; the path of its text. The anchor is the first variant unless one is named."""
    variants = variants_of(folders, codec)
    names = [one.name for one in variants]
    anchor = anchor or names[0]
    require(anchor in names, f"there is no variant {anchor!r}; there are {', '.join(names)}")
    for one in variants:
        both = f"{one.name} and {names[0]} were not measured on the same frames of the same sequences, by one flow"
        require(one.measured_on == variants[0].measured_on, both, GnvcError)
    rows = [row for one in variants for row in one.rows]
    metrics = [name for name in rows[0].figures if all(name in row.figures for row in rows)]
    compared = differences(rows, anchor, metrics)
    sequence = main_sequence(rows)
    of_rate, of_value = tables.difference_tables(compared, anchor, sequence, metrics)
    of_rates = tables.difference_tables(compared, anchor, OF_SEQUENCES, metrics)[:1] if sequence == MEAN else ()
    seeds = spread_tables(variants, anchor, sequence, metrics)
    text = tables.as_markdown([*seeds, of_rate, *of_rates, of_value, tables.rate_table(rows, sequence, metrics)])
    write_text(out / "ablation.md", text)
    write_text(out / "ablation.csv", tables.differences_csv(compared, anchor))
    plot_metrics(rows, metrics, f"against {anchor}, {sequence}", [anchor], out)
    return out / "ablation.md"


def spread_tables(
    variants: Sequence[Variant], anchor: str, sequence: str, metrics: Sequence[str]
) -> list[tables.Table]:
    """Differences with their spread over seeds, where all variants have several.

    Each run is compared with the mean curve of the anchor's runs. A difference stands beside the standard deviation of
    a difference between two single runs, one of each variant; where it is larger than that, it is bold.
    """
    if any(len(one.runs) < 2 for one in variants):
        return []
    (base,) = [one for one in variants if one.name == anchor]
    samples = {one.name: _against(base.rows, one, sequence, metrics) for one in variants}
    rows = []
    for one in variants:
        if one.name != anchor:
            pairs = zip(samples[one.name], samples[anchor], strict=True)
            rows.append((f"{one.name} ({len(one.runs)} runs)", *(_with_spread(*pair) for pair in pairs)))
    note = "± is the standard deviation of a difference between two single runs; below it there is no verdict."
    title = f"Difference from {anchor} at equal rate, mean over seeds"
    labels = [ALL_METRICS[name].label for name in metrics]
    return [tables.Table(title, ("variant", *labels), tuple(rows), (note,))]


def _against(base: Sequence[Row], variant: Variant, sequence: str, metrics: Sequence[str]) -> list[list[float | None]]:
    """The BD-metric of each run, for each metric."""
    name = "runs of"
    samples = list[list[float | None]]()
    for metric in metrics:
        each = list[float | None]()
        for run in variant.runs:
            rows = [*(replace(row, codec=name) for row in base), *run]
            compared = differences(rows, name, [metric])
            each += [one.value for one in compared if one.sequence == sequence]
        samples.append(each)
    return samples


def _with_spread(own: Sequence[float | None], base: Sequence[float | None]) -> str:
    values, others = ([one for one in each if one is not None] for each in (own, base))
    if len(values) < len(own) or len(others) < len(base):
        return tables.NONE
    mean, spread = fmean(values), (stdev(values) ** 2 + stdev(others) ** 2) ** 0.5
    cell = f"{mean:+.3g} ± {spread:.2g}".replace("-", "−")
    return f"**{cell}**" if abs(mean) > spread else cell


def variants_of(folders: Sequence[Path], codec: str | None = None) -> list[Variant]:
    """The runs that these folders are, or hold."""
    runs = list(dict.fromkeys(run.absolute() for folder in folders for run in _runs(folder)))
    here = f"{', '.join(map(str, folders))}: a study compares two runs at least, and here are {len(runs)}"
    require(len(runs) >= 2, here, GnvcError)
    depth = next(n for n in count(1) if len({run.parts[-n:] for run in runs}) == len(runs))
    names = ["/".join(run.parts[-depth:]) for run in runs]  # with the folders above where names are equal
    if depth == 1 and not any(map(_seeds, runs)):  # an ablation's own names stay
        names = _short(names)
    return [_variant(run, name, codec) for run, name in zip(runs, names, strict=True)]


def _variant(run: Path, name: str, codec: str | None) -> Variant:
    if _is_run(run):
        return _variant_of_evaluation(run, name, codec) if (run / POINTS).is_dir() else _variant_of_training(run, name)
    each = [_variant(seed, name, codec) for seed in _seeds(run)]
    both = f"{run}: its runs were not measured on the same frames of the same sequences, by one flow"
    require(len({one.measured_on for one in each}) == 1, both, GnvcError)
    return replace(each[0], rows=mean_of_runs([one.rows for one in each]), runs=tuple(one.rows for one in each))


def mean_of_runs(runs: Sequence[Sequence[Row]]) -> tuple[Row, ...]:
    """Rates and figures at equal levels; levels that one of the runs has not are left out."""

    def at(row: Row) -> tuple[str, int]:
        return row.sequence, row.level

    means = []
    for _, group in groupby(sorted((row for run in runs for row in run), key=at), key=at):
        same = list(group)
        if len(same) == len(runs):
            figures = {name: mean_of_all(row.figures.get(name) for row in same) for name in same[0].figures}
            bpp, kbps = (fmean(getattr(row, name) for row in same) for name in ("bpp", "kbps"))
            size = round(fmean(row.bytes for row in same))
            means.append(replace(same[0], bytes=size, bpp=bpp, kbps=kbps, figures=figures))
    order = {sequence: place for place, sequence in enumerate(dict.fromkeys(row.sequence for row in runs[0]))}
    return tuple(sorted(means, key=lambda row: (order[row.sequence], row.bpp)))


def _runs(folder: Path) -> list[Path]:
    require(folder.is_dir(), f"{folder}: no such folder", GnvcError)
    holds = [one for one in sorted(folder.iterdir()) if _is_run(one) or _seeds(one)]
    return [folder] if _is_run(folder) or _seeds(folder) else holds


def _seeds(folder: Path) -> list[Path]:
    """The runs of a variant that has one for each seed."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [one for one in inside if one.name.startswith(SEED) and _is_run(one)]


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


def _variant_of_evaluation(run: Path, name: str, codec: str | None) -> Variant:
    there = sorted(path.name for path in (run / POINTS).iterdir())
    named = codec is not None or len(there) == 1
    require(named, f"{run} holds points of {', '.join(there)}; say --codec which of them varies")
    files = sorted((run / POINTS / (codec or there[0])).glob("*/*.json"))
    points = [point for file in files if (point := read_point(file)) is not None]
    require(points, f"{run}: no points of {codec}; there are {', '.join(there) or 'none'}", GnvcError)
    several = f"{run}: points of several settings of {points[0].codec} in one folder; remove the older ones"
    require(_are_one_setting(points), several, GnvcError)
    told = ((one, one.settings["sequence"]["sha256"], one.settings.get("flow")) for one in points)
    measured = frozenset((one.sequence, one.frames, one.width, one.height, *others) for one, *others in told)
    return Variant(name, tuple(rows_of(replace(one, codec=name) for one in points)), measured)


def _variant_of_training(run: Path, name: str) -> Variant:
    points = judged_curves(read_figures(run / FIGURES))
    require(points, f"{run}: no validation of a codec there yet", GnvcError)
    curve = enumerate(points[max(points)])
    rows = [Row(name, "validation", level, 0, bpp, 0.0, {VALIDATION: psnr}) for level, (bpp, psnr) in curve]
    return Variant(name, tuple(rows), frozenset({_validation_clips(run)}))


def _are_one_setting(points: Sequence[Point]) -> bool:
    """Whether a codec was set alike at all points, with one model or one for each level; an earlier call's differ."""
    at = {(one.level, one.settings.get("ours", {}).get("model")) for one in points}
    levels, models = (len(set(each)) for each in zip(*at, strict=True))
    return len(set(map(_as_set, points))) == 1 and len(at) == levels and models in (1, levels)


def _as_set(point: Point) -> str:
    """How its codec was set, whatever the level, its model and the sequence."""
    told = {kind: dict(point.settings[kind]) for kind in ("ours", "external") if kind in point.settings}
    told.get("ours", {}).pop("model", None)
    hybrid = point.settings.get("hybrid", {})
    spelt = ("encode", "decode")  # its commands, which say level and frame rate
    return json.dumps(
        [told, point.settings.get("flow"), {key: value for key, value in hybrid.items() if key not in spelt}],
        sort_keys=True,
    )


def _validation_clips(run: Path) -> tuple[object, ...]:
    """A training's validation clips, by what draws them."""
    if not (run / RUN).is_file():
        return ("validation", "", 0, 0, 0)
    training = json.loads((run / RUN).read_text(encoding="utf-8"))["training"]
    last, clips = training["stage"]["spans"][-1], training["run"]["clips"]
    drawn = json.dumps([training["data"], training["seed"], clips, last["short_side"]])
    return ("validation", drawn, last["frames"], last["size"], last["size"])
