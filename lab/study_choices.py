"""What an encoder could gain by choosing, GOP by GOP, how it codes: rotation and thrift, or qualities of latents.

python -m lab.study_choices MODEL VIDEO… --out DIR [--gops 2] [--patterns FILE] [--metrics psnr_rgb,vmaf]

MODEL has either latent codec. Of every video the first GOPs of 25 frames are coded, 256×256 from the middle, at a few
qualities in every way, and decoded without refinement. A choice is by what a decoder shows: in each GOP and at each
quality the way with the smallest D + λR, with the slope that the usual way has there. The chosen GOPs make a file, as
those of every single way do, and another process decodes the files (lab.coded_files); figures are kept in
DIR/rows.jsonl. Printed as Markdown: for each way, and for the choice, the rate in percent of the usual way's at equal
figures (BD-rate).

Ways of the transform codec are lengths of its rotation and the thrift of rounding; a unit of the format holds either.
Those of the contextual codec are patterns of qualities over a GOP's seven latents: the package's two policies, and with
--patterns those of a file, as lab.study_offsets learns them, under the numbers that follow.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from gnvc_vd.bitstream import Header, Unit, pack_stream
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.codecs.load import load
from gnvc_vd.conventions import Frame
from gnvc_vd.learned.bottleneck.policies import POLICIES, Policy
from gnvc_vd.learned.bottleneck.transform import Transform
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd, Gop
from gnvc_vd.metrics.bdrate import Curve, CurveError, bd_rate
from gnvc_vd.report.curves import Row
from lab.coded_files import (
    Pattern,
    clips,
    decode_apart,
    exit_code,
    info_of,
    keep,
    levels_of,
    measured,
    pattern_decoders,
    read_patterns,
    write_video,
)

LEVELS = (10, 24, 38)
ROTATIONS, THRIFTS = (7, 4), (0.12, 0.2)  # the usual first
CHOSEN = "chosen"
SETTINGS = EncodeOptions(scenecut=False)


@dataclass(frozen=True)
class Point:
    bits: int
    error: float  # mean squared, of 8-bit RGB


Way = Callable[[int, Gop, int], Unit]  # of a GOP's number, its latents and a quality
Points = list[Point]  # at each level


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--gops", type=int, default=2, metavar="N", help="of each video (2)")
    parser.add_argument("--patterns", type=Path, metavar="FILE", help="of lab.study_offsets")
    parser.add_argument("--metrics", default="psnr_rgb,vmaf", metavar="NAME,…")
    arguments = parser.parse_args(argv)
    return exit_code("study_choices", lambda: study(load(arguments.model), arguments))


@torch.inference_mode()
def study(codec: GnvcVd, arguments: argparse.Namespace) -> None:
    patterns = read_patterns(arguments.patterns)
    ways = transform_ways(codec) if isinstance(codec.bottleneck, Transform) else pattern_ways(codec, patterns)
    metrics, rows = arguments.metrics.split(","), list[Row]()
    arguments.out.mkdir(parents=True, exist_ok=True)
    given = arguments.out / "patterns.json"
    given.write_text(json.dumps(patterns), encoding="utf-8")
    print(f"| video | {' | '.join([*list(ways)[1:], CHOSEN])} | chosen |")
    print("|" + "---|" * (len(ways) + 2), flush=True)
    for path in arguments.videos:
        clip = np.stack(list(clips(path, arguments.gops)))
        original = arguments.out / f"{path.stem}.mkv"
        write_video(original, clip.reshape(-1, *clip.shape[2:]))
        header = codec.header(info_of(clip[0]), SETTINGS)
        coded, chosen = code(codec, header, clip, ways, patterns)
        files = write_files(arguments.out / path.stem, header, coded)
        first = {file.read_bytes(): file for file in reversed(files.values())}  # equal streams are measured once
        command, options = ["lab.coded_files", arguments.model], ["--patterns", str(given), "--steps", "0"]
        shown = decode_apart(command, list(first.values()), arguments.out / path.stem, options)
        figures = dict[bytes, Row]()
        for (data, file), decoded in zip(first.items(), shown, strict=True):
            pair, size = (original, decoded), file.stat().st_size
            figures[data] = measured("", path.stem, 0, size, pair, metrics, clip[..., 0].size)
        for (name, level), file in files.items():
            rows.append(replace(figures[file.read_bytes()], codec=name, level=level))
        keep(arguments.out / "rows.jsonl", rows)
        own = [row for row in rows if row.sequence == path.stem]
        cells = [compared(own, next(iter(ways)), name, metrics) for name in [*list(ways)[1:], CHOSEN]]
        shares = ", ".join(f"{name} {chosen.count(name)}" for name in ways if name in chosen)
        print(f"| {path.stem} | {' | '.join(cells)} | {shares} |", flush=True)


def transform_ways(codec: GnvcVd) -> dict[str, Way]:
    def way(rotation: int, thrift: float) -> Way:
        def encode(index: int, gop: Gop, quality: int) -> Unit:
            bottleneck = codec.bottleneck
            assert isinstance(bottleneck, Transform)
            for model in (bottleneck.smooth, bottleneck.details, bottleneck.higher):
                model.thrift = thrift
            return codec.encode_gop(index, gop, quality, replace(SETTINGS, rotation=rotation))

        return encode

    first = {f"rotations of {one}": way(one, THRIFTS[0]) for one in ROTATIONS}
    return first | {f"thrift {one:g}": way(ROTATIONS[0], one) for one in THRIFTS[1:]}


def pattern_ways(codec: GnvcVd, patterns: dict[str, Pattern]) -> dict[str, Way]:
    def known(policy: Policy) -> Way:
        return lambda index, gop, quality: codec.encode_gop(index, gop, quality, replace(SETTINGS, policy=policy))

    def added(number: int, pattern: Pattern) -> Way:
        def encode(index: int, gop: Gop, quality: int) -> Unit:
            unit = codec.encode_levels(index, gop, quality, levels_of(pattern, quality), SETTINGS)
            return replace(unit, policy=number)

        return encode

    return {name: known(name) for name in POLICIES} | {
        name: added(number, pattern) for number, (name, pattern) in enumerate(patterns.items(), start=len(POLICIES))
    }


def code(
    codec: GnvcVd, header: Header, clip: Frame, ways: dict[str, Way], patterns: dict[str, Pattern]
) -> tuple[dict[tuple[str, int], list[Unit]], list[str]]:
    """Units of all GOPs in every way and in the chosen ones, by name and level; and what was chosen, of each."""
    decoder = pattern_decoders(codec, patterns)(header, DecodeOptions(steps=0))
    coded: dict[tuple[str, int], list[Unit]] = {(name, level): [] for name in [*ways, CHOSEN] for level in LEVELS}
    taken = list[str]()
    for index, frames in enumerate(clip):
        (gop,) = codec.latents(frames, SETTINGS)
        points = dict[str, Points]()
        for name, way in ways.items():
            points[name] = []
            for level in LEVELS:
                unit = way(index, gop, level)
                shown = np.concatenate(list(decoder.frames(unit)))
                error = float(np.square(shown.astype(np.float64) - frames).mean())
                points[name].append(Point(8 * unit.size, error))
                coded[name, level].append(unit)
        best = choose(points, next(iter(ways)))
        for level, name in zip(LEVELS, best, strict=True):
            coded[CHOSEN, level].append(coded[name, level][index])
        taken += best
    return coded, taken


def write_files(folder: Path, header: Header, coded: dict[tuple[str, int], list[Unit]]) -> dict[tuple[str, int], Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = {(name, level): folder / f"{name} {level}.gnvc" for name, level in coded}
    for key, units in coded.items():
        files[key].write_bytes(pack_stream(header, units))
    return files


def choose(ways: dict[str, Points], usual: str) -> list[str]:
    """The best way at each level."""
    known, best = ways[usual], []
    for level in range(len(known)):
        low, high = known[max(level - 1, 0)], known[min(level + 1, len(known) - 1)]
        costs = {name: each[level].error + slope_between(low, high) * each[level].bits for name, each in ways.items()}
        best.append(min(costs, key=lambda name: costs[name]))
    return best


def slope_between(low: Point, high: Point) -> float:
    """λ: squared error that a bit is worth."""
    return (low.error - high.error) / max(1, high.bits - low.bits)


def compared(rows: Sequence[Row], anchor: str, test: str, metrics: Sequence[str]) -> str:
    """A curve's rate in percent of the anchor's, at equal figures of each metric."""
    percents = [rate_of(rows, anchor, test, metric) for metric in metrics]
    return " / ".join("–" if math.isnan(one) else f"{one:+.1f} %" for one in percents)


def rate_of(rows: Sequence[Row], anchor: str, test: str, metric: str) -> float:
    """BD-rate in percent; not a number where the curves share too little."""
    usual, other = (curve(rows, name, metric) for name in (anchor, test))
    try:
        return bd_rate(usual, other).value
    except CurveError:
        return math.nan


def curve(rows: Sequence[Row], name: str, metric: str) -> Curve:
    own = [row for row in rows if row.codec == name]
    return Curve([row.bpp for row in own], [math.nan if (one := row.figures[metric]) is None else one for row in own])


if __name__ == "__main__":
    raise SystemExit(main())
