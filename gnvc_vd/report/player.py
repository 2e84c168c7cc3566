"""Contents of a report's video player: streams of similar rates, the default pair, and browser-playable copies.

points ──each codec's nearest to each rate──▶ levels ──as many sequences as fit on a page──▶ copies, default pair
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from gnvc_vd.common.strict import require
from gnvc_vd.evaluate.compare import METRICS
from gnvc_vd.evaluate.evaluation import Evaluation
from gnvc_vd.evaluate.points import Point
from gnvc_vd.evaluate.run import player_path

MAX_VIDEO_BYTES = 200_000_000  # bytes of all videos; browsers cannot hold a string twice as long
EQUAL_RATE = math.log(1.1)  # rates count as equal if one is at most 10% above the other
SOURCE = "source"
PlayerLevels = dict[str, dict[str, dict[str, int]]]  # sequence → codec → index of the rate → level


@dataclass(frozen=True)
class Selection:
    """The player's initial selection; `rate` is an index of the rates."""

    sequence: str
    rate: int
    left: str
    right: str


def main_metric(metrics: Sequence[str], points: Sequence[Point]) -> str:
    """The metric that stands for visual quality: the first of METRICS that has values."""
    known = [name for name in METRICS if name in metrics]
    return next((name for name in known if any(one.figures[name] is not None for one in points)), known[0])


def default_pair(evaluation: Evaluation, codecs: Sequence[str]) -> tuple[str, str]:
    """The default pair: our first codec, and x265, else the anchor, else the next codec, else the source."""
    entries = {name: evaluation.codecs[name] for name in codecs if name in evaluation.codecs}
    left = next((name for name, one in entries.items() if one.ours), codecs[0])
    x265 = [name for name, one in entries.items() if one.hybrid and one.hybrid.encoder == "x265"]
    anchor = [name for name in codecs if name == evaluation.report.anchor]
    candidates = [*x265, *anchor, *codecs, SOURCE]
    return left, next(name for name in candidates if name != left)


def most_different_pair(pairs: Sequence[tuple[Point, Point]], metric: str) -> int:
    """Index of the pair whose metric differs most (either way) at equal rates; else of the pair nearest in rate."""
    places = range(len(pairs))

    def rate_difference(place: int) -> float:
        one, other = pairs[place]
        return abs(math.log(one.bpp / other.bpp))

    def difference(place: int) -> float:
        one, other = (point.figures.get(metric) for point in pairs[place])
        return -1 if one is None or other is None else abs(one - other)

    equal = [place for place in places if rate_difference(place) <= EQUAL_RATE]
    return max(equal, key=difference) if equal else min(places, key=rate_difference)


def player_rates(points: Sequence[Point], pair: tuple[str, str], metric: str) -> tuple[float, ...]:
    """Default rates: the one rate at which the pair's metric differs most."""
    left, right = ([one for one in points if one.codec == codec] for codec in pair)
    pairs = [(one, other) for one, other in product(left, right) if one.sequence == other.sequence]
    if not pairs:
        return (float(f"{sorted(one.bpp for one in points)[len(points) // 2]:.3g}"),)
    one, other = pairs[most_different_pair(pairs, metric)]
    return (float(f"{math.sqrt(one.bpp * other.bpp):.3g}"),)


def initial_selection(
    points: Sequence[Point], available: PlayerLevels, pair: tuple[str, str], metric: str
) -> Selection:
    """The initial selection: the available sequence and rate at which the pair's metric differs most."""
    by_place = {(one.sequence, one.codec, one.level): one for one in points}
    left, right = pair

    def point_of(sequence: str, codec: str, rate: str) -> Point:
        return by_place[sequence, codec, available[sequence][codec][rate]]

    places = [
        (sequence, rate)
        for sequence, levels in available.items()
        if left in levels and right in levels
        for rate in levels[left]
    ]
    if not places:
        sequence, levels = next(iter(available.items()))
        return Selection(sequence, 0, left if left in levels else next(iter(levels)), SOURCE)
    pairs = [(point_of(sequence, left, rate), point_of(sequence, right, rate)) for sequence, rate in places]
    sequence, rate = places[most_different_pair(pairs, metric)]
    return Selection(sequence, int(rate), left, right)


def nearest_point(points: Sequence[Point], rate: float) -> Point:
    """The point nearest to a rate in octaves, so that half and twice the rate are equally far."""
    return min(points, key=lambda one: (abs(math.log(one.bpp / rate)), one.level))


def player_levels(points: Sequence[Point], rates: Sequence[float]) -> PlayerLevels:
    """Each codec's levels nearest to the rates, for every sequence."""
    available: PlayerLevels = {}
    for sequence, codec in dict.fromkeys((one.sequence, one.codec) for one in points):
        own = [one for one in points if (one.sequence, one.codec) == (sequence, codec)]
        levels = {str(place): nearest_point(own, rate).level for place, rate in enumerate(rates)}
        available.setdefault(sequence, {})[codec] = levels
    return available


def sequences_that_fit(available: PlayerLevels, requested: Sequence[str], folder: Path) -> PlayerLevels:
    """The requested sequences that fit on the page; the first always does."""
    asked = requested or tuple(available)
    absent = ", ".join(name for name in asked if name not in available)
    require(not absent, f"report.shown: there is no sequence {absent}; there are {', '.join(available)}")
    kept: PlayerLevels = {}
    size = 0
    for name in asked:
        size += sum(path.stat().st_size for path in video_paths(folder, {name: available[name]}).values())
        if kept and size > MAX_VIDEO_BYTES:
            break
        kept[name] = available[name]
    return kept


def video_paths(folder: Path, available: PlayerLevels) -> dict[str, Path]:
    paths = {f"{SOURCE}/{sequence}": player_path(folder, SOURCE, sequence) for sequence in available}
    for sequence, codecs in available.items():
        for codec, levels in codecs.items():
            for level in set(levels.values()):
                paths[f"{codec}/{sequence}/{level}"] = player_path(folder, codec, sequence, level)
    return paths


def embed_videos(paths: Mapping[str, Path]) -> dict[str, str]:
    """Videos as base64, by the player's keys."""
    return {key: base64.b64encode(path.read_bytes()).decode() for key, path in paths.items()}
