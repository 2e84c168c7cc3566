"""What a diffusion prior is worth: its loss by σ, and what it makes of degraded latents, beside a linear denoiser.

python lab/probe_prior.py MODEL VIDEO… [--fit SOURCE…] [--samples PNG]

Figures are means over the videos, which neither the model nor the linear denoiser should know (docs/evaluation.md). The
samples' rows are, for each video: the original; samples with nothing given, the first frame, the first and the last.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gnvc_vd.backbone.weights import Backbone, load_backbone, random_backbone
from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import SPATIAL_STRIDE, GnvcError, UsageError
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.metrics.block_transform import BLOCK
from gnvc_vd.presets import PRESETS
from gnvc_vd.train.plan import BatchDraws
from gnvc_vd.train.stages.prior_stage import SIGMAS
from gnvc_vd.video.pictures import sheets, write_picture
from gnvc_vd.video.pixels import pixels_of, to_model
from lab import prior_probe as prior
from lab.linear_denoiser import LinearDenoiser
from lab.prior_probe import Attempt, Loss, Predictor
from lab.probe_clips import middle_clips, training_clips

REFINING = 2  # of the model's conditions, what refinement is tried with: nothing and the first frame


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="a model folder or preset")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument(
        "--fit", nargs="+", type=Path, default=[], metavar="SOURCE",
        help="manifests (.jsonl) or videos to fit the linear denoiser on; without any it is left out",
    )  # fmt: skip
    parser.add_argument("--fit-clips", type=int, default=64, metavar="N", help="of all sources together (64)")
    parser.add_argument("--samples", type=Path, metavar="PNG", help="write samples there")
    parser.add_argument("--sample-steps", type=int, default=30, metavar="L", help="(30)")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.02, 0.006], help="bits per pixel (0.02 0.006)")
    parser.add_argument("--rounding", nargs="+", type=float, default=[1.0], help="steps, in normalised latents (1.0)")
    parser.add_argument("--noises", type=int, default=4, help="for each clip and σ (4)")
    parser.add_argument("--frames", type=int, default=25, help="the first so many, 1 + 4k (25)")
    parser.add_argument("--size", type=int, default=256, help="of the crop from the middle (256)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", action="store_true", help="random weights at the preset's sizes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    try:
        probe(arguments)
    except GnvcError as error:
        print(f"probe_prior: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def probe(arguments: argparse.Namespace) -> None:
    check(arguments)
    spec = ClipSpec(arguments.frames, arguments.size, arguments.size, seed=arguments.seed)
    clips = [next(middle_clips(path, spec.frames, spec.width)) for path in arguments.videos]
    random = arguments.random and arguments.model in PRESETS
    backbone = random_backbone(PRESETS[arguments.model]) if random else load_backbone(arguments.model)
    backbone.to(arguments.device)
    linear = fitted(backbone, arguments.fit, spec, arguments.fit_clips) if arguments.fit else None
    known = [prior.ZERO, *([] if linear is None else [Predictor(prior.LINEAR, linear.velocity)])]
    losses: list[Loss] = []
    attempts: list[Attempt] = []
    pictures = []
    with tqdm(total=len(clips) * evaluations(arguments, backbone), desc="probing", unit="step", disable=None) as bar:
        for number, clip in enumerate(clips):
            video = to_model(clip[None].to(arguments.device))
            model = [counted(one, bar) for one in prior.predictors_of(backbone, video)]
            clean = backbone.vae.encode(video)
            # A sequence for each purpose: what is asked of one moves no figure of another.
            draws = [BatchDraws(3 * spec.seed + purpose, [number], video.device) for purpose in range(3)]
            losses += prior.losses([*known, *model], clean, draws[0], arguments.noises)
            noise = draws[1].normal_like(clean)
            for degraded in prior.degradations(clean, clip[0].numel(), arguments.rates, arguments.rounding):
                attempts += prior.attempts(degraded, clean, linear, model[:REFINING], noise)
            if arguments.samples is not None:
                shown = prior.samples(model, backbone.vae, draws[2].normal_like(clean), arguments.sample_steps)
                pictures.append(sheets(pixels_of(clip), shown)["frames"])
    show_losses(prior.mean_losses(losses))
    show_attempts(prior.mean_attempts(attempts))
    if arguments.samples is not None:
        with replacing(arguments.samples) as part:
            write_picture(part, np.concatenate(pictures))


def check(arguments: argparse.Namespace) -> None:
    """What would else be found out after minutes."""
    block = BLOCK * SPATIAL_STRIDE
    if arguments.fit and arguments.size % block:
        raise UsageError(f"the linear denoiser takes blocks of {block} pixels; {arguments.size} is no multiple of that")
    if min(arguments.fit_clips, arguments.noises, arguments.sample_steps) < 1:
        raise UsageError("--fit-clips, --noises and --sample-steps are at least 1")
    if min(*arguments.rates, *arguments.rounding) <= 0:
        raise UsageError("--rates and --rounding are above 0")
    judged = {Path(video).resolve() for video in arguments.videos}
    for source in arguments.fit:
        if source.resolve() in judged:
            raise UsageError(f"{source} is judged: the linear denoiser is fitted on other clips")
    if arguments.samples is not None and not arguments.samples.parent.is_dir():
        raise GnvcError(f"cannot write {arguments.samples}: there is no folder {arguments.samples.parent}")


def fitted(backbone: Backbone, sources: Sequence[Path], spec: ClipSpec, count: int) -> LinearDenoiser:
    """On as many clips of each source, as far as it has them."""
    share = -(-count // len(sources))
    latents: list[Tensor] = []
    with tqdm(total=share * len(sources), desc="fitting", unit="clip", disable=None) as bar:
        for source in sources:
            for clip in training_clips(source, spec, share):
                latents.append(backbone.vae.encode(to_model(clip[None].to(backbone.vae.mean.device))).cpu())
                bar.update()
    return LinearDenoiser(torch.cat(latents))


def evaluations(arguments: argparse.Namespace, backbone: Backbone) -> int:
    """Of the model, for a clip."""
    kinds = 3 if backbone.dit_preset.condition_channels else 1
    degraded = len(arguments.rates) + len(arguments.rounding) + 1
    samples = 0 if arguments.samples is None else kinds * arguments.sample_steps
    refining = min(kinds, REFINING) * degraded * (len(prior.STARTS) * sum(prior.STEPS) + len(prior.SUPPOSED))
    return kinds * len(SIGMAS) * arguments.noises + refining + samples


def counted(one: Predictor, bar: "tqdm[object]") -> Predictor:
    """The same, moving the bar."""

    def velocity(x: Tensor, sigma: float) -> Tensor:
        bar.update()
        return one.velocity(x, sigma)

    return Predictor(one.name, velocity)


def show_losses(losses: Sequence[Loss]) -> None:
    names = list(dict.fromkeys(one.predictor for one in losses))
    print("loss at σ " + "".join(f"{name:>16}" for name in names))
    for sigma in SIGMAS:
        row = {one.predictor: one.loss for one in losses if one.sigma == sigma}
        print(f"{sigma:<10}" + "".join(f"{row[name]:16.4f}" for name in names))


def show_attempts(means: Sequence[Attempt]) -> None:
    usual = {(one.degraded, one.mended): one.error for one in means if one.sigma == prior.USUAL}
    print(f"\n{'latents':22} {'mended by':24} {'error, dB':>9} {'best σ':>7} {f'at σ = {prior.USUAL}':>10}")
    for one in prior.best_attempts(means):
        sigma = "" if one.sigma is None else f"{one.sigma:g}"
        other = usual.get((one.degraded, one.mended))
        there = "" if other is None else f"{other:.2f}"
        print(f"{one.degraded:22} {one.mended:24} {one.error:9.2f} {sigma:>7} {there:>10}".rstrip())


raise SystemExit(main())
