"""What all stages take and give: a step's place in the training, losses with their terms, a verdict with pictures."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gnvc_vd.backbone.contract import VideoVae
from gnvc_vd.conventions import LATENT_CHANNELS, Frame
from gnvc_vd.data.clips import to_model
from gnvc_vd.data.samples import Draws
from gnvc_vd.metrics import perceptual
from gnvc_vd.train.config import Stage
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


@dataclass(frozen=True)
class Verdict:
    """What a training is judged by, on clips that it never draws: a score (lower is better), figures, pictures."""

    score: float
    figures: dict[str, float]
    pictures: dict[str, Frame] = field(default_factory=dict)


def perceptual_of(stage: Stage) -> nn.Module | None:
    if not stage.weights.perceptual:
        return None
    kind, _, net = stage.perceptual.rpartition("_")
    made = perceptual.dists() if stage.perceptual == "dists" else getattr(perceptual, kind)(net)
    return made.requires_grad_(False)


def perceived(network: nn.Module, stage: Stage, shown: Tensor, video: Tensor, step: Step) -> Tensor:
    """What perception says to a few frames, and to a patch of them that begins elsewhere in each step.

    The network has strides, as the VAE has. Were all patches to begin where a latent does, a texture that repeats
    with both would always lie alike before the network, which could ask for it.
    """
    draws = step_draws(step.seed, step.number)
    frames = seen_frames(stage, video.shape[2], draws)
    top, left = draws.below(stage.perceptual_shift), draws.below(stage.perceptual_shift)
    height, width = (size - stage.perceptual_shift + 1 for size in video.shape[3:])

    def patch(clips: Tensor) -> Tensor:
        return clips[:, :, frames, top : top + height, left : left + width]

    found: Tensor = network(patch(shown), patch(video))
    return found


def seen_frames(stage: Stage, frames: int, draws: Draws) -> list[int]:
    """The frames that perception looks at."""
    left = list(range(frames))
    count = min(frames, stage.perceptual_frames or frames)
    return sorted(left.pop(draws.below(len(left))) for _ in range(count))


def latents_of(vae: VideoVae, clips: Tensor) -> Tensor:
    """x_1 of videos, or latents made before."""
    return clips.float() if clips.shape[1] == LATENT_CHANNELS else vae.encode(to_model(clips))
