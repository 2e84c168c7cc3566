"""What a diffusion prior is worth: its loss by σ, and what it makes of degraded latents, beside a linear denoiser.

python -m lab.probe_prior MODEL VIDEO… [--fit SOURCE…] [--samples PNG]

Figures are means over the videos, which neither the model nor the linear denoiser should know (docs/evaluation.md). The
samples' rows are, for each video: the original; samples with nothing given, the first frame, the first and the last.

    clean ──path──▶ x_σ ──velocity──▶ v̂                     losses: ‖v̂ − v‖² by σ, of the model given nothing, the first
                                                            frame, first and last; of v̂ = 0; of the linear denoiser
    clean ──degraded──▶ x_c ──start──▶ x(σ_0) ──euler──▶ x̂   attempts: the error of x̂ beside that of x_c
    noise ──euler──▶ latents ──VAE──▶ video                 samples

Errors of latents are squared errors over the clean latents' variance about each channel's mean, in dB: at 0 dB nothing
is known of a clip but those means.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gnvc_vd.backbone import flow
from gnvc_vd.backbone.flow import Velocity, euler
from gnvc_vd.backbone.image_condition import FIRST, FIRST_AND_LAST, NOTHING, condition_on
from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.backbone.weights import Backbone, load_backbone, random_backbone
from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import SPATIAL_STRIDE, Frame, GnvcError, UsageError
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.metrics.block_transform import BLOCK
from gnvc_vd.metrics.ideal import IdealCode
from gnvc_vd.presets import PRESETS
from gnvc_vd.train.losses import flow_matching
from gnvc_vd.train.plan import BatchDraws
from gnvc_vd.train.stages.prior_stage import SIGMAS
from gnvc_vd.video.pictures import sheets, write_picture
from gnvc_vd.video.pixels import pixels_of, to_frames, to_model
from lab.linear_denoiser import LinearDenoiser
from lab.probe_clips import middle_clips, training_clips

STARTS = (0.05, 0.1, 0.2, 0.3, 0.5)  # σ_0 of refinement
USUAL = 0.3  # the paper's
STEPS = (1, 5)
SUPPOSED = (0.01, 0.02, *STARTS)  # σ of the noise that damage is taken for
SMALLEST = 1e-10  # what an error of 0 counts as
REFINING = 2  # of the model's conditions, what refinement is tried with: nothing and the first frame
AS_IT_IS, LINEAR = "as it is", "linear"


@dataclass(frozen=True)
class Predictor:
    """A velocity with a name."""

    name: str
    velocity: Velocity


@dataclass(frozen=True)
class Loss:
    """Flow matching's, of one predictor at one σ; of one clip and one noise, or the mean of some."""

    predictor: str
    sigma: float
    loss: float


@dataclass(frozen=True)
class Degraded:
    """Latents that something was done to."""

    by: str
    latents: Tensor


@dataclass(frozen=True)
class Attempt:
    """How near the clean latents degraded ones are, or are brought; of one clip, or the mean of some."""

    degraded: str
    mended: str
    sigma: float | None  # where refinement began, or the noise that was supposed
    error: float  # dB


ZERO = Predictor("zero", lambda x, _: torch.zeros_like(x))


@torch.inference_mode()
def predictors_of(backbone: Backbone, video: Tensor) -> list[Predictor]:
    """The model with each kind of condition that it was made for, for a video 1 3 1+4k H W in [−1, 1]."""
    kinds = {"nothing": NOTHING, "first frame": FIRST, "first and last": FIRST_AND_LAST}
    if not backbone.dit_preset.condition_channels:
        kinds = {"nothing": NOTHING}
    return [
        Predictor(name, partial(backbone.dit.velocity, condition=condition_on(backbone.vae, video, given)))
        for name, given in kinds.items()
    ]


