"""What all stages take and give: a step's place in the training, losses with their terms, a verdict with pictures."""

from typing import NamedTuple

import torch
from torch import Tensor

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.conventions import LATENT_CHANNELS, Frame
from gnvc_vd.train.plan import BatchDraws
from gnvc_vd.video.pixels import to_model


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


class Verdict(NamedTuple):
    """What a training is judged by, on clips that it never draws: a score (lower is better), figures, pictures."""

    score: float
    figures: dict[str, float]
    pictures: dict[str, Frame]


def latents_of(vae: VideoVae, clips: Tensor) -> Tensor:
    """x_1 of videos, or latents made before."""
    return clips.float() if clips.shape[1] == LATENT_CHANNELS else vae.encode(to_model(clips))
