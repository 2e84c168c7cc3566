"""Figures as tables: Markdown to read, CSV to compute with, LaTeX to print."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from gnvc_vd.evaluate.points import Point
from gnvc_vd.metrics.bdrate import SMALLEST_OVERLAP
from gnvc_vd.report.curves import MEAN, MEASURED, OF_SEQUENCES, Difference, Row

NONE = "–"
LATEX = str.maketrans({"%": r"\%", "_": r"\_", "&": r"\&", "−": "$-$", "–": "--", "≈": r"$\approx$", "×": r"$\times$"})
Cells = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Cells as text, one for each column in every row, and what must be read with them."""

    title: str
    columns: Cells
    rows: tuple[Cells, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row of {self.title!r} has not {len(self.columns)} cells")


def rate_table(rows: Sequence[Row], sequence: str, metrics: Sequence[str]) -> Table:
    own = [row for row in rows if row.sequence == sequence]
    rates = [(row.codec, str(row.level), f"{row.bpp:.5f}", f"{row.kbps:.1f}") for row in own]
    qualities = [[_figure(row.figures[one]) for one in metrics] for row in own]
    cells = tuple((*rate, *quality) for rate, quality in zip(rates, qualities, strict=True))
    title = "Rate and quality, mean of the sequences" if sequence == MEAN else f"Rate and quality, {sequence}"
    return Table(title, ("codec", "level", "bpp", "kbit/s", *_labels(metrics)), cells)


def difference_tables(
    found: Sequence[Difference], anchor: str, sequence: str, metrics: Sequence[str]
) -> tuple[Table, Table]:
    """BD-rates in percent, with the reason below where there is none; and BD-metrics, in the metrics' units."""
    own = [one for one in found if one.sequence == sequence]
    lacking: dict[tuple[str, str], list[str]] = {}
    narrow = []
    for one in own:
        label = MEASURED[one.metric].label
        if one.rate is None:
            lacking.setdefault((one.codec, one.reason or ""), []).append(label)
        if one.overlap is not None and one.overlap < SMALLEST_OVERLAP:
            share = f"{100 * one.overlap:.0f} % of the metric's range"
            narrow.append(f"{one.codec}, {label}: on the {share} that both have")
    reasons = [f"{codec}, {' / '.join(names)}: {reason}" for (codec, reason), names in lacking.items()]
    by_metric = {(one.codec, one.metric): one for one in own}
    rates, values = [], []
    for codec in dict.fromkeys(one.codec for one in own):
        each = [by_metric[codec, metric] for metric in metrics]
        rates.append((codec, *(_signed(one.rate, 1) for one in each)))
        values.append((codec, *(_signed(one.value, 4) for one in each)))
    of = {MEAN: "of the mean curve", OF_SEQUENCES: "mean of the sequences' own"}.get(sequence, sequence)
    columns = ("codec", *_labels(metrics))
    return (
        Table(f"BD-rate against {anchor}, %, {of} (negative is better)", columns, tuple(rates), (*reasons, *narrow)),
        Table(f"BD-metric against {anchor} at equal rate, {of}", columns, tuple(values)),
    )


def speed_table(points: Sequence[Point]) -> Table:
    """Wall clock, programs' start and loading included: for orientation, on a machine that may do other things too."""
    cells = []
    for codec in dict.fromkeys(one.codec for one in points):
        own = [one for one in points if one.codec == codec]
        frames = sum(one.frames for one in own)
        encode, decode = sum(one.encode_seconds for one in own), sum(one.decode_seconds for one in own)
        cells.append((codec, f"{encode / frames:.3f}", f"{decode / frames:.3f}"))
    note = "Wall clock, with programs' start and loading, on a machine that may have done other things too."
    return Table("Seconds a frame", ("codec", "encode", "decode"), tuple(cells), (note,))


def as_markdown(tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        ruler = ["---", *["---:"] * (len(table.columns) - 1)]
        lines = ["| " + " | ".join(cells) + " |" for cells in (table.columns, ruler, *table.rows)]
        parts += [f"## {table.title}", "\n".join(lines)]
        parts += ["\n".join(f"- {note}" for note in table.notes)] if table.notes else []
    return "\n\n".join(parts) + "\n"


def as_text(table: Table) -> str:
    """For a terminal: columns aligned, numbers to the right."""
    lines = [table.columns, *table.rows]
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    rows = [
        "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, others, strict=True))])
        for name, *cells in lines
    ]
    return "\n".join([table.title, *rows, *table.notes])


def as_latex(tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        rows = [" & ".join(cell.translate(LATEX) for cell in cells) + r" \\" for cells in (table.columns, *table.rows)]
        form = "l" + "r" * (len(table.columns) - 1)
        head = [f"% {table.title}", rf"\begin{{tabular}}{{{form}}}", rf"{rows[0]} \hline"]
        parts.append("\n".join([*head, *rows[1:], r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def points_csv(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """Every digit there is; rows of the mean curve are not among them."""
    head = ["codec", "sequence", "level", "bytes", "bpp", "kbps", *metrics]
    body = (
        [row.codec, row.sequence, row.level, row.bytes, row.bpp, row.kbps, *(row.figures[one] for one in metrics)]
        for row in rows
        if row.sequence != MEAN
    )
    return _csv([head, *body])


def differences_csv(found: Sequence[Difference], anchor: str) -> str:
    head = ["codec", "anchor", "sequence", "metric", "bd_rate_percent", "overlap", "bd_metric", "reason"]
    rows = ([d.codec, anchor, d.sequence, d.metric, d.rate, d.overlap, d.value, d.reason] for d in found)
    return _csv([head, *rows])


def _csv(lines: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def _labels(metrics: Sequence[str]) -> Cells:
    return tuple(MEASURED[one].label for one in metrics)


def _figure(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _signed(value: float | None, digits: int) -> str:
    if value is None:
        return NONE
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # no minus before nought