@torch.inference_mode()
def losses(predictors: Sequence[Predictor], clean: Tensor, draws: BatchDraws, noises: int) -> Iterator[Loss]:
    """Each predictor's at each σ, for so many noises, the same ones for all."""
    for _ in range(noises):
        noise = draws.normal_like(clean)
        wanted = flow.velocity(clean, noise, 1.0)
        for sigma in SIGMAS:
            x = flow.path(clean, noise, torch.full((len(clean),), sigma).to(clean), 1.0)
            for one in predictors:
                yield Loss(one.name, sigma, float(flow_matching(one.velocity(x, sigma), wanted).mean()))


@torch.inference_mode()
def degradations(clean: Tensor, pixels: int, rates: Sequence[float], rounding: Sequence[float]) -> list[Degraded]:
    """By the probe's ideal code at rates in bits per pixel, by rounding to multiples, by a blur over places."""
    code = IdealCode(clean.cpu())
    coded = [Degraded(f"coded at {rate:g} bpp", code.at_bits(rate * pixels).latents.to(clean)) for rate in rates]
    rounded = [Degraded(f"rounded to {step:g}", step * (clean / step).round()) for step in rounding]
    return [*coded, *rounded, Degraded("blurred", _blurred(_blurred(clean, 3), 4))]


@torch.inference_mode()
def attempts(
    degraded: Degraded, clean: Tensor, linear: LinearDenoiser | None, predictors: Sequence[Predictor], noise: Tensor
) -> Iterator[Attempt]:
    """All that is tried on degraded latents: refinement from noise added to them, and damage taken for noise."""
    x = degraded.latents
    yield Attempt(degraded.by, AS_IT_IS, None, error(x, clean))
    if linear is not None:
        for sigma in SUPPOSED:
            yield Attempt(degraded.by, LINEAR, sigma, error(linear.clean((1 - sigma) * x, sigma), clean))
        for sigma in STARTS:
            estimate = linear.clean(flow.start_point(x, noise, sigma), sigma)
            yield Attempt(degraded.by, f"{LINEAR}, 1 step", sigma, error(estimate, clean))
    for one in predictors:
        for sigma in SUPPOSED:
            taken = (1 - sigma) * x
            estimate = flow.estimate(taken, sigma, one.velocity(taken, sigma))
            yield Attempt(degraded.by, f"{one.name}, no noise", sigma, error(estimate, clean))
        for steps in STEPS:
            name = f"{one.name}, {steps} step{'s' * (steps > 1)}"
            for sigma in STARTS:
                refined = euler(one.velocity, flow.start_point(x, noise, sigma), flow.grid(sigma, steps))
                yield Attempt(degraded.by, name, sigma, error(refined, clean))


@torch.inference_mode()
def samples(predictors: Sequence[Predictor], vae: VideoVae, noise: Tensor, steps: int) -> dict[str, Frame]:
    """What each makes of the same noise: T H W 3 by its name."""
    made = {one.name: euler(one.velocity, noise, flow.grid(1.0, steps)) for one in predictors}
    return {name: to_frames(vae.decode(latents)[0]) for name, latents in made.items()}


def error(x: Tensor, clean: Tensor) -> float:
    """In dB, relative to the clean latents' variance."""
    variance = (clean - clean.mean((0, 2, 3, 4), keepdim=True)).double().square().mean()
    return 10 * math.log10(max(SMALLEST, float((x - clean).double().square().mean() / variance)))


def mean_losses(losses: Iterable[Loss]) -> list[Loss]:
    """Over clips and noises."""
    groups: dict[tuple[str, float], list[float]] = {}
    for one in losses:
        groups.setdefault((one.predictor, one.sigma), []).append(one.loss)
    return [Loss(*key, float(np.mean(values))) for key, values in groups.items()]


