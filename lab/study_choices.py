"""What an encoder could gain by choosing, GOP by GOP, how it codes: rotation and thrift, or qualities of latents.

python -m lab.study_choices MODEL VIDEO… [--gops 3] [--learn VIDEO…]

MODEL has either latent codec. Of every video the first GOPs of 25 frames are coded, 256×256 from the middle, at eight
qualities in every way; bits are those of the payloads, errors those of the pictures that its VAE shows of what a
decoder has, unrefined. Printed as Markdown: for each way, and for the best way of each GOP, the rate in percent of the
usual way's at equal PSNR. The best way is that of the smallest D + λR, with the slope that the usual way has there.

For the contextual codec ways are patterns of qualities over a GOP's seven latents; --learn adds one that a search finds
on other videos: from the best of the known ones, one latent's offset after the other, as long as D + λR falls.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.backbone.streaming import latents_of_frames
from gnvc_vd.bitstream import gop as gops
from gnvc_vd.codecs.load import load
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import QUALITIES, Frame, GnvcError
from gnvc_vd.learned.bottleneck.base import Payload
from gnvc_vd.learned.bottleneck.networks import DecodedLatent
from gnvc_vd.learned.bottleneck.policies import qualities
from gnvc_vd.learned.bottleneck.transform import Transform
from gnvc_vd.learned.codec import GnvcVd
from gnvc_vd.metrics.bdrate import Curve, CurveError, bd_rate
from gnvc_vd.video import open_video
from gnvc_vd.video.pixels import to_frames

SIDE, FRAMES, LATENTS = 256, 25, 7
LEVELS = (4, 10, 16, 22, 28, 34, 40, 46)
ROTATIONS, THRIFTS = (7, 4, 3, 1), (0.12, 0.0, 0.06, 0.2)  # the usual first
LEARNING_LEVELS, STEPS = (16, 28), (6, 3, -3)  # qualities at which patterns are learned; steps of the search

Pattern = tuple[int, ...]  # offsets from a GOP's quality, for each latent


@dataclass(frozen=True)
class Point:
    bits: int
    error: float  # mean squared, of 8-bit RGB


Way = Callable[[Tensor, int], tuple[int, Tensor]]  # latents and a quality to bits and decoded latents
Points = list[Point]  # at each level


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--gops", type=int, default=3, metavar="N", help="of each video (3)")
    parser.add_argument("--learn", nargs="+", type=Path, default=[], metavar="VIDEO", help="what patterns are found on")
    arguments = parser.parse_args()
    try:
        codec = load(arguments.model)
        study(codec, arguments.videos, arguments.gops, arguments.learn)
    except GnvcError as error:
        print(f"study_choices: {error}", file=sys.stderr)
        return 1
    return 0


@torch.inference_mode()
def study(codec: GnvcVd, videos: Sequence[Path], count: int, learn: Sequence[Path]) -> None:
    if isinstance(codec.bottleneck, Transform):
        ways = transform_ways(codec.bottleneck)
    else:
        ways = {name: pattern_way(codec, pattern) for name, pattern in known_patterns().items()}
        if learn:
            found = learned_pattern(codec, [clip for path in learn for clip in clips(path, 1)])
            ways[f"learned {' '.join(f'{one:+d}' for one in found)}"] = pattern_way(codec, found)
    usual = next(iter(ways))
    print(f"| video | {' | '.join(name for name in ways if name != usual)} | the best of each GOP | chosen |")
    print("|" + "---|" * (len(ways) + 2))
    for path in videos:
        each = [{name: points(codec, clip, way) for name, way in ways.items()} for clip in clips(path, count)]
        chosen = [choose(gop, usual) for gop in each]
        totals = {name: total([gop[name] for gop in each]) for name in ways}
        cells = [percent(totals[usual], totals[name]) for name in ways if name != usual]
        taken = [[gop[name][level] for level, name in enumerate(row)] for gop, row in zip(each, chosen, strict=True)]
        names = [name for row in chosen for name in row]
        shares = ", ".join(f"{name} {names.count(name)}" for name in ways if name in names)
        print(f"| {path.stem} | {' | '.join(cells)} | {percent(totals[usual], total(taken))} | {shares} |", flush=True)


def transform_ways(bottleneck: Transform) -> dict[str, Way]:
    def way(rotation: int, thrift: float) -> Way:
        def code(latents: Tensor, quality: int) -> tuple[int, Tensor]:
            for model in (bottleneck.smooth, bottleneck.details, bottleneck.higher):
                model.thrift = thrift
            return coded(bottleneck.compress(latents, qualities(quality, LATENTS), rotation))

        return code

    first = {f"rotations of {one}": way(one, THRIFTS[0]) for one in ROTATIONS}
    return first | {f"thrift {one:g}": way(ROTATIONS[0], one) for one in THRIFTS[1:]}


def known_patterns() -> dict[str, Pattern]:
    hierarchical = tuple(one - 32 for one in qualities(32, LATENTS, "hierarchical"))
    anchored = {f"anchor +{one}": (one, *(0,) * (LATENTS - 1)) for one in (6, 12)}
    return {"constant": (0,) * LATENTS, "hierarchical": hierarchical, **anchored}


def pattern_way(codec: GnvcVd, pattern: Pattern) -> Way:
    def code(latents: Tensor, quality: int) -> tuple[int, Tensor]:
        levels = [min(max(quality + offset, 0), QUALITIES - 1) for offset in pattern]
        return coded(codec.bottleneck.compress(latents, levels))

    return code


def coded(done: tuple[list[Payload], list[DecodedLatent]]) -> tuple[int, Tensor]:
    (payload,), decoded = done
    return 8 * len(payload.data), torch.stack([one.latent for one in decoded], dim=2)


def learned_pattern(codec: GnvcVd, learning: Sequence[Frame]) -> Pattern:
    """Offsets that lower D + λR, as the mean over clips and two qualities; λ is the constant pattern's slope there."""
    cases = list[tuple[Frame, Tensor, int, float]]()
    usual = pattern_way(codec, (0,) * LATENTS)
    for clip in learning:
        latents = latents_of(codec, clip)
        for level in LEARNING_LEVELS:
            low, high = (measure(codec, clip, latents, usual, level + shift) for shift in (-3, 3))
            cases.append((clip, latents, level, slope_between(low, high)))

    def cost(pattern: Pattern) -> float:
        way = pattern_way(codec, pattern)
        points = [(measure(codec, clip, latents, way, level), slope) for clip, latents, level, slope in cases]
        return fmean(point.error + slope * point.bits for point, slope in points)

    costs = {pattern: cost(pattern) for pattern in known_patterns().values()}
    found = min(costs, key=lambda pattern: costs[pattern])
    least = costs[found]
    for step in STEPS:
        for place in range(LATENTS):
            tried = tuple(one + step * (index == place) for index, one in enumerate(found))
            now = cost(tried)
            if now < least:
                found, least = tried, now
        print(f"learning, steps of {step:+d}: {found}, cost {least:.4f}", file=sys.stderr, flush=True)
    return found


