"""What decoded pictures are judged by beside their plain error: terms that a codec's Stage II and a VAE share.

Ṽ, V ─▶ lattice
Ṽ, V ─▶ some frames, in another view ─▶ perceptual network, at full size and at half
Ṽ, V, latents ─▶ discriminator
"""

from torch import Tensor, nn

from gnvc_vd.metrics import perceptual
from gnvc_vd.train import losses
from gnvc_vd.train.adversary import Adversary, Pictures, PlainError
from gnvc_vd.train.plan import BatchDraws
from gnvc_vd.train.settings import Stage, Weights
from gnvc_vd.train.views import View, draw_frames, frames_at, halve

TERMS = ("lattice", "perceptual", "perceptual_half", "adversarial")  # each with a weight of its name


def perceptual_of(stage: Stage) -> nn.Module | None:
    if not any(weights.perceive for weights in stage.all_weights):
        return None
    kind, _, net = stage.perceptual.rpartition("_")
    made = perceptual.dists() if stage.perceptual == "dists" else getattr(perceptual, kind)(net)
    return made.requires_grad_(False)


class PictureTerms(nn.Module):
    """The networks that look at pictures, where a stage's weights ask for any."""

    adversary: Adversary | None
    perceptual: nn.Module | None

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.frames, self.views = stage.perceptual_frames, stage.perceptual_views
        self.perceptual = perceptual_of(stage)
        opposed = any(weights.adversarial for weights in stage.all_weights)
        self.adversary = Adversary(min(span.size for span in stage.spans)) if opposed else None

    def forward(self, weights: Weights, pictures: Pictures, plain: PlainError, draws: BatchDraws) -> dict[str, Tensor]:
        """Those of `TERMS` that count, B each; with a discriminator, what it minimises too.

        Args:
            plain: what the decoded pictures' plain error counts.
        """
        terms = {}
        if weights.lattice:
            terms["lattice"] = losses.lattice(pictures.shown, pictures.video)
        if weights.perceive:
            terms |= self._perceptual_terms(weights, pictures, draws)
        if weights.adversarial:
            assert self.adversary is not None
            terms |= self.adversary(pictures, plain, draws)
        return terms

    def _perceptual_terms(self, weights: Weights, pictures: Pictures, draws: BatchDraws) -> dict[str, Tensor]:
        assert self.perceptual is not None
        seen = [pictures.shown, pictures.video]
        if self.frames is not None and self.frames < seen[0].shape[2]:
            chosen = draw_frames(seen[0], self.frames, draws)
            seen = [frames_at(clips, chosen) for clips in seen]
        if self.views:
            view = View(seen[0], draws)
            seen = [view.of(clips) for clips in seen]
        terms = {}
        if weights.perceptual:
            terms["perceptual"] = self.perceptual(*seen)
        if weights.perceptual_half:
            terms["perceptual_half"] = self.perceptual(*map(halve, seen))
        return terms
