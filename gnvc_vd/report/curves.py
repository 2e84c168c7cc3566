"""Rate–distortion curves of points, and their BD-rates.

The mean curve averages rate and figures over sequences, at the levels that every sequence has. A BD-rate is of one
sequence, or of the mean curve; a third figure is the mean of the sequences' BD-rates, where every sequence has one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean
from typing import TypeVar

from gnvc_vd.conventions import GnvcError
from gnvc_vd.evaluate.compare import METRICS
from gnvc_vd.evaluate.points import Point
from gnvc_vd.metrics.bdrate import SMALLEST_OVERLAP, Curve, bd_metric, bd_rate
from gnvc_vd.presets import BottleneckKind

BOTTLENECKS: dict[BottleneckKind, str] = {  # GNVC-VD's curves by their latent codec
    "contextual": "GNVC-VD (contextual, as published)",
    "transform": "GNVC-VD-T",
}
MEAN = "mean"  # the curve that averages sequences
OF_SEQUENCES = "mean of sequences"
VALIDATION = "validation_psnr"  # the PSNR that a training states, over all frames of its validation's clips
ALL_METRICS = METRICS | {VALIDATION: replace(METRICS["psnr_rgb"], label="PSNR of the validation, dB")}


@dataclass(frozen=True)
class Row:
    """A point as tables, plots and the page have it; of the mean curve, bytes are of all sequences together."""

    codec: str
    sequence: str
    level: int
    bytes: int
    bpp: float
    kbps: float
    figures: dict[str, float | None]


@dataclass(frozen=True)
class Difference:
    """A codec's BD-rate in percent of the anchor's rate, and its BD-metric in the metric's units.

    `overlap` is the share of the metric's range that both curves cover, 0 … 1, over which the rate is taken. One of
    the two may be None without the other.
    """

    codec: str
    sequence: str
    metric: str
    rate: float | None = None
    value: float | None = None
    overlap: float | None = None
    reason: str | None = None  # why one of them is not there


Named = TypeVar("Named", Point, Row, Difference)


def labels_of(points: Iterable[Point]) -> dict[str, str]:
    """What readers see each codec called, by the name it has in files.

    GNVC-VD is called by its latent codec; where several codecs have the same one, their own names follow.
    """
    kinds: dict[str, BottleneckKind | None] = {}
    for one in points:  # older points record no kind, though other points of the codec may
        kinds[one.codec] = kinds.get(one.codec) or one.bottleneck
    several = {kind for kind, count in Counter(kinds.values()).items() if count > 1}
    return {
        codec: codec if kind is None else BOTTLENECKS[kind] + (f": {codec}" if kind in several else "")
        for codec, kind in kinds.items()
    }


def apply_labels(those: Iterable[Named], labels: Mapping[str, str]) -> list[Named]:
    """Points, rows or differences under the names that readers see."""
    return [replace(one, codec=labels[one.codec]) for one in those]


def rows_of(points: Iterable[Point]) -> list[Row]:
    """Each point, then the mean curve where there are several sequences; both in the order of codecs and rates."""
    return with_means(
        Row(p.codec, p.sequence, p.level, p.bytes, p.bpp, p.kbps, {name: p.figures[name] for name in p.asked})
        for p in points
    )


def with_means(of_sequences: Iterable[Row]) -> list[Row]:
    """These rows and those of the mean curve, in the order of codecs and rates."""
    rows = list(of_sequences)
    sequences = list(dict.fromkeys(row.sequence for row in rows))
    if len(sequences) > 1:
        for codec, level in dict.fromkeys((row.codec, row.level) for row in rows):
            same = [row for row in rows if (row.codec, row.level) == (codec, level)]
            rows += [_mean(same)] if len(same) == len(sequences) else []
    order = {name: number for number, name in enumerate(dict.fromkeys(row.codec for row in rows))}
    places = {name: number for number, name in enumerate([*sequences, MEAN])}
    return sorted(rows, key=lambda row: (places[row.sequence], order[row.codec], row.bpp))


def main_sequence(rows: Sequence[Row]) -> str:
    """The mean curve where there is one."""
    return MEAN if any(row.sequence == MEAN for row in rows) else rows[0].sequence


def mean_of_all(values: Iterable[float | None]) -> float | None:
    """None where one of them lacks."""
    whole = list(values)
    known = [value for value in whole if value is not None]
    return fmean(known) if len(known) == len(whole) else None


def _mean(rows: Sequence[Row]) -> Row:
    return replace(
        rows[0],
        sequence=MEAN,
        bytes=sum(row.bytes for row in rows),
        bpp=fmean(row.bpp for row in rows),
        kbps=fmean(row.kbps for row in rows),
        # Another may have been asked for fewer.
        figures={name: mean_of_all(row.figures.get(name) for row in rows) for name in rows[0].figures},
    )


def differences(
    rows: Sequence[Row], anchor: str, metrics: Sequence[str], smallest_overlap: float = SMALLEST_OVERLAP
) -> list[Difference]:
    """Every codec against the anchor, for every sequence, the mean curve and the mean over sequences."""
    codecs = [name for name in dict.fromkeys(row.codec for row in rows) if name != anchor]
    sequences = list(dict.fromkeys(row.sequence for row in rows))
    found = []
    for codec, metric in product(codecs, metrics):
        each = [_difference(rows, codec, anchor, sequence, metric, smallest_overlap) for sequence in sequences]
        found += each
        if MEAN in sequences:
            found.append(_average([one for one in each if one.sequence != MEAN]))
    return found


def _difference(
    rows: Sequence[Row], codec: str, anchor: str, sequence: str, metric: str, smallest_overlap: float
) -> Difference:
    try:
        pair = [_curve(rows, name, sequence, metric) for name in (anchor, codec)]
    except GnvcError as error:
        return Difference(codec, sequence, metric, reason=str(error))
    lower = ALL_METRICS[metric].lower_is_better
    found, reasons = {}, []
    for what, delta in (("rate", bd_rate), ("value", bd_metric)):
        try:
            found[what] = delta(pair[0], pair[1], lower, smallest_overlap=smallest_overlap)
        except GnvcError as error:
            reasons.append(str(error))
    values = {what: one.value for what, one in found.items()}
    overlap = found["rate"].overlap if "rate" in found else None
    return Difference(codec, sequence, metric, **values, overlap=overlap, reason="; ".join(reasons) or None)


def _curve(rows: Sequence[Row], codec: str, sequence: str, metric: str) -> Curve:
    own = [row for row in rows if (row.codec, row.sequence) == (codec, sequence)]
    known = [(row.bpp, value) for row in own if (value := row.figures.get(metric)) is not None]
    if len(known) < len(own) or not own:
        raise GnvcError(f"{codec} has no {metric} at {len(own) - len(known) or 'all'} of its points")
    return Curve([rate for rate, _ in known], [value for _, value in known])


def _average(each: Sequence[Difference]) -> Difference:
    lacking = [one.sequence for one in each if one.rate is None]
    return replace(
        each[0],
        sequence=OF_SEQUENCES,
        rate=mean_of_all(one.rate for one in each),
        value=mean_of_all(one.value for one in each),
        overlap=None,
        reason=f"there is none for {', '.join(lacking)}" if lacking else None,
    )
