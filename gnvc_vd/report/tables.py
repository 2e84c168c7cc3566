"""Figures as tables: Markdown to read, CSV to compute with, LaTeX to print."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from gnvc_vd.metrics.bdrate import SMALLEST_OVERLAP
from gnvc_vd.report.curves import MEAN, OF_SEQUENCES, Difference, Row
from gnvc_vd.report.published import Paper

LABELS = {
    "psnr_rgb": "PSNR RGB, dB",
    "psnr_yuv": "PSNR YUV 6:1:1, dB",
    "ms_ssim": "MS-SSIM",
    "lpips_alex": "LPIPS (AlexNet)",
    "lpips_vgg": "LPIPS (VGG)",
    "dists": "DISTS",
    "st_lpips_alex": "ST-LPIPS (AlexNet)",
    "st_lpips_vgg": "ST-LPIPS (VGG)",
    "vmaf": "VMAF",
    "e_warp": "E_warp",
    "validation_psnr": "PSNR of the validation, dB",
}
NONE = "–"
LATEX = str.maketrans({"%": r"\%", "_": r"\_", "&": r"\&", "−": "$-$", "–": "--", "≈": r"$\approx$", "×": r"$\times$"})


@dataclass(frozen=True)
class Table:
    """Cells as text, and what must be read with them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def rate_table(rows: Sequence[Row], sequence: str, metrics: Sequence[str]) -> Table:
    own = [row for row in rows if row.sequence == sequence]
    cells = [
        (
            row.codec,
            str(row.level),
            f"{row.bpp:.5f}",
            f"{row.kbps:.1f}",
            *(_figure(row.figures[one]) for one in metrics),
        )
        for row in own
    ]
    columns = ("codec", "level", "bpp", "kbit/s", *(LABELS[one] for one in metrics))
    title = "Rate and quality, mean of the sequences" if sequence == MEAN else f"Rate and quality, {sequence}"
    return Table(title, columns, tuple(cells))


def rate_difference_table(found: Sequence[Difference], anchor: str, sequence: str, metrics: Sequence[str]) -> Table:
    """BD-rates in percent; what has none is a dash, with its reason below."""
    own = [one for one in found if one.sequence == sequence]
    codecs = list(dict.fromkeys(one.codec for one in own))
    values = {(one.codec, one.metric): one.rate for one in own}
    cells = [(codec, *(_percent(values[codec, metric]) for metric in metrics)) for codec in codecs]
    lacking: dict[tuple[str, str], list[str]] = {}
    for one in own:
        if one.rate is None:
            lacking.setdefault((one.codec, one.reason or ""), []).append(LABELS[one.metric])
    reasons = [f"{codec}, {' / '.join(names)}: {reason}" for (codec, reason), names in lacking.items()]
    narrow = [
        f"{one.codec}, {LABELS[one.metric]}: on the {100 * one.overlap:.0f} % of the metric's range that both have"
        for one in own
        if one.overlap is not None and one.overlap < SMALLEST_OVERLAP
    ]
    title = f"BD-rate against {anchor}, %, {_of(sequence)} (negative is better)"
    return Table(title, ("codec", *(LABELS[one] for one in metrics)), tuple(cells), (*reasons, *narrow))


def value_difference_table(found: Sequence[Difference], anchor: str, sequence: str, metrics: Sequence[str]) -> Table:
    """How far each lies above the anchor at equal rate, in the metrics' units."""
    values = {(one.codec, one.metric): one.value for one in found if one.sequence == sequence}
    cells = [
        (name, *(NONE if (value := values[name, metric]) is None else _signed(value, 4) for metric in metrics))
        for name in dict.fromkeys(name for name, _ in values)
    ]
    title = f"BD-metric against {anchor} at equal rate, {_of(sequence)}"
    return Table(title, ("codec", *(LABELS[one] for one in metrics)), tuple(cells))


def speed_table(rows: Sequence[Row], frames: dict[str, int]) -> Table:
    """Wall clock, programs' start and loading included: for orientation, on a machine that may do other things too."""
    cells = []
    for codec in dict.fromkeys(row.codec for row in rows):
        own = [row for row in rows if row.codec == codec and row.sequence != MEAN]
        count = sum(frames[row.sequence] for row in own)
        encode, decode = (
            sum(values) / count for values in ([row.encode_seconds for row in own], [row.decode_seconds for row in own])
        )
        cells.append((codec, f"{encode:.3f}", f"{decode:.3f}"))
    note = "Wall clock, with programs' start and loading, on a machine that may have done other things too."
    return Table("Seconds a frame", ("codec", "encode", "decode"), tuple(cells), (note,))


def published_tables(paper: Paper) -> list[Table]:
    """A paper's own; each says where it comes from, the last what must be known of all."""
    source = f"Printed in {paper.source}; not measured here."
    last = len(paper.tables) - 1
    return [
        Table(
            f"{paper.title}, published: {one.title}",
            one.columns,
            one.rows,
            (source, *(paper.notes if place == last else ())),
        )
        for place, one in enumerate(paper.tables)
    ]


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
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.columns))]
    first, *others = widths
    rows = (
        "  ".join([line[0].ljust(first), *(c.rjust(w) for c, w in zip(line[1:], others, strict=True))])
        for line in lines
    )
    return "\n".join([table.title, *rows, *table.notes])


def as_latex(tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        lines = [" & ".join(cell.translate(LATEX) for cell in cells) + r" \\" for cells in table.rows]
        head = " & ".join(cell.translate(LATEX) for cell in table.columns) + r" \\ \hline"
        form = "l" + "r" * (len(table.columns) - 1)
        body = "\n".join([rf"\begin{{tabular}}{{{form}}}", head, *lines, r"\end{tabular}"])
        parts.append(f"% {table.title}\n{body}")
    return "\n\n".join(parts) + "\n"


def points_csv(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """Every digit there is; rows of the mean curve are not among them."""
    head = ["codec", "sequence", "level", "bytes", "bpp", "kbps", *metrics]
    body = [
        [row.codec, row.sequence, row.level, row.bytes, row.bpp, row.kbps, *(row.figures[one] for one in metrics)]
        for row in rows
        if row.sequence != MEAN
    ]
    return _csv([head, *body])


def differences_csv(found: Sequence[Difference], anchor: str) -> str:
    head = ["codec", "anchor", "sequence", "metric", "bd_rate_percent", "overlap", "bd_metric", "reason"]
    rows = ([d.codec, anchor, d.sequence, d.metric, d.rate, d.overlap, d.value, d.reason] for d in found)
    return _csv([head, *rows])


def _csv(lines: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def _figure(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _of(sequence: str) -> str:
    return {MEAN: "of the mean curve", OF_SEQUENCES: "mean of the sequences' own"}.get(sequence, sequence)


def _percent(value: float | None) -> str:
    return NONE if value is None else _signed(value, 1)


def _signed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # no minus before nought
