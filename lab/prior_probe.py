"""What a diffusion prior knows of latents that nobody trained it on, beside what is known without one.

    clean ──path──▶ x_σ ──velocity──▶ v̂                     losses: ‖v̂ − v‖² by σ, of the model given nothing, the first
                                                            frame, first and last; of v̂ = 0; of the linear denoiser
    clean ──degraded──▶ x_c ──start──▶ x(σ_0) ──euler──▶ x̂   attempts: the error of x̂ beside that of x_c
    noise ──euler──▶ latents ──VAE──▶ video                 samples

Errors of latents are squared errors over the clean latents' variance about each channel's mean, in dB: at 0 dB nothing
is known of a clip but those means.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.backbone import flow
from gnvc_vd.backbone.flow import Velocity, euler
from gnvc_vd.backbone.image_condition import FIRST, FIRST_AND_LAST, NOTHING, condition_on
from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.backbone.weights import Backbone
from gnvc_vd.conventions import Frame
from gnvc_vd.metrics.ideal import IdealCode
from gnvc_vd.train.losses import flow_matching
from gnvc_vd.train.plan import BatchDraws
from gnvc_vd.train.stages.prior_stage import SIGMAS
from gnvc_vd.video.pixels import to_frames
from lab.linear_denoiser import LinearDenoiser

STARTS = (0.05, 0.1, 0.2, 0.3, 0.5)  # σ_0 of refinement
USUAL = 0.3  # the paper's
STEPS = (1, 5)
SUPPOSED = (0.01, 0.02, *STARTS)  # σ of the noise that damage is taken for
SMALLEST = 1e-10  # what an error of 0 counts as
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
            found = linear.clean(flow.start(x, noise, sigma), sigma)
            yield Attempt(degraded.by, f"{LINEAR}, 1 step", sigma, error(found, clean))
    for one in predictors:
        for sigma in SUPPOSED:
            taken = (1 - sigma) * x
            found = flow.estimate(taken, sigma, one.velocity(taken, sigma))
            yield Attempt(degraded.by, f"{one.name}, no noise", sigma, error(found, clean))
        for steps in STEPS:
            name = f"{one.name}, {steps} step{'s' * (steps > 1)}"
            for sigma in STARTS:
                refined = euler(one.velocity, flow.start(x, noise, sigma), flow.grid(sigma, steps))
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


def mean_losses(found: Iterable[Loss]) -> list[Loss]:
    """Over clips and noises."""
    groups: dict[tuple[str, float], list[float]] = {}
    for one in found:
        groups.setdefault((one.predictor, one.sigma), []).append(one.loss)
    return [Loss(*key, float(np.mean(values))) for key, values in groups.items()]


def mean_attempts(found: Iterable[Attempt]) -> list[Attempt]:
    """Over clips."""
    groups: dict[tuple[str, str, float | None], list[float]] = {}
    for one in found:
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
