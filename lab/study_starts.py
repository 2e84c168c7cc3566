"""Separates start from structure: contextual random, contextual measured, transform, on the same data and clock.

python -m lab.study_starts BACKBONE VIDEO… --latents FOLDER… [--seconds 300] [--only NAME] [--symbols 64]

Each codec is trained for the same time (or --steps) on the same batches with the recipe of lab/study_transform.py, and
judged by it: payloads of videos that nobody trained on, PSNR of the frames that BACKBONE makes of them. What differs
between the first two is their start alone (learned/bottleneck/contextual_start.py) and the learning rate that suits it.
Contextual codecs have tiny's sizes, but as many symbols as a 2×2 block has coefficients: no start is short of them.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.learned.bottleneck import contextual_start
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.bottleneck.transform import Transform
from gnvc_vd.presets import preset
from lab.study_transform import (
    LEARNING_RATE,
    RATE,
    RATES,
    Budget,
    Clip,
    Codec,
    Rated,
    clip_of,
    coded_points,
    mean_at_rates,
    measured_on,
    stored_latents,
    train,
    transform_rates,
)

RANDOM_RATE = 1e-3  # of a contextual codec from scratch
MEASURED_TRANSFORM_RATE = 1e-3  # at the entropy models' 4e-3 the KLT that it starts with is lost in some dozen steps
FLOATS = ("anchor_analysis.", "anchor_synthesis.", "analysis.", "synthesis.", "extractor.")  # the rest is entropy


@dataclass(frozen=True)
class Start:
    """A codec before its first step."""

    codec: Codec
    rated: list[Rated]
    rates: str  # in words


def contextual_random(latents: Tensor, symbols: int) -> Start:
    model = _contextual(symbols)
    return Start(model, [Rated(list(model.parameters()), RANDOM_RATE)], f"{RANDOM_RATE:g}")


def contextual_measured(latents: Tensor, symbols: int) -> Start:
    model = _contextual(symbols)
    contextual_start.measure(model, measured_on(latents), RATE.smallest, RATE.largest)
    floats = [one for name, one in model.named_parameters() if name.startswith(FLOATS)]
    others = [one for name, one in model.named_parameters() if not name.startswith(FLOATS)]
    rated = [Rated(others, LEARNING_RATE), Rated(floats, MEASURED_TRANSFORM_RATE)]
    return Start(model, rated, f"{LEARNING_RATE:g}, transforms {MEASURED_TRANSFORM_RATE:g}")


def transform(latents: Tensor, symbols: int) -> Start:
    model = Transform(preset("tiny").transform, RATE.thrift)
    model.measure(measured_on(latents), RATE.smallest, RATE.largest)
    return Start(model, transform_rates(model), f"{LEARNING_RATE:g}")


STARTS: dict[str, Callable[[Tensor, int], Start]] = {
    "contextual-random": contextual_random,
    "contextual-measured": contextual_measured,
    "transform": transform,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", metavar="BACKBONE", help="a model folder or preset")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument("--latents", nargs="+", required=True, metavar="FOLDER", help="of precompute_latents.py")
    parser.add_argument("--seconds", type=float, default=300.0, help="of each training (300)")
    parser.add_argument("--steps", type=int, help="of each training, in place of seconds")
    parser.add_argument("--only", choices=STARTS, metavar="NAME", help=f"one of {', '.join(STARTS)}")
    parser.add_argument("--symbols", type=int, default=64, help="of contextual codecs (64; tiny has 32)")
    parser.add_argument("--size", type=int, default=256, help="of the crop from the middle (256)")
    arguments = parser.parse_args(argv)
    try:
        study(arguments)
    except GnvcError as error:
        print(f"study_starts: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def study(arguments: argparse.Namespace) -> None:
    vae = load_backbone(arguments.backbone).vae
    clips = [clip_of(vae, path, arguments.size) for path in arguments.videos]
    latents = stored_latents(vae, arguments.latents)
    budget = Budget(arguments.steps, arguments.seconds)
    length = f"{budget.seconds:g} s" if budget.steps is None else f"{budget.steps} steps"
    print(f"PSNR in dB at bits per pixel, before → after {length} on {len(latents)} clips, mean of {len(clips)} videos")
    print()
    print("| codec | M parameters | learning rate | steps | " + " | ".join(f"{one:g}" for one in RATES) + " |")
    print("|---" * (4 + len(RATES)) + "|", flush=True)
    for name in [arguments.only] if arguments.only else STARTS:
        torch.manual_seed(0)
        print(row(name, STARTS[name](latents, arguments.symbols), latents, budget, vae, clips), flush=True)


def row(name: str, start: Start, latents: Tensor, budget: Budget, vae: VideoVae, clips: Sequence[Clip]) -> str:
    """Judged, trained, and judged again."""
    parameters = sum(one.numel() for one in start.codec.parameters()) / 1e6
    before = mean_at_rates(list(coded_points(start.codec, vae, clips)))
    steps = train(start.codec, latents, budget, start.rated)
    after = mean_at_rates(list(coded_points(start.codec, vae, clips)))
    taken = f"{steps.taken}" + (f" ({steps.skipped} more not finite)" if steps.skipped else "")
    cells = [f"{_decibels(old)} → {_decibels(new)}" for old, new in zip(before, after, strict=True)]
    return "| " + " | ".join([name, f"{parameters:.2f}", start.rates, taken, *cells]) + " |"


def _decibels(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _contextual(symbols: int) -> Contextual:
    return Contextual(dataclasses.replace(preset("tiny").contextual, symbols=symbols), RATE.thrift)


if __name__ == "__main__":
    raise SystemExit(main())