def clips(path: Path, count: int) -> Iterator[Frame]:
    """Consecutive clips from the middle of a video's pictures."""
    with open_video(path) as video:
        pictures = iter(video)
        for _ in range(count):
            clip = list(islice(pictures, FRAMES))
            if len(clip) < FRAMES:
                return
            height, width = clip[0].shape[:2]
            require(min(height, width) >= SIDE, f"{path}: {width}×{height} is smaller than {SIDE}×{SIDE}", GnvcError)
            top, left = (height - SIDE) // 2, (width - SIDE) // 2
            yield np.stack([one[top : top + SIDE, left : left + SIDE] for one in clip])


def latents_of(codec: GnvcVd, clip: Frame) -> Tensor:
    return latents_of_frames(codec.backbone.vae, gops.pad(clip), codec.device)


def points(codec: GnvcVd, clip: Frame, way: Way) -> Points:
    latents = latents_of(codec, clip)
    return [measure(codec, clip, latents, way, level) for level in LEVELS]


def measure(codec: GnvcVd, clip: Frame, latents: Tensor, way: Way, level: int) -> Point:
    bits, decoded = way(latents, level)
    shown = to_frames(codec.backbone.vae.decode(decoded)[0])
    return Point(bits, float(np.square(shown.astype(np.float64) - clip).mean()))


def choose(ways: dict[str, Points], usual: str) -> list[str]:
    """The best way at each level."""
    known, best = ways[usual], []
    for level in range(len(LEVELS)):
        low, high = known[max(level - 1, 0)], known[min(level + 1, len(LEVELS) - 1)]
        costs = {name: each[level].error + slope_between(low, high) * each[level].bits for name, each in ways.items()}
        best.append(min(costs, key=lambda name: costs[name]))
    return best


def slope_between(low: Point, high: Point) -> float:
    """λ: squared error that a bit is worth."""
    return (low.error - high.error) / max(1, high.bits - low.bits)


def total(each: Sequence[Points]) -> Points:
    """Of all GOPs together, level by level."""
    return [Point(sum(p.bits for p in row), fmean(p.error for p in row)) for row in zip(*each, strict=True)]


def percent(anchor: Points, test: Points) -> str:
    usual, other = (Curve([p.bits for p in one], [-10 * math.log10(p.error) for p in one]) for one in (anchor, test))
    try:
        return f"{bd_rate(usual, other).value:+.1f} %"
    except CurveError:
        return "–"


if __name__ == "__main__":
    raise SystemExit(main())
