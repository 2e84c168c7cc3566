"""Wan's image conditioning: which frames are given, and what the VAE makes of a video in which only they are shown.

given frames ─▶ [1 0 0 0 …] ─▶ four frames a latent ─▶ 4 mask channels ─┐
video, grey where it is not given ─▶ VAE ─▶ 16 latent channels ─────────┴▶ 20 channels beside the noisy latent
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.conventions import TEMPORAL_STRIDE

NOTHING: tuple[int, ...] = ()
FIRST = (0,)
FIRST_AND_LAST = (0, -1)


class Condition(NamedTuple):
    """What an image-conditioned preset sees beside the noisy latent."""

    channels: Tensor  # B 20 T h w: mask and latent of the given frames
    image: Tensor | None = None  # B tokens image_dim: CLIP embedding, where the preset has one


def condition_on(vae: VideoVae, video: Tensor, given: Sequence[int]) -> Condition | None:
    """The condition for a video B 3 1+4k H W of which some frames are given, by their places; None if none is."""
    if not given:
        return None
    mask_video = torch.zeros_like(video)
    mask = torch.zeros(video.shape[2], device=video.device)
    for place in given:
        mask_video[:, :, place], mask[place] = video[:, :, place], 1
    latents = vae.encode(mask_video)
    # A number for each of 1 + 4k frames to 4 × 1 + k: the first frame fills its latent's four.
    folded = torch.cat([mask[:1].expand(TEMPORAL_STRIDE), mask[1:]]).view(-1, TEMPORAL_STRIDE).T
    channels = folded[None, :, :, None, None].expand(len(video), -1, -1, *latents.shape[3:])
    return Condition(torch.cat([channels, latents], dim=1))
