"""Views of clips, drawn for each clip on the device that it lies on: a perceptual network never looks the same way.

A texture that fits a network's filters and strides, and the VAE's stride beside them, fits them less from another
place, mirrored, or at half the size (Kettunen et al., E-LPIPS, 2019).

    clips ─▶ some frames ─▶ another corner ─▶ mirrored ─▶ upside down ─▶ rows for columns ─▶ at half the size, too

All shapes are known beforehand, and nothing drawn is asked for by the host.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from gnvc_vd.conventions import SPATIAL_STRIDE
from gnvc_vd.train.plan import BatchDraws

SMALLEST_SIDE = 25  # of what every perceptual network can see


def draw_frames(clips: Tensor, count: int, draws: BatchDraws) -> Tensor:
    """Which frames of each clip, in order: B count."""
    return draws.uniform(clips.shape[2]).argsort(1)[:, :count].sort(1).values


def frames_at(clips: Tensor, frames: Tensor) -> Tensor:
    """Of B C T H W those that are named, B F."""
    return torch.take_along_dim(clips, frames[:, None, :, None, None], 2)


class View:
    """How each clip of a batch is seen: seven pixels fewer a side, from one of eight corners each way, in one of the
    eight symmetries of a square. Of clips that are no squares it is a square part.
    """

    def __init__(self, clips: Tensor, draws: BatchDraws) -> None:
        height, width = clips.shape[3:]
        side = min(height, width) - SPATIAL_STRIDE + 1
        drawn = draws.uniform(5).unsqueeze(2)  # B 5 1
        mirrored, upside_down, turned = (drawn[:, 2:] < 0.5).unbind(1)
        run = torch.arange(side, device=clips.device)
        self.rows = below(drawn[:, 0], height - side + 1) + torch.where(upside_down, side - 1 - run, run)
        self.columns = below(drawn[:, 1], width - side + 1) + torch.where(mirrored, side - 1 - run, run)
        self.turned = turned[:, :, None, None, None]

    def of(self, clips: Tensor) -> Tensor:
        seen = torch.take_along_dim(clips, self.rows[:, None, None, :, None], 3)
        seen = torch.take_along_dim(seen, self.columns[:, None, None, None, :], 4)
        return torch.where(self.turned, seen.transpose(-1, -2), seen)


def below(uniform: Tensor, count: int | Tensor) -> Tensor:
    """0 … count − 1 from numbers in [0, 1)."""
    return (uniform * count).long()


def halve(clips: Tensor) -> Tensor:
    """At half the size; small clips, of which no network would see anything then, as they are."""
    return avg_pool3d(clips, (1, 2, 2)) if min(clips.shape[3:]) >= 2 * SMALLEST_SIDE else clips