def mean_attempts(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Over clips."""
    groups: dict[tuple[str, str, float | None], list[float]] = {}
    for one in attempts:
        groups.setdefault((one.degraded, one.mended, one.sigma), []).append(one.error)
    return [Attempt(*key, float(np.mean(values))) for key, values in groups.items()]


def best_attempts(means: Iterable[Attempt]) -> list[Attempt]:
    """Each way of mending at the σ that is best for it."""
    best: dict[tuple[str, str], Attempt] = {}
    for one in means:
        if (one.degraded, one.mended) not in best or one.error < best[one.degraded, one.mended].error:
            best[one.degraded, one.mended] = one
    return list(best.values())


def _blurred(x: Tensor, dim: int) -> Tensor:
    """(1, 2, 1) / 4, edges repeated."""
    places = torch.arange(x.shape[dim], device=x.device)
    before, after = (x.index_select(dim, (places + step).clamp(0, len(places) - 1)) for step in (-1, 1))
    return (before + 2 * x + after) / 4


def main(argv: Sequence[str] | None = None) -> int:
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
    arguments = parser.parse_args(argv)
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
    linear = fit(backbone, arguments.fit, spec, arguments.fit_clips) if arguments.fit else None
    predictors = [ZERO, *([] if linear is None else [Predictor(LINEAR, linear.velocity)])]
    all_losses: list[Loss] = []
    tried: list[Attempt] = []
    pictures = []
    with tqdm(total=len(clips) * evaluations(arguments, backbone), desc="probing", unit="step", disable=None) as bar:
        for number, clip in enumerate(clips):
            video = to_model(clip[None].to(arguments.device))
            model = [count_calls(one, bar) for one in predictors_of(backbone, video)]
            clean = backbone.vae.encode(video)
            # A sequence for each purpose: what is asked of one moves no figure of another.
            draws = [BatchDraws(3 * spec.seed + purpose, [number], video.device) for purpose in range(3)]
            all_losses += losses([*predictors, *model], clean, draws[0], arguments.noises)
            noise = draws[1].normal_like(clean)
            for degraded in degradations(clean, clip[0].numel(), arguments.rates, arguments.rounding):
                tried += attempts(degraded, clean, linear, model[:REFINING], noise)
            if arguments.samples is not None:
                samples_drawn = samples(model, backbone.vae, draws[2].normal_like(clean), arguments.sample_steps)
                pictures.append(sheets(pixels_of(clip), samples_drawn)["frames"])
    show_losses(mean_losses(all_losses))
    show_attempts(mean_attempts(tried))
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


def fit(backbone: Backbone, sources: Sequence[Path], spec: ClipSpec, count: int) -> LinearDenoiser:
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
    sampling = 0 if arguments.samples is None else kinds * arguments.sample_steps
    refining = min(kinds, REFINING) * degraded * (len(STARTS) * sum(STEPS) + len(SUPPOSED))
    return kinds * len(SIGMAS) * arguments.noises + refining + sampling


def count_calls(one: Predictor, bar: "tqdm[object]") -> Predictor:
    """The same, moving the bar."""

    def velocity(x: Tensor, sigma: float) -> Tensor:
        bar.update()
        return one.velocity(x, sigma)

    return Predictor(one.name, velocity)


def show_losses(means: Sequence[Loss]) -> None:
    names = list(dict.fromkeys(one.predictor for one in means))
    print("loss at σ " + "".join(f"{name:>16}" for name in names))
    for sigma in SIGMAS:
        row = {one.predictor: one.loss for one in means if one.sigma == sigma}
        print(f"{sigma:<10}" + "".join(f"{row[name]:16.4f}" for name in names))


def show_attempts(means: Sequence[Attempt]) -> None:
    usual = {(one.degraded, one.mended): one.error for one in means if one.sigma == USUAL}
    print(f"\n{'latents':22} {'mended by':24} {'error, dB':>9} {'best σ':>7} {f'at σ = {USUAL}':>10}")
    for one in best_attempts(means):
        sigma = "" if one.sigma is None else f"{one.sigma:g}"
        other = usual.get((one.degraded, one.mended))
        there = "" if other is None else f"{other:.2f}"
        print(f"{one.degraded:22} {one.mended:24} {one.error:9.2f} {sigma:>7} {there:>10}".rstrip())


if __name__ == "__main__":
    raise SystemExit(main())
