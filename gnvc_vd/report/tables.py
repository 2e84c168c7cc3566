"""Tables of figures, in Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from gnvc_vd.evaluate.points import Point
from gnvc_vd.metrics.bdrate import SMALLEST_OVERLAP
from gnvc_vd.report.curves import ALL_METRICS, MEAN, OF_SEQUENCES, Difference, Row

NONE = "–"
DUST = 5e-7  # below it a figure is what a computation left of nought
LATEX = str.maketrans({"%": r"\%", "_": r"\_", "&": r"\&", "−": "$-$", "–": "--", "≈": r"$\approx$", "×": r"$\times$"})
Cells = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Cells as text, one for each column in every row, and what must be read with them.

    A page folds the tables of one group together; those of no group stand open.
    """

    title: str
    columns: Cells
    rows: tuple[Cells, ...]
    notes: tuple[str, ...] = ()
    group: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row of {self.title!r} has not {len(self.columns)} cells")


def rate_table(rows: Sequence[Row], sequence: str, metrics: Sequence[str]) -> Table:
    own = [row for row in rows if row.sequence == sequence]
    rates = [(row.codec, str(row.level), three_digits(row.bpp), three_digits(row.kbps)) for row in own]
    qualities = [[three_digits(row.figures[one]) for one in metrics] for row in own]
    cells = tuple((*rate, *quality) for rate, quality in zip(rates, qualities, strict=True))
    title = "Rate and quality, mean of the sequences" if sequence == MEAN else f"Rate and quality, {sequence}"
    return Table(title, ("codec", "level", "bpp", "kbit/s", *_labels(metrics)), cells)


def difference_tables(
    found: Sequence[Difference], anchor: str, sequence: str, metrics: Sequence[str]
) -> tuple[Table, Table]:
    """BD-rates in percent, and BD-metrics in the metrics' units.

    A metric of which no codec has one gets no column; each reason why one is not there stands below once.
    """
    own = [one for one in found if one.sequence == sequence]
    by_metric = {(one.codec, one.metric): one for one in own}
    codecs = list(dict.fromkeys(one.codec for one in own))
    shown = [name for name in metrics if any(by_metric[codec, name].rate is not None for codec in codecs)]
    rates = tuple((codec, *(_signed(by_metric[codec, name].rate) for name in shown)) for codec in codecs)
    narrow = [
        f"{one.codec}, {ALL_METRICS[one.metric].label}: on the {100 * one.overlap:.0f} % of its range both have"
        for one in own
        if one.overlap is not None and one.overlap < SMALLEST_OVERLAP
    ]
    measured = [name for name in metrics if any(by_metric[codec, name].value is not None for codec in codecs)]
    told = _reasons(own, codecs, "rate")
    others = tuple(line for line in _reasons(own, codecs, "value") if line not in told)
    of = {MEAN: "of the mean curve", OF_SEQUENCES: "mean of the sequences' own"}.get(sequence, sequence)
    title = f"BD-rate against {anchor}, %, {of} (negative is better)"
    heads = ("codec", *_labels(measured))
    values = tuple((codec, *(_signed(by_metric[codec, name].value) for name in measured)) for codec in codecs)
    return (
        Table(title, ("codec", *_labels(shown)), rates if shown else (), (*told, *narrow)),
        Table(f"BD-metric against {anchor} at equal rate, {of}", heads, values if measured else (), others),
    )


def _reasons(own: Sequence[Difference], codecs: Sequence[str], what: Literal["rate", "value"]) -> list[str]:
    """Each reason why it is not there, once, with whose and of what; a detail in parentheses goes with these."""
    places: dict[str, dict[str, list[str]]] = {}  # reason → codec → metrics
    for one in own:
        if getattr(one, what) is None and one.reason:  # where both lack, the BD-rate's comes first
            text, bracket, detail = one.reason.split("; ")[0 if what == "rate" else -1].partition(" (")
            of_codec = places.setdefault(text, {}).setdefault(one.codec, [])
            of_codec.append(ALL_METRICS[one.metric].label + bracket + detail)
    lines = []
    for text, by_codec in places.items():
        alike: dict[str, list[str]] = {}  # metrics → codecs
        for codec, metrics in by_codec.items():
            alike.setdefault(" / ".join(metrics), []).append(codec)
        every = list(codecs) if len(codecs) > 1 else None
        said = [f"{'all codecs' if owners == every else ', '.join(owners)}, {of}" for of, owners in alike.items()]
        lines.append(f"{'; '.join(said)}: {text}")
    return lines


def spectrum_tables(points: Sequence[Point]) -> list[Table]:
    """Flicker by frequency, the mean of the sequences at each codec's level; none where nobody measured it."""
    cells, bands = [], 0
    for codec, level in dict.fromkeys((one.codec, one.level) for one in points):
        own = [one for one in points if (one.codec, one.level) == (codec, level)]
        if all(one.flicker_spectrum for one in own):
            means = [fmean(band) for band in zip(*(one.flicker_spectrum for one in own), strict=True)]
            bands = len(means)
            cells.append((codec, str(level), *map(three_digits, means)))
    if not cells:
        return []
    heads = ("codec", "level", *(f"{band / (2 * bands - 2):g}" for band in range(bands)))
    title = "Flicker by frequency, 8-bit levels², columns in cycles a frame (0 is drift)"
    return [Table(title, heads, tuple(cells), group="Flicker by frequency")]


def speed_table(points: Sequence[Point]) -> Table:
    """Wall clock, programs' start and loading included: for orientation, on a machine that may do other things too."""
    cells = []
    for codec in dict.fromkeys(one.codec for one in points):
        own = [one for one in points if one.codec == codec]
        frames = sum(one.frames for one in own)
        encode, decode = sum(one.encode_seconds for one in own), sum(one.decode_seconds for one in own)
        cells.append((codec, three_digits(encode / frames), three_digits(decode / frames)))
    note = "Wall clock, with programs' start and loading, on a machine that may have done other things too."
    return Table("Seconds a frame", ("codec", "encode", "decode"), tuple(cells), (note,), group="Speed")


def as_markdown(tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        ruler = ["---", *["---:"] * (len(table.columns) - 1)]
        lines = ["| " + " | ".join(cells) + " |" for cells in (table.columns, ruler, *table.rows)]
        parts += [f"## {table.title}", *(["\n".join(lines)] if table.rows else [])]
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
    return tuple(ALL_METRICS[one].label for one in metrics)


def three_digits(value: float | None) -> str:
    """Three significant digits, and all digits of what is whole."""
    if value is None:
        return NONE
    known = 0.0 if abs(value) < DUST else value
    exponent = int(f"{known:.2e}".partition("e")[2])
    return f"{known:.{max(0, 2 - exponent)}f}".replace("-", "−")


def _signed(value: float | None) -> str:
    said = three_digits(value)
    return said if said.startswith(("−", NONE)) else f"+{said}"
