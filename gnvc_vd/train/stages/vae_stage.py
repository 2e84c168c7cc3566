"""A video VAE of our own, or a light decoder of another's latents: how far pictures are off, judged by their PSNR.

What is decoded is compared with the clip or, where there is a teacher, with the teacher's decoding of the same latents.

PSNR is of a whole clip's squared error, then the mean over clips; `gnvc-vd compare` takes the mean over frames.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gnvc_vd.backbone.weights import Backbone
from gnvc_vd.conventions import Frame
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.metrics.ideal import IdealCode
from gnvc_vd.metrics.lattice import lattices
from gnvc_vd.train import losses
from gnvc_vd.train.adversary import Pictures
from gnvc_vd.train.settings import Training
from gnvc_vd.train.stages.picture_terms import PictureTerms
from gnvc_vd.train.stages.stage import Losses, Step, Validation
from gnvc_vd.train.stages.teacher import Teacher
from gnvc_vd.video.pictures import sheets
from gnvc_vd.video.pixels import pixels_of, to_frames, to_model

JUDGED_RATE = 0.02  # bits per pixel


class VaeStage(nn.Module):
    """A video VAE: absolute and squared error, divergence, what flickers, its lattice, perception, a discriminator."""

    def __init__(self, training: Training, backbone: Backbone) -> None:
        super().__init__()
        self.settings, self.backbone = training, backbone
        self.stage, self.vae = training.stage, backbone.vae
        self.pictures = PictureTerms(training.stage)
        self.teacher = None if training.model.teacher is None else Teacher(training, backbone)

    def variant(self, clips: Tensor, step: Step) -> tuple[int, ...]:
        """What the step's numbers decide about its shapes: nothing."""
        return ()

    def forward(self, clips: Tensor, step: Step) -> Losses:
        span, video = step.span or self.stage.span_at(step.number), to_model(clips)
        weights = span.weights or self.stage.weights
        mean, log_variance = self.vae.posterior(video)
        draws = step.draws(video.device)
        z = mean + (log_variance / 2).exp() * draws.normal_like(mean)
        coarsest = self.stage.coarsest if span.coarsest is None else span.coarsest
        if coarsest:
            level = losses.level_of(draws.uniform(1, 1, 1, 1), coarsest)
            z, bits = losses.code_latents(z, level, draws.normal_like(mean))
        taught = self.teacher(self.vae, z) if self.teacher else (self.vae.reconstruction(z), video, {})
        decoded, target, learned = taught

        def plain(decoded: Tensor) -> dict[str, Tensor]:
            return {
                "absolute": losses.absolute_error(decoded, target),
                "squared": losses.squared_error(decoded, target),
                "temporal": losses.temporal_error(decoded, target),
            }

        def weighted(terms: dict[str, Tensor]) -> Tensor:
            return torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum(0)

        terms = plain(decoded) | {"divergence": losses.divergence(mean, log_variance)} | learned
        if weights.rate:
            terms["rate"] = level.flatten() * bits
        pictures = Pictures(decoded, target, (z - self.vae.mean) / self.vae.std)
        terms |= self.pictures(weights, pictures, lambda decoded: weighted(plain(decoded)), draws)
        return Losses(weighted(terms).mean(), terms)

    @torch.no_grad()
    def validate(self, clips: Sequence[Tensor]) -> Validation:
        """Clips are uint8, 3 T H W; each is shown as it comes back uncoded and from an ideal transform code.

        With a teacher, its decoding of the same latents stands for the clip.
        """
        vae = self.vae
        originals, uncoded, coded = [], [], []
        for clip in clips:
            latents = vae.encode(to_model(clip[None].to(vae.mean.device)))
            cheap = IdealCode(latents.cpu()).at_bits(JUDGED_RATE * clip[0].numel()).latents.to(latents.device)
            uncoded.append(to_frames(vae.decode(latents)[0]))
            coded.append(to_frames(vae.decode(cheap)[0]))
            originals.append(to_frames(self.teacher.vae.decode(latents)[0]) if self.teacher else pixels_of(clip))
        figures = {
            "psnr": _mean_psnr(originals, uncoded),
            "psnr_first_frame": _mean_psnr([clip[:1] for clip in originals], [clip[:1] for clip in uncoded]),
            f"psnr_at_{JUDGED_RATE}_bpp": _mean_psnr(originals, coded),
            **_mean_lattices(originals, uncoded),
            **{f"{name}_at_{JUDGED_RATE}_bpp": one for name, one in _mean_lattices(originals, coded).items()},
        }
        pictures = {"reconstruction": uncoded[0], f"{JUDGED_RATE} bpp": coded[0]}
        return Validation(-figures["psnr"], figures, sheets(originals[0], pictures))


def _mean_psnr(originals: Sequence[Frame], decoded: Sequence[Frame]) -> float:
    return float(np.mean([psnr(a, b) for a, b in zip(originals, decoded, strict=True)]))


def _mean_lattices(originals: Sequence[Frame], decoded: Sequence[Frame]) -> dict[str, float]:
    each = [lattices(a, b) for a, b in zip(originals, decoded, strict=True)]
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}
