"""Frames as the video layer has them and as models do: uint8 levels, and floats in [−1, 1].

T H W 3 uint8 ─▶ B 3 T H W in [−1, 1] ─▶ T H W 3 uint8
"""

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.conventions import Frame


def to_model(clip: Tensor) -> Tensor:
    """uint8 to float32 in [−1, 1], on whatever device it is."""
    return clip.float() / 127.5 - 1


def to_video(frames: Frame, device: torch.device) -> Tensor:
    """T H W 3 uint8 to 1 3 T H W in [−1, 1]."""
    return to_model(torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(3, 0, 1, 2)[None])


def to_frames(video: Tensor) -> Frame:
    """3 T H W in [−1, 1] to T H W 3 uint8, rounded to the nearest level."""
    return pixels_of((video + 1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).cpu())


def pixels_of(clip: Tensor) -> Frame:
    """3 T H W uint8 to T H W 3."""
    pixels: Frame = clip.permute(1, 2, 3, 0).contiguous().numpy()
    return pixels
