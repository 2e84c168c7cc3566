"""Frames to latents and back through a VAE, one latent at a time.

T H W 3 uint8 ─to_video─▶ 1 3 T H W in [−1, 1] ─encode_step─▶ latents 1 16 T h w ─decode_step, frames_of─▶ T H W 3 uint8
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from gnvc_vd.backbone.interfaces import VideoVae, decode_steps, encode_steps
from gnvc_vd.conventions import TEMPORAL_STRIDE, Frame
from gnvc_vd.video.pixels import to_frames, to_video


def latents_of_frames(vae: VideoVae, padded: Frame, device: torch.device) -> Tensor:
    """Of 1 + 4k frames in multiples of 16."""
    starts = [0, *range(1, len(padded), TEMPORAL_STRIDE)]
    stops = [*starts[1:], len(padded)]
    chunks = (to_video(padded[a:b], device) for a, b in zip(starts, stops, strict=True))
    with torch.inference_mode():
        return torch.cat(list(encode_steps(vae, chunks)), dim=2)


def frames_of_latents(vae: VideoVae, latents: Tensor) -> Iterator[Frame]:
    """1, 4, 4, … padded frames."""
    with torch.inference_mode():
        for part in decode_steps(vae, latents.split(1, dim=2)):
            yield to_frames(part[0])
