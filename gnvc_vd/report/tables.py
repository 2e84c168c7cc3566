"""Figures as tables: Markdown to read, CSV to compute with, LaTeX to print."""

import csv
import io
from collections.abc import Callable, Sequence
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
    cells = tuple(
        (
            row.codec,
            str(row.level),
            f"{row.bpp:.5f}",
            f"{row.kbps:.1f}",
            *(_figure(row.figures[one]) for one in metrics),
        )
        for row in rows
        if row.sequence == sequence
    )
    title = "Rate and quality, mean of the sequences" if sequence == MEAN else f"Rate and quality, {sequence}"
    return Table(title, ("codec", "level", "bpp", "kbit/s", *_labels(metrics)), cells)


def rate_difference_table(found: Sequence[Difference], anchor: str, sequence: str, metrics: Sequence[str]) -> Table:
    """BD-rates in percent; what has none is a dash, with its reason below."""
    own = [one for one in found if one.sequence == sequence]
    lacking: dict[tuple[str, str], list[str]] = {}
    for one in own:
        if one.rate is None:
            lacking.setdefault((one.codec, one.reason or ""), []).append(MEASURED[one.metric].label)
    reasons = [f"{codec}, {' / '.join(names)}: {reason}" for (codec, reason), names in lacking.items()]
    narrow = [
        f"{one.codec}, {MEASURED[one.metric].label}: "
        f"on the {100 * one.overlap:.0f} % of the metric's range that both have"
        for one in own
        if one.overlap is not None and one.overlap < SMALLEST_OVERLAP
    ]
    title = f"BD-rate against {anchor}, %, {_of(sequence)} (negative is better)"
    cells = _by_codec(own, metrics, lambda one: _signed(one.rate, 1))
    return Table(title, ("codec", *_labels(metrics)), cells, (*reasons, *narrow))


def value_difference_table(found: Sequence[Difference], anchor: str, sequence: str, metrics: Sequence[str]) -> Table:
    """How far each lies above the anchor at equal rate, in the metrics' units."""
    own = [one for one in found if one.sequence == sequence]
    title = f"BD-metric against {anchor} at equal rate, {_of(sequence)}"
    return Table(title, ("codec", *_labels(metrics)), _by_codec(own, metrics, lambda one: _signed(one.value, 4)))


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
        lines = [table.columns, tuple("---" if place == 0 else "---:" for place, _ in enumerate(table.columns))]
        body = "\n".join("| " + " | ".join(cells) + " |" for cells in (*lines, *table.rows))
        notes = "\n".join(f"- {note}" for note in table.notes)
        parts.append("\n\n".join([f"## {table.title}", body, *([notes] if notes else [])]))
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
        head, *lines = (" & ".join(cell.translate(LATEX) for cell in cells) for cells in (table.columns, *table.rows))
        form = "l" + "r" * (len(table.columns) - 1)
        body = [
            rf"\begin{{tabular}}{{{form}}}",
            head + r" \\ \hline",
            *(line + r" \\" for line in lines),
            r"\end{tabular}",
        ]
        parts.append("\n".join([f"% {table.title}", *body]))
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


def _by_codec(
    own: Sequence[Difference], metrics: Sequence[str], cell: Callable[[Difference], str]
) -> tuple[Cells, ...]:
    of = {(one.codec, one.metric): cell(one) for one in own}
    return tuple(
        (codec, *(of[codec, metric] for metric in metrics)) for codec in dict.fromkeys(one.codec for one in own)
    )


def _figure(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _of(sequence: str) -> str:
    return {MEAN: "of the mean curve", OF_SEQUENCES: "mean of the sequences' own"}.get(sequence, sequence)


def _signed(value: float | None, digits: int) -> str:
    if value is None:
        return NONE
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # no minus before nought
