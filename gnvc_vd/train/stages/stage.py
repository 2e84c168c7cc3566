"""What all stages take and give: a step's place in the training, losses with their terms, a verdict with pictures."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.conventions import LATENT_CHANNELS, SPATIAL_STRIDE, Frame
from gnvc_vd.data.samples import Draws
from gnvc_vd.metrics import perceptual
from gnvc_vd.train.plan import PERCEPTION, BatchDraws
from gnvc_vd.train.settings import Stage
from gnvc_vd.video.pixels import to_model

SMALLEST_SIDE = 25  # of what every perceptual network can see


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


def perceptual_of(stage: Stage) -> nn.Module | None:
    if not stage.weights.perceptual:
        return None
    kind, _, net = stage.perceptual.rpartition("_")
    made = perceptual.dists() if stage.perceptual == "dists" else getattr(perceptual, kind)(net)
    return made.requires_grad_(False)


def perceived(network: nn.Module, stage: Stage, shown: Tensor, video: Tensor, step: Step) -> Tensor:
    """What perception says to a few frames of each clip."""
    draws = Draws(step.seed, step.number, PERCEPTION)
    frames = seen_frames(stage, video.shape[2], draws)
    shown, video = shown[:, :, frames], video[:, :, frames]
    if stage.perceptual_views:
        top, left = draws.below(SPATIAL_STRIDE), draws.below(SPATIAL_STRIDE)
        changes = [draws.chance(0.5) for _ in range(4)]
        shown, video = (patch(clips, top, left, *changes) for clips in (shown, video))
    found: Tensor = network(shown, video)
    return found


def patch(clips: Tensor, top: int, left: int, mirrored: bool, upside_down: bool, turned: bool, halved: bool) -> Tensor:
    """How a perceptual network is shown clips, so that it cannot so easily ask for what pleases no eye.

    A texture that fits its filters and strides, and the VAE's stride beside them, fits them less from another
    place, mirrored, or at half the size (Kettunen et al., E-LPIPS, 2019).

    Args:
        clips: B 3 T H W; seven rows and columns fewer are shown, `top` and `left` of them there.
        halved: small clips are not.
    """
    height, width = (size - SPATIAL_STRIDE + 1 for size in clips.shape[3:])
    seen = clips[..., top : top + height, left : left + width]
    seen = seen.flip([axis for axis, flipped in ((-1, mirrored), (-2, upside_down)) if flipped])
    seen = seen.transpose(-1, -2) if turned else seen
    large_enough = min(seen.shape[-2:]) >= 2 * SMALLEST_SIDE
    return nn.functional.avg_pool3d(seen, (1, 2, 2)) if halved and large_enough else seen


def seen_frames(stage: Stage, frames: int, draws: Draws) -> list[int]:
    """The frames that perception looks at."""
    left = list(range(frames))
    count = min(frames, stage.perceptual_frames or frames)
    return sorted(left.pop(draws.below(len(left))) for _ in range(count))


def latents_of(vae: VideoVae, clips: Tensor) -> Tensor:
    """x_1 of videos, or latents made before."""
    return clips.float() if clips.shape[1] == LATENT_CHANNELS else vae.encode(to_model(clips))
