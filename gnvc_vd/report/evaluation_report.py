"""An evaluation's results as a page, tables, CSV files and plots.

    points ──▶ rows, BD-rates ──▶ report/  index.html  tables.md  tables.tex  points.csv  bd.csv  METRIC.png  METRIC.pdf

The same points give the same tables, byte for byte; times are in speed.md. Page, tables and plots call GNVC-VD by
its latent codec; CSV keeps the names that codecs have in the evaluation and in files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from gnvc_vd.common.files import write_text
from gnvc_vd.evaluate.evaluation import Evaluation
from gnvc_vd.evaluate.points import Point
from gnvc_vd.evaluate.protocols import read_protocol
from gnvc_vd.evaluate.test_sets import read_manifest
from gnvc_vd.report import tables
from gnvc_vd.report.curves import (
    ALL_METRICS,
    MEAN,
    OF_SEQUENCES,
    Difference,
    Row,
    apply_labels,
    differences,
    labels_of,
    main_sequence,
    rows_of,
)
from gnvc_vd.report.page import page
from gnvc_vd.report.plots import plot_metrics
from gnvc_vd.report.published import PublishedPoint, mean_points, points_of, published_tables, read_paper
from gnvc_vd.report.tables import Table


def write_report(evaluation: Evaluation, points: Sequence[Point], folder: Path) -> Path:
    """Everything, anew; the path of the page."""
    metrics, anchor = evaluation.metrics, evaluation.report.anchor
    rows, labels = rows_of(points), labels_of(points)
    found = differences(rows, anchor, metrics, evaluation.report.overlap) if anchor else []
    named = apply_labels(rows, labels)
    published = published_beside(evaluation, points)
    ours = our_tables(named, apply_labels(found, labels), labels.get(anchor or ""), metrics)
    others = [one for name in evaluation.report.published for one in published_tables(read_paper(name))]
    conditions = [protocol_table(evaluation, points)] if evaluation.protocol else []
    whole = [*conditions, *ours, *others]
    whole += tables.spectrum_tables(apply_labels(points, labels))
    speed = tables.speed_table(apply_labels(points, labels))
    about = _about(evaluation, points)
    texts = {
        "tables.md": f"# {evaluation.name}\n\n{about}\n\n{tables.as_markdown(whole)}",
        "tables.tex": tables.as_latex(ours),
        "points.csv": tables.points_csv(rows, metrics),
        "bd.csv": tables.differences_csv(found, anchor or ""),
        "speed.md": tables.as_markdown([speed]),
        "index.html": page(evaluation, points, rows, published, [*whole, speed], about),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    shown = main_sequence(rows)
    of = f"mean of {len({one.sequence for one in points})} sequences" if shown == MEAN else shown
    # A codec without points is another name of one that has them (evaluate/run.py).
    thick = [labels[name] for name, entry in evaluation.codecs.items() if entry.ours and name in labels]
    plot_metrics(named, metrics, f"{Path(evaluation.manifest).stem}, {of}", thick, folder, published)
    return folder / "index.html"


def our_tables(
    rows: Sequence[Row], found: Sequence[Difference], anchor: str | None, metrics: Sequence[str]
) -> list[Table]:
    """Differences first, then every curve; the mean before the sequences."""
    sequences = sorted(dict.fromkeys(row.sequence for row in rows), key=lambda name: name != MEAN)
    places = [*([OF_SEQUENCES] if MEAN in sequences else []), *sequences]
    groups = {MEAN: "The mean curve", places[0]: ""}  # a sequence's tables go by its name
    deltas = [
        replace(one, group=groups.get(place, place))
        for place in places
        for one in tables.difference_tables(found, anchor or "", place, metrics)
        if anchor and found
    ]
    curves = [tables.rate_table(rows, sequence, metrics) for sequence in sequences]
    several = len(sequences) > 1
    named = [groups.get(sequence, sequence) if several else "Every point" for sequence in sequences]
    return [*deltas, *(replace(one, group=name) for one, name in zip(curves, named, strict=True))]


def protocol_table(evaluation: Evaluation, points: Sequence[Point]) -> Table:
    """A paper's test conditions beside those of the points; what differs is said."""
    protocol = read_protocol(str(evaluation.protocol))
    colours = [str(one.settings["sequence"]["colour"]) for one in points if "sequence" in one.settings]
    rows = [
        ("frames", str(protocol.frames), _each(str(one.frames) for one in points)),
        ("frames in a GOP of our codecs", str(protocol.gop), str(evaluation.gop or protocol.gop)),
        ("size", f"{protocol.width} × {protocol.height}", _each(f"{one.width} × {one.height}" for one in points)),
        ("colour", protocol.colour, _each(colours)),
    ]
    for name, how in protocol.measures.items():
        lacking = sum(one.figures.get(name) is None for one in points)
        here = f"not at {lacking} of {len(points)} points" if lacking else how
        rows.append((ALL_METRICS[name].label, how, here))
    marked = tuple((what, asked, here if here == asked else f"{here} (differs)") for what, asked, here in rows)
    notes = (f"After {protocol.source}.", *protocol.notes)
    return Table(f"Protocol: {protocol.title}", ("", "protocol", "here"), marked, notes)


def _each(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def published_beside(evaluation: Evaluation, points: Sequence[Point]) -> list[PublishedPoint]:
    """Points that others published of this set and size, of the sequences that are here and their mean.

    The manifest `uvg`, at any path, is the set "uvg"; `uvg-720` may be of its papers' points, which state their size.
    """
    if evaluation.crop is not None:
        return []
    first, name = points[0], Path(evaluation.manifest).stem
    here = list(dict.fromkeys(one.sequence for one in points))
    told = [one for paper in evaluation.report.published for one in read_paper(paper).points]
    told = [one for one in told if f"{name}-".startswith(f"{one.set}-")]
    for file in evaluation.report.points:
        stated = points_of(Path(file), Path(file).stem, first.width, first.height)
        told += [one for one in stated if one.set == name]
    same = {(one.sequence, one.width, one.height) for one in points}
    own = [one for one in told if (one.sequence, one.width, one.height) in same]
    return [*own, *(mean_points(own, here, MEAN) if len(here) > 1 else [])]


def _about(evaluation: Evaluation, points: Sequence[Point]) -> str:
    manifest = read_manifest(evaluation.manifest)
    conditions = read_protocol(evaluation.protocol) if evaluation.protocol else manifest
    gop = evaluation.gop or conditions.gop
    pictures = _each(f"{one.frames} frames of {one.width} × {one.height}" for one in points)
    sequences = len({one.sequence for one in points})
    rates = ", ".join(f"{rate:g}" for rate in sorted({round(one.rate, 2) for one in points}))
    stated = ", ".join(dict.fromkeys(one.codec for one in points if one.stated))
    exception = f" But {stated}: no stream is written, and bits are as the program states them." if stated else ""
    at_once = ", ".join(dict.fromkeys(one.codec for one in points if not one.fresh))
    exception += f" {at_once}: decoded by the process that encoded." if at_once else ""
    return (
        f"{manifest.title}, {sequences} of its sequences, {pictures}, {rates} a second; "
        f"our codecs in GOPs of {gop}. {len(points)} points, each coded to a file, decoded by another process and "
        f"measured. Bits are bytes of that file.{exception}"
    )
