"""What each phase minimises, a screen each: clips in, one number and its terms out.

    VaeStage     V ─▶ posterior ─▶ z ─▶ Ṽ                                    a VAE of our own
    PriorStage   x_1, ε ─▶ x_σ ─▶ velocity(x_σ, σ | given frames)            a transformer of our own
    CodecStage   x_1 ─▶ bottleneck ─▶ x_c, f ─▶ refiner ─▶ x̃_1 ─▶ VAE ─▶ Ṽ   warm-up, Stage I and Stage II, by weights

A clip is uint8 video B 3 T H W, or latents B 16 T h w made before. Everything random comes from the samples' numbers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gnvc_vd.backbone.conditioning import FIRST, FIRST_AND_LAST, NOTHING, condition_on
from gnvc_vd.backbone.contract import VideoVae
from gnvc_vd.backbone.dit import WanDit
from gnvc_vd.bottleneck.bottleneck import Bottleneck, Trained
from gnvc_vd.conventions import LATENT_CHANNELS, GnvcError
from gnvc_vd.data.clips import to_model
from gnvc_vd.refine import flow
from gnvc_vd.refine.refiner import Refiner
from gnvc_vd.train import losses
from gnvc_vd.train.config import Rate, Stage
from gnvc_vd.train.draws import BatchDraws, step_draws


class Step(NamedTuple):
    """Where in the training a batch stands."""

    seed: int
    number: int
    steps: int  # of the whole training
    samples: list[int]

    @property
    def progress(self) -> float:
        return self.number / max(1, self.steps)

    def draws(self, device: torch.device) -> BatchDraws:
        return BatchDraws(self.seed, self.samples, device)


class Losses(NamedTuple):
    total: Tensor
    terms: dict[str, Tensor]  # B, for the log


class VaeStage(nn.Module):
    """A video VAE: absolute and squared error, divergence, what flickers, and perception."""

    def __init__(self, stage: Stage, vae: VideoVae, perceptual: nn.Module | None) -> None:
        super().__init__()
        self.stage, self.vae, self.perceptual = stage, vae, perceptual

    def forward(self, clips: Tensor, step: Step) -> Losses:
        weights, video = self.stage.weights, to_model(clips)
        mean, log_variance = self.vae.posterior(video)
        z = mean + (log_variance / 2).exp() * step.draws(video.device).normal_like(mean)
        shown = self.vae.reconstruction(z)
        terms = {
            "absolute": losses.absolute_error(shown, video),
            "squared": losses.squared_error(shown, video),
            "divergence": losses.divergence(mean, log_variance),
            "temporal": losses.temporal_error(shown, video),
        }
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(shown, video)
        return Losses(sum(getattr(weights, name) * term.mean() for name, term in terms.items()), terms)


class PriorStage(nn.Module):
    """A video transformer by flow matching, with nothing given, the first frame, or the first and the last."""

    def __init__(self, stage: Stage, vae: VideoVae, dit: WanDit) -> None:
        super().__init__()
        self.stage, self.vae, self.dit = stage, vae, dit

    def forward(self, clips: Tensor, step: Step) -> Losses:
        draws = step.draws(clips.device)
        with torch.no_grad():
            clean = _latents(self.vae, clips)
            given = self._given(step)
            if given and clips.shape[1] == LATENT_CHANNELS:
                raise GnvcError("latents made before have no frames to be given: train with the videos themselves")
            condition = condition_on(self.vae, to_model(clips), given)
        uniform, noise = draws.uniform(), draws.normal_like(clean)
        sigma = self.stage.shift * uniform / (1 + (self.stage.shift - 1) * uniform)
        x = flow.path(clean, noise, sigma, 1.0)
        loss = losses.flow_matching(self.dit.velocity(x, sigma, condition), flow.velocity(clean, noise, 1.0))
        return Losses(self.stage.weights.cfm * loss.mean(), {"cfm": loss})

    def _given(self, step: Step) -> tuple[int, ...]:
        drawn, nothing_and_first = step_draws(step.seed, step.number).uniform(), sum(self.stage.conditions[:2])
        if drawn < self.stage.conditions[0]:
            return NOTHING
        return FIRST if drawn < nothing_and_first else FIRST_AND_LAST


class CodecStage(nn.Module):
    """GNVC-VD's codec and adaptor on a frozen backbone.

    warm-up    R + λ ‖x_c − x_1‖²
    Stage I    R + λ (‖x̃_1 − x_1‖² + ‖x_c − x_1‖²) + L_CFM
    Stage II   R + λ (‖V − Ṽ‖² + λ_lpips LPIPS(V, Ṽ) + ‖x_c − x_1‖² + ‖x̃_1 − x_1‖²)
    """

    def __init__(
        self,
        stage: Stage,
        rate: Rate,
        vae: VideoVae,
        bottleneck: Bottleneck,
        refiner: Refiner,
        perceptual: nn.Module | None,
    ) -> None:
        super().__init__()
        self.stage, self.rate = stage, rate
        self.vae, self.bottleneck, self.refiner, self.perceptual = vae, bottleneck, refiner, perceptual

    def forward(self, clips: Tensor, step: Step) -> Losses:
        weights, draws = self.stage.weights, step.draws(clips.device)
        with torch.no_grad():
            clean = _latents(self.vae, clips)
        quality = losses.sampled_quality(draws.uniform(), self.rate, step.progress)
        coded = self.bottleneck(clean, quality[:, None].expand(-1, clean.shape[2]), draws.uniform_like)
        noise, first = draws.normal_like(clean), self._first_latent(step, clean.shape[2])
        terms = {
            "rate": losses.bits_per_pixel(coded.bits, clean),
            "decoded": losses.squared_error(coded.latents, clean),
        }
        if weights.cfm:
            terms["cfm"] = self._flow_matching(clean, coded, noise, draws.uniform(), first)
        if weights.refined or weights.pixel or weights.perceptual:
            refined = self._refined(clean, coded, noise, first)
            terms["refined"] = losses.squared_error(refined, clean[:, :, first:])
            if weights.pixel or weights.perceptual:
                terms |= self._on_pixels(clips, clean, refined, first)
        distorted = [name for name in ("decoded", "refined", "pixel", "perceptual") if name in terms]
        distortion = torch.stack([getattr(weights, name) * terms[name] for name in distorted]).sum(0)
        total = losses.rate_distortion(terms["rate"], distortion, quality, self.rate).mean()
        if "cfm" in terms:
            total = total + weights.cfm * terms["cfm"].mean()
        return Losses(total, terms)

    def _first_latent(self, step: Step, latents: int) -> int:
        """Where the refined window begins: at the GOP's start, or behind latents that are past and known."""
        draws = step_draws(step.seed, step.number)
        return 1 + draws.below(latents - 1) if latents > 1 and draws.chance(self.stage.continuation) else 0

    def _flow_matching(self, clean: Tensor, coded: Trained, noise: Tensor, uniform: Tensor, first: int) -> Tensor:
        """L_CFM trains the adaptor only: what the codec decoded enters it detached."""
        shown = slice(max(0, first - 1), None)
        context = clean[:, :, first - 1 : first] if first else None
        clean, noise = clean[:, :, shown], noise[:, :, shown]
        decoded, features = coded.latents.detach()[:, :, shown], coded.features.detach()[:, :, shown]
        sigma_0 = self.stage.sigma_0
        start, sigma = flow.start(decoded, noise, sigma_0), sigma_0 * uniform
        x = flow.path(clean, start, sigma, sigma_0)
        if context is not None:
            known = flow.path(context, noise[:, :, :1], sigma, 1.0)
            x = torch.cat([known, x[:, :, 1:]], dim=2)
        found = self.refiner.velocity(x, sigma, self.refiner.hints(decoded, features, context))
        return losses.flow_matching(found, flow.velocity(clean, start, sigma_0), context=int(context is not None))

    def _refined(self, clean: Tensor, coded: Trained, noise: Tensor, first: int) -> Tensor:
        """x̃_1 from `first` on, by the decoder's own steps; x_c itself where there are none."""
        if not self.stage.unrolled:
            return coded.latents[:, :, first:]
        shown = slice(max(0, first - 1), None)
        context = clean[:, :, first - 1 : first] if first else None
        decoded, features = coded.latents[:, :, shown], coded.features[:, :, shown]
        stage = self.stage
        refined: Tensor = self.refiner(decoded, features, noise[:, :, shown], stage.sigma_0, stage.unrolled, context)
        return refined

    def _on_pixels(self, clips: Tensor, clean: Tensor, refined: Tensor, first: int) -> dict[str, Tensor]:
        if clips.shape[1] == LATENT_CHANNELS:
            raise GnvcError("latents made before have no pixels to compare: train with the videos themselves")
        shown = self.vae.decode(torch.cat([clean[:, :, :first], refined], dim=2))
        past = 1 + 4 * (first - 1) if first else 0
        shown, video = shown[:, :, past:], to_model(clips)[:, :, past:]
        terms = {"pixel": losses.squared_error(shown, video)}
        return terms | ({"perceptual": self.perceptual(shown, video)} if self.perceptual is not None else {})


def _latents(vae: VideoVae, clips: Tensor) -> Tensor:
    """x_1 of videos, or latents made before."""
    return clips.float() if clips.shape[1] == LATENT_CHANNELS else vae.encode(to_model(clips))
