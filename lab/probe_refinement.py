"""What refinement is worth to a codec, and where it should start: python -m lab.probe_refinement MODEL VIDEO…

Error of the decoded latents against the clean ones, before and after refinement, by quality, start σ_0, steps and scale
of the noise: means over the first GOP of the videos' middle. "apart" refines each latent as if there were no other, in
the model's own way. What is best for this error need not be best for the eye.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor
from tqdm import tqdm

from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.codecs.load import load
from gnvc_vd.common.noise import normal
from gnvc_vd.conventions import QUALITIES, GnvcError, UsageError, bits_per_pixel
from gnvc_vd.learned.codec import GnvcVd, split_latents
from gnvc_vd.video.pixels import to_model
from lab.probe_clips import middle_clips
from lab.probe_prior import error


@dataclass(frozen=True)
class Way:
    """A way of refining: where it starts, in how many steps, and whether each latent goes as if there were no other."""

    parameters: Refinement
    apart: bool = False


@dataclass(frozen=True)
class RefinementResult:
    """A quality refined in a way; `before` and `after` in dB, relative to the clean latents' variance."""

    quality: int
    bpp: float  # of the payload alone
    way: Way
    before: float
    after: float


@torch.inference_mode()
def refine(codec: GnvcVd, clip: Tensor, qualities: Sequence[int], ways: Sequence[Way]) -> Iterator[RefinementResult]:
    """A clip, uint8 3 T H W, as one GOP and one window."""
    frames, height, width = clip.shape[1:]
    clean = codec.backbone.vae.encode(to_model(clip[None].to(codec.device)))
    noise = normal(clean.shape, (0, 0), (0, 0, 0), codec.device)
    for quality in qualities:
        payloads, decoded_latents = codec.bottleneck.compress(clean, [quality] * clean.shape[2])
        decoded = torch.stack([one.latent for one in decoded_latents], dim=2)
        features = torch.stack([one.feature for one in decoded_latents], dim=2)
        rate = bits_per_pixel(len(payloads[0].data), width, height, frames)
        before = error(decoded, clean)
        for way in ways:
            parameters = way.parameters
            start = decoded, features, parameters.noise_scale * noise
            given = map(split_latents, start) if way.apart else start
            latents = codec.refiner(*given, parameters.sigma_0, parameters.steps)
            yield RefinementResult(
                quality, rate, way, before, error(latents, split_latents(clean) if way.apart else clean)
            )


def mean_of(results: Iterable[RefinementResult]) -> list[RefinementResult]:
    """Over clips: of the rates, and of the errors in dB."""
    groups: dict[tuple[int, Way], list[RefinementResult]] = {}
    for one in results:
        groups.setdefault((one.quality, one.way), []).append(one)
    return [
        replace(
            same[0],
            bpp=sum(one.bpp for one in same) / len(same),
            before=sum(one.before for one in same) / len(same),
            after=sum(one.after for one in same) / len(same),
        )
        for same in groups.values()
    ]


def main(argv: Sequence[str] | None = None) -> int:
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
    arguments = parser.parse_args(argv)
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
    results: list[RefinementResult] = []
    ways += [Way(codec.refinement), Way(codec.refinement, apart=True)]
    total = len(clips) * len(arguments.qualities) * len(ways)
    with tqdm(total=total, desc="probing", unit="refinement", disable=None) as bar:
        for clip in clips:
            for one in refine(codec, clip, arguments.qualities, ways):
                results.append(one)
                bar.update()
    show(mean_of(results), codec.refinement)


def show(results: list[RefinementResult], own: Refinement) -> None:
    print(f"{'quality':>7} {'bpp':>8} {'before, dB':>10} {'after, dB':>10}   σ_0   steps  noise")
    quality = None
    for one in sorted(results, key=lambda one: (one.quality, one.after)):
        head = " " * 27 if one.quality == quality else f"{one.quality:7} {one.bpp:8.5f} {one.before:10.2f}"
        parameters = one.way.parameters
        way = f"{parameters.sigma_0:<5g} {parameters.steps:>5}  {parameters.noise_scale:<5g}"
        remark = "  apart" if one.way.apart else "  the model's own" if parameters == own else ""
        print(f"{head} {one.after:10.2f}   {way}{remark}")
        quality = one.quality


if __name__ == "__main__":
    raise SystemExit(main())
