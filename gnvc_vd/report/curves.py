"""Points as rate–distortion curves, and what parts two of them.

The mean curve averages rate and figures over sequences at equal levels. A BD-rate is of one sequence, or of the mean
curve; a third figure is the mean of the sequences' BD-rates, given only where every sequence has one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from gnvc_vd.conventions import GnvcError
from gnvc_vd.evaluate.evaluation import LOWER_IS_BETTER
from gnvc_vd.evaluate.points import Point
from gnvc_vd.metrics.bdrate import SMALLEST_OVERLAP, Curve, bd_metric, bd_rate

MEAN = "mean"  # the curve that averages sequences
OF_SEQUENCES = "mean of sequences"


@dataclass(frozen=True)
class Row:
    """A point as tables and plots want it; of the mean curve, bytes are those of all sequences together."""

    codec: str
    sequence: str
    level: int
    bytes: int
    bpp: float
    kbps: float
    encode_seconds: float
    decode_seconds: float
    figures: dict[str, float | None]


@dataclass(frozen=True)
class Difference:
    """What a codec takes more, in percent of the anchor's rate, and how it lies in the metric's units at equal rate.

    `overlap` is the share of the metric's range that both curves cover, 0 … 1: what the rate was found on. One of the
    two may be there without the other.
    """

    codec: str
    sequence: str
    metric: str
    rate: float | None
    value: float | None
    reason: str | None = None  # why one of them is not there
    overlap: float | None = None


def rows_of(points: Iterable[Point]) -> list[Row]:
    """Each point, then the mean curve where there are several sequences; both in the order of codecs and rates."""
    rows = [
        Row(
            one.codec,
            one.sequence,
            one.level,
            one.bytes,
            one.bpp,
            one.kbps,
            one.encode_seconds,
            one.decode_seconds,
            {name: one.figures[name] for name in one.asked},
        )
        for one in points
    ]
    sequences = list(dict.fromkeys(row.sequence for row in rows))
    if len(sequences) > 1:
        for codec, level in dict.fromkeys((row.codec, row.level) for row in rows):
            rows.append(_mean([row for row in rows if (row.codec, row.level) == (codec, level)]))
    order = {name: number for number, name in enumerate(dict.fromkeys(row.codec for row in rows))}
    places = {name: number for number, name in enumerate([*sequences, MEAN])}
    return sorted(rows, key=lambda row: (places[row.sequence], order[row.codec], row.bpp))


def _mean(rows: Sequence[Row]) -> Row:
    figures: dict[str, float | None] = {}
    for name in rows[0].figures:  # another may have been asked for fewer
        known = [value for row in rows if (value := row.figures.get(name)) is not None]
        figures[name] = fmean(known) if len(known) == len(rows) else None
    return Row(
        rows[0].codec,
        MEAN,
        rows[0].level,
        sum(row.bytes for row in rows),
        fmean(row.bpp for row in rows),
        fmean(row.kbps for row in rows),
        sum(row.encode_seconds for row in rows),
        sum(row.decode_seconds for row in rows),
        figures,
    )


def differences(
    rows: Sequence[Row], anchor: str, metrics: Sequence[str], smallest_overlap: float = SMALLEST_OVERLAP
) -> list[Difference]:
    """Every codec against the anchor, for every sequence, the mean curve and the mean over sequences."""
    codecs = [name for name in dict.fromkeys(row.codec for row in rows) if name != anchor]
    sequences = list(dict.fromkeys(row.sequence for row in rows))
    found = []
    for codec in codecs:
        for metric in metrics:
            each = [_difference(rows, codec, anchor, sequence, metric, smallest_overlap) for sequence in sequences]
            found += each
            if MEAN in sequences:
                found.append(_averaged([one for one in each if one.sequence != MEAN]))
    return found


def _difference(
    rows: Sequence[Row], codec: str, anchor: str, sequence: str, metric: str, smallest_overlap: float
) -> Difference:
    lower = metric in LOWER_IS_BETTER
    rate = value = None
    reasons = []
    try:
        pair = [_curve(rows, name, sequence, metric) for name in (anchor, codec)]
    except GnvcError as error:
        return Difference(codec, sequence, metric, None, None, str(error))
    try:
        rate = bd_rate(pair[0], pair[1], lower, smallest_overlap=smallest_overlap)
    except GnvcError as error:
        reasons.append(str(error))
    try:
        value = bd_metric(pair[0], pair[1], lower, smallest_overlap=smallest_overlap)
    except GnvcError as error:
        reasons.append(str(error))
    return Difference(
        codec,
        sequence,
        metric,
        rate.value if rate else None,
        value.value if value else None,
        "; ".join(reasons) or None,
        rate.overlap if rate else None,
    )


def _curve(rows: Sequence[Row], codec: str, sequence: str, metric: str) -> Curve:
    own = [row for row in rows if (row.codec, row.sequence) == (codec, sequence)]
    known = [(row.bpp, value) for row in own if (value := row.figures.get(metric)) is not None]
    if len(known) < len(own) or not own:
        raise GnvcError(f"{codec} has no {metric} at {len(own) - len(known) or 'all'} of its points")
    return Curve([rate for rate, _ in known], [value for _, value in known])


def _averaged(each: Sequence[Difference]) -> Difference:
    rates, values = [one.rate for one in each], [one.value for one in each]
    lacking = [one.sequence for one in each if one.rate is None]
    return Difference(
        each[0].codec,
        OF_SEQUENCES,
        each[0].metric,
        fmean(rate for rate in rates if rate is not None) if not lacking else None,
        fmean(value for value in values if value is not None) if None not in values else None,
        f"there is none for {', '.join(lacking)}" if lacking else None,
    )
