"""What an evaluation found, to read, to compute with, to print and to look at.

    points ──▶ rows, BD-rates ──▶ report/  index.html  tables.md  tables.tex  points.csv  bd.csv  METRIC.png  METRIC.pdf

The same points give the same tables, byte for byte; times stand apart, in speed.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gnvc_vd.common.files import replacing
from gnvc_vd.evaluate.evaluation import Evaluation
from gnvc_vd.evaluate.points import Point
from gnvc_vd.evaluate.test_sets import read_manifest
from gnvc_vd.report.accounting import accounting_tables
from gnvc_vd.report.curves import MEAN, OF_SEQUENCES, Difference, Row, differences, rows_of, sequence_shown
from gnvc_vd.report.page import page
from gnvc_vd.report.plots import plot
from gnvc_vd.report.published import PublishedPoint, mean_points, points_of, published_tables, read_paper
from gnvc_vd.report.tables import (
    Table,
    as_latex,
    as_markdown,
    differences_csv,
    points_csv,
    rate_difference_table,
    rate_table,
    speed_table,
    value_difference_table,
)


def write_report(evaluation: Evaluation, points: Sequence[Point], folder: Path) -> Path:
    """Everything, anew; the path of the page."""
    metrics = evaluation.metrics
    rows = rows_of(points)
    anchor = evaluation.report.anchor
    found = differences(rows, anchor, metrics, evaluation.report.overlap) if anchor else []
    published = _published(evaluation, points)
    ours = our_tables(rows, found, anchor, metrics)
    counted = accounting_tables(points, Path(evaluation.folder) / "streams")
    others = [one for name in evaluation.report.published for one in published_tables(read_paper(name))]
    tables = [*ours, *counted, *others]
    speed = speed_table(points)
    about = _about(evaluation, points)
    texts = {
        "tables.md": f"# {evaluation.name}\n\n{about}\n\n{as_markdown(tables)}",
        "tables.tex": as_latex([*ours, *counted]),
        "points.csv": points_csv(rows, metrics),
        "bd.csv": differences_csv(found, anchor or ""),
        "speed.md": as_markdown([speed]),
        "index.html": page(evaluation, points, rows, published, [*tables, speed], about),
    }
    shown, sequences = sequence_shown(rows), {one.sequence for one in points}
    of = f"mean of {len(sequences)} sequences" if shown == MEAN else shown
    thick = [name for name, contestant in evaluation.codecs.items() if contestant.ours]
    write_files(folder, texts, rows, metrics, f"{Path(evaluation.manifest).stem}, {of}", thick, published)
    return folder / "index.html"


def write_files(
    folder: Path,
    texts: Mapping[str, str],
    rows: Sequence[Row],
    metrics: Sequence[str],
    title: str,
    thick: Sequence[str],
    published: Sequence[PublishedPoint] = (),
) -> None:
    """Texts by their names, and a plot of each metric over the mean of the sequences or over the only one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with replacing(folder / name) as part:
            part.write_text(text, encoding="utf-8")
    shown = sequence_shown(rows)
    own, others = [one for one in rows if one.sequence == shown], [one for one in published if one.sequence == shown]
    for metric in metrics:
        plot(own, others, metric, title, thick, folder / metric)


def our_tables(
    rows: Sequence[Row], found: Sequence[Difference], anchor: str | None, metrics: Sequence[str]
) -> list[Table]:
    """Differences first, then every curve; the mean before the sequences."""
    sequences = sorted(dict.fromkeys(row.sequence for row in rows), key=lambda name: name != MEAN)
    places = [*([OF_SEQUENCES] if MEAN in sequences else []), *sequences]
    deltas = [
        table(found, anchor, place, metrics)
        for place in places
        for table in (rate_difference_table, value_difference_table)
        if anchor and found
    ]
    return [*deltas, *(rate_table(rows, sequence, metrics) for sequence in sequences)]


def _published(evaluation: Evaluation, points: Sequence[Point]) -> list[PublishedPoint]:
    """Points that others published of this set and size, of the sequences that are here and their mean."""
    first = points[0]
    here = list(dict.fromkeys(one.sequence for one in points))
    told = [one for name in evaluation.report.published for one in read_paper(name).points]
    for file in evaluation.report.points:
        told += points_of(Path(file), Path(file).stem, first.width, first.height)
    same = (evaluation.manifest, first.width, first.height)
    own = [one for one in told if (one.set, one.width, one.height) == same and one.sequence in here]
    return [*own, *(mean_points(own, here, MEAN) if len(here) > 1 else [])]


def _about(evaluation: Evaluation, points: Sequence[Point]) -> str:
    manifest = read_manifest(evaluation.manifest)
    first = points[0]
    gop = evaluation.gop or manifest.gop
    sequences = len({one.sequence for one in points})
    return (
        f"{manifest.title}, {sequences} of its sequences, {first.frames} frames of {first.width} × {first.height}; "
        f"our codecs in GOPs of {gop}. {len(points)} points, each coded to a file, decoded by another process and "
        "measured. Bits are bytes of that file."
    )
