"""Wan's image conditioning: a mask of the given frames, and VAE latents of a video with grey in place of the others.

given frames ─▶ [1 0 0 0 …] ─▶ four frames per latent ─▶ 4 mask channels ┐
video, grey where not given ─▶ VAE ─▶ 16 latent channels ────────────────┴▶ 20 channels beside the noisy latent
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
    """Inputs of an image-conditioned transformer beside the noisy latents."""

    channels: Tensor  # B 20 T h w: mask and latent of the given frames
    image: Tensor | None = None  # B tokens image_dim: CLIP's embedding, if the transformer takes one


def condition_on(vae: VideoVae, video: Tensor, given: Sequence[int]) -> Condition | None:
    """The condition for a video B 3 1+4k H W with the frames `given`, by index; None if there are none."""
    if not given:
        return None
    mask_video = torch.zeros_like(video)
    mask = torch.zeros(video.shape[2], device=video.device)
    for place in given:
        mask_video[:, :, place], mask[place] = video[:, :, place], 1
    latents = vae.encode(mask_video)
    # From 1 + 4k frames to 4 channels × (1 + k) latents: the first frame fills the four channels of its latent.
    folded = torch.cat([mask[:1].expand(TEMPORAL_STRIDE), mask[1:]]).view(-1, TEMPORAL_STRIDE).T
    channels = folded[None, :, :, None, None].expand(len(video), -1, -1, *latents.shape[3:])
    return Condition(torch.cat([channels, latents], dim=1))
