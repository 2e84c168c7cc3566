"""What refinement is worth to a codec, and where it should start: python lab/probe_refinement.py MODEL VIDEO…

Error of the decoded latents against the clean ones, before and after refinement, by quality, start σ_0, steps and scale
of the noise: means over the first GOP of the videos' middle. "apart" refines each latent as if there were no other, in
the model's own way. What is best for this error need not be best for the eye.
"""

import argparse
import sys
from itertools import product

import torch
from tqdm import tqdm

from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.codecs.load import load
from gnvc_vd.conventions import QUALITIES, GnvcError, UsageError
from lab.probe_clips import middle_clips
from lab.refinement_probe import Refined, Way, mean_of, refined


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="a model folder or preset, with a codec")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument("--qualities", nargs="+", type=int, default=[0, 21, 42, 63], metavar="Q", help="(0 21 42 63)")
    parser.add_argument("--starts", nargs="+", type=float, default=[0.05, 0.1, 0.2, 0.3], metavar="S", help="σ_0")
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 5], metavar="L", help="(1 5)")
    parser.add_argument("--noise-scales", nargs="+", type=float, default=[0.0, 1.0], metavar="X", help="(0 1)")
    parser.add_argument("--frames", type=int, default=25, help="the first so many, 1 + 4k (25)")
    parser.add_argument("--size", type=int, default=256, help="of the crop from the middle (256)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    try:
        probe(arguments)
    except GnvcError as error:
        print(f"probe_refinement: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def probe(arguments: argparse.Namespace) -> None:
    if not all(0 <= quality < QUALITIES for quality in arguments.qualities):
        raise UsageError(f"a quality is 0 to {QUALITIES - 1}")
    ways = [
        Way(Refinement(steps, start, scale))
        for steps, scale, start in product(arguments.steps, arguments.noise_scales, arguments.starts)
    ]
    clips = [next(middle_clips(path, arguments.frames, arguments.size)) for path in arguments.videos]
    codec = load(arguments.model).to(arguments.device)
    found: list[Refined] = []
    ways += [Way(codec.refinement), Way(codec.refinement, apart=True)]
    total = len(clips) * len(arguments.qualities) * len(ways)
    with tqdm(total=total, desc="probing", unit="refinement", disable=None) as bar:
        for clip in clips:
            for one in refined(codec, clip, arguments.qualities, ways):
                found.append(one)
                bar.update()
    show(mean_of(found), codec.refinement)


def show(found: list[Refined], own: Refinement) -> None:
    print(f"{'quality':>7} {'bpp':>8} {'before, dB':>10} {'after, dB':>10}   σ_0   steps  noise")
    quality = None
    for one in sorted(found, key=lambda one: (one.quality, one.after)):
        head = " " * 27 if one.quality == quality else f"{one.quality:7} {one.bpp:8.5f} {one.before:10.2f}"
        told = one.way.parameters
        way = f"{told.sigma_0:<5g} {told.steps:>5}  {told.noise_scale:<5g}"
        remark = "  apart" if one.way.apart else "  the model's own" if told == own else ""
        print(f"{head} {one.after:10.2f}   {way}{remark}")
        quality = one.quality


raise SystemExit(main())
