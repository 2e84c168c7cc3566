"""Training of a video transformer by flow matching, validated by L_CFM at fixed σ, with and without a given frame."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gnvc_vd.backbone import flow
from gnvc_vd.backbone.image_condition import FIRST, FIRST_AND_LAST, NOTHING, condition_on
from gnvc_vd.backbone.weights import Backbone
from gnvc_vd.conventions import LATENT_CHANNELS, GnvcError
from gnvc_vd.train import losses
from gnvc_vd.train.plan import STEP, BatchDraws
from gnvc_vd.train.settings import Training
from gnvc_vd.train.stages.stage import Losses, Step, Validation, latents_of
from gnvc_vd.video.pixels import to_model

SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)


class PriorStage(nn.Module):
    """Flow matching of a video transformer: unconditional, or given the first frame, or the first and the last."""

    def __init__(self, training: Training, backbone: Backbone) -> None:
        super().__init__()
        self.settings, self.backbone = training, backbone
        self.stage, self.vae, self.dit = training.stage, backbone.vae, backbone.dit

    def variant(self, clips: Tensor, step: Step) -> tuple[int, ...]:
        """The part of a step's random numbers that changes its computation: the given frames."""
        return self._given_frames(step)

    def forward(self, clips: Tensor, step: Step) -> Losses:
        draws = step.draws(clips.device)
        with torch.no_grad():
            clean = latents_of(self.vae, clips)
            given = self._given_frames(step)
            if given and clips.shape[1] == LATENT_CHANNELS:
                raise GnvcError("precomputed latents cannot be conditioned on frames: train with videos")
            condition = condition_on(self.vae, to_model(clips), given)
        times = self.stage.repeats
        uniform, noise = draws.uniform(times).flatten(), draws.normal(times, *clean.shape[1:]).flatten(0, 1)
        clean = clean.repeat_interleave(times, 0)
        if condition is not None:
            condition = condition._replace(channels=condition.channels.repeat_interleave(times, 0))
        sigma = self.stage.shift * uniform / (1 + (self.stage.shift - 1) * uniform)
        x = flow.path(clean, noise, sigma, 1.0)
        loss = losses.flow_matching(self.dit.velocity(x, sigma, condition), flow.velocity(clean, noise, 1.0))
        return Losses(self.stage.weights.cfm * loss.mean(), {"cfm": loss.unflatten(0, (-1, times)).mean(1)})

    def _given_frames(self, step: Step) -> tuple[int, ...]:
        drawn, nothing_and_first = step.shared(STEP).uniform(), sum(self.stage.conditions[:2])
        if drawn < self.stage.conditions[0]:
            return NOTHING
        return FIRST if drawn < nothing_and_first else FIRST_AND_LAST

    @torch.no_grad()
    def validate(self, clips: Sequence[Tensor]) -> Validation:
        device = self.vae.mean.device
        by_name: dict[str, list[float]] = {}
        for number, clip in enumerate(clips):
            video = to_model(clip[None].to(device))
            clean = self.vae.encode(video)
            noise = BatchDraws(self.settings.seed, [number], device).normal_like(clean)
            for name, given in (("nothing", NOTHING), ("first", FIRST)):
                condition = condition_on(self.vae, video, given)
                for sigma in SIGMAS:
                    at = torch.tensor([sigma], device=device)
                    velocity = self.dit.velocity(flow.path(clean, noise, at, 1.0), at, condition)
                    loss = losses.flow_matching(velocity, flow.velocity(clean, noise, 1.0))
                    by_name.setdefault(f"cfm_{name}_{sigma}", []).append(float(loss))
        figures = {name: float(np.mean(values)) for name, values in by_name.items()}
        return Validation(float(np.mean(list(figures.values()))), figures, {})
