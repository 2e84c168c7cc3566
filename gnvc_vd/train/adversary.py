"""An adversarial correction of what lies behind a codec's symbols: a discriminator that learns beside it.

    three frames of the clip, or as decoded ─▶ H/2 ─▶ H/4 ─▶ H/8 ─┐
    the latent that they were decoded from ─▶ a stem at H/8 ───────┴─▶ a score for each 8×8 pixels: 1 or −1

Given the latent, it asks whether a texture is one that this latent may mean, not whether it is a texture at all
(Muckley et al., MS-ILLM, 2023); three frames show it flicker. Both sides learn in one backward pass, by one optimiser:

    discriminator   ½ (D(V) − 1)² + ¼ (D(Ṽ) + 1)² + ¼ (D(a past Ṽ) + 1)²      Ṽ is detached
    generator       (D(Ṽ) − 1)², of whose gradient at Ṽ the direction counts and not the length

The length is that of the plain errors' gradient at the same three frames, clip by clip, times how well the clip is told
from what is decoded. So an untrained discriminator has no say, none can outweigh the reconstruction, and λ weighs
both alike. It is taken at the decoded pictures, because in Stage II the last layers that both gradients share are
frozen, and the last that trains lies two networks behind. The perceptual network's gradient is left out of the length:
it would take that network's backward pass twice.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gnvc_vd.conventions import LATENT_CHANNELS, SPATIAL_STRIDE, TEMPORAL_STRIDE
from gnvc_vd.train.plan import BatchDraws
from gnvc_vd.train.views import below, frames_at

SEEN = 3  # consecutive frames
REMEMBERED = 64  # past decodes: what only the newest are judged by comes back when it is forgotten
SMALLEST_LENGTH = 1e-12

PlainError = Callable[[Tensor], Tensor]  # of decoded pictures: their weighted errors, B


class Pictures(NamedTuple):
    """Decoded frames beside those of the clip."""

    shown: Tensor  # B 3 T H W, not cut off at ±1
    video: Tensor
    latents: Tensor  # what they were decoded from, B 16 t h w, normalised, from the clip's first on
    past: int = 0  # frames of the clip before these


class Discriminator(nn.Module):
    """Scores of three frames, B 9 H W, beside their latent, B 16 h w: B h w."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3 * SEEN, 32, 64, 96)
        self.down = nn.ModuleList(nn.Conv2d(*pair, 4, 2, 1) for pair in pairwise(widths))
        self.stem = nn.Conv2d(LATENT_CHANNELS, 32, 3, padding=1)
        self.meet = nn.Conv2d(96 + 32, 96, 3, padding=1)
        self.leave = nn.Conv2d(96, 1, 3, padding=1)
        for one in self.leave.parameters():  # it begins without an opinion
            nn.init.zeros_(one)

    def forward(self, frames: Tensor, latent: Tensor) -> Tensor:
        x = frames
        for layer in self.down:
            x = leaky_relu(layer(x), 0.2)
        x = torch.cat([x, leaky_relu(self.stem(latent), 0.2)], dim=1)
        scores: Tensor = self.leave(leaky_relu(self.meet(x), 0.2))
        return scores[:, 0].float()


class Adversary(nn.Module):
    """A discriminator and what it remembers, which checkpoints hold as it is.

    Args:
        side: of the smallest clips that it will see; of larger ones a corner is remembered.
    """

    frames: Tensor  # REMEMBERED 9 side side
    latents: Tensor  # REMEMBERED 16 side/8 side/8
    count: Tensor  # remembered so far, also those that were forgotten

    def __init__(self, side: int) -> None:
        super().__init__()
        self.discriminator = Discriminator()
        coarse = side // SPATIAL_STRIDE
        memory = {
            "frames": torch.zeros(REMEMBERED, 3 * SEEN, side, side, dtype=torch.float16),
            "latents": torch.zeros(REMEMBERED, LATENT_CHANNELS, coarse, coarse, dtype=torch.float16),
            "count": torch.zeros((), dtype=torch.int64),
        }
        for name, value in memory.items():
            self.register_buffer(name, value)

    def forward(self, pictures: Pictures, plain: PlainError, draws: BatchDraws) -> dict[str, Tensor]:
        """What each side minimises, B; no gradient of either reaches the other."""
        first = below(draws.uniform(), pictures.shown.shape[2] - SEEN + 1)
        at = first[:, None] + torch.arange(SEEN, device=first.device)
        latent = latent_of(pictures, at[:, 1]).detach()
        shown, video = (frames_at(clips, at).flatten(1, 2) for clips in (pictures.shown, pictures.video))
        decoded = shown.detach().requires_grad_().clone()  # no leaf: torch's counter of operations follows none here
        scores = self.discriminator(decoded, latent)
        disagreement = _squared(scores - 1)
        (direction,) = torch.autograd.grad(disagreement.sum(), decoded, retain_graph=True)
        real, fake = _squared(self.discriminator(video, latent) - 1), _squared(scores + 1)
        past = _squared(self.discriminator(*self._remembered(draws.uniform())) + 1)
        judged = (real + torch.where(self.count > 0, (fake + past) / 2, fake)) / 2
        self._remember(decoded.detach(), latent)
        certainty = (1 - (real + fake).detach() / 2).clamp(0, 1)
        length = certainty * _length(frames_at(_gradient(plain, pictures.shown), at)) / _length(direction)
        pull = length[:, None, None, None] * direction
        moved = (pull * (shown - shown.detach())).flatten(1).sum(1)  # nothing, but for its gradient
        return {"adversarial": disagreement.detach() + moved, "discriminator": judged}

    def _remembered(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        chosen = below(uniform, self.count.clamp(1, REMEMBERED))
        return self.frames[chosen].float(), self.latents[chosen].float()

    @torch.no_grad()
    def _remember(self, frames: Tensor, latents: Tensor) -> None:
        frames, latents = frames[:REMEMBERED], latents[:REMEMBERED]
        places = (self.count + torch.arange(len(frames), device=frames.device)) % REMEMBERED
        side, coarse = self.frames.shape[-1], self.latents.shape[-1]
        self.frames.index_copy_(0, places, frames[..., :side, :side].to(self.frames.dtype))
        self.latents.index_copy_(0, places, latents[..., :coarse, :coarse].to(self.latents.dtype))
        self.count.add_(len(frames))


def latent_of(pictures: Pictures, frames: Tensor) -> Tensor:
    """The latent of one frame of each clip: B 16 h w."""
    places = (pictures.past + frames + TEMPORAL_STRIDE - 1) // TEMPORAL_STRIDE
    return frames_at(pictures.latents, places[:, None])[:, :, 0]


def adversary_state(stage: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint needs of a stage beside what trains."""
    adversaries = (module for module in stage.modules() if isinstance(module, Adversary))
    return {name: one for adversary in adversaries for name, one in adversary.named_buffers()}


def _gradient(plain: PlainError, decoded: Tensor) -> Tensor:
    held = decoded.detach().requires_grad_()
    return torch.autograd.grad(plain(held).sum(), held)[0]


def _length(gradient: Tensor) -> Tensor:
    """Of each clip's."""
    return gradient.flatten(1).norm(dim=1).clamp_min(SMALLEST_LENGTH)


def _squared(x: Tensor) -> Tensor:
    return x.square().flatten(1).mean(1)
