"""Trains GNVC-VD's codec and adaptor on a frozen backbone; validates on RD points of real, decoded bitstreams.

PSNR is of a whole clip's squared error, then the mean over clips; `gnvc-vd compare` takes the mean over frames.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from gnvc_vd.backbone import flow
from gnvc_vd.backbone.sources import model_folder
from gnvc_vd.backbone.weights import Backbone
from gnvc_vd.bitstream import gop
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.codecs.load import start_from
from gnvc_vd.conventions import LATENT_CHANNELS, Colour, Frame, GnvcError
from gnvc_vd.learned.bottleneck.kinds import bottleneck_of
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.metrics.lattice import STRIDES, lattices
from gnvc_vd.presets import preset
from gnvc_vd.train import losses
from gnvc_vd.train.adversary import Pictures
from gnvc_vd.train.checkpoint import fill
from gnvc_vd.train.plan import ROTATION, STEP, BatchDraws
from gnvc_vd.train.settings import Training
from gnvc_vd.train.stages.picture_terms import TERMS, PictureTerms
from gnvc_vd.train.stages.stage import Losses, Step, Validation, latents_of
from gnvc_vd.video import Video, VideoInfo
from gnvc_vd.video.pictures import sheets
from gnvc_vd.video.pixels import pixels_of, to_model

START = "start.safetensors"  # in a run's folder: initial statistics of its latent codec
MEASURED = "measured"  # statistics measured on the first batches
# Lengths in latents; each is drawn as often as it is listed.
ROTATIONS = (*(7,) * 7, *(9,) * 3, 8, 6, 6, 5, 4, 3, 3, 2, 1)


class CodecStage(nn.Module):
    """Rate and distortion of the codec, and the adaptor's flow.

    warm-up    R + λ ‖x_c − x_1‖²
    Stage I    R + λ (‖x̃_1 − x_1‖² + ‖x_c − x_1‖²) + L_CFM
    Stage II   R + λ (‖V − Ṽ‖² + λ_lpips LPIPS(V, Ṽ) + ‖x_c − x_1‖² + ‖x̃_1 − x_1‖²), and other terms of pictures
    """

    def __init__(self, training: Training, backbone: Backbone) -> None:
        from gnvc_vd.learned.refine.refiner import Refiner

        super().__init__()
        self.settings, self.backbone = training, backbone
        self.stage, self.rate, self.vae = training.stage, training.rate, backbone.vae
        model, sizes = training.model, preset(training.model.name)
        self.bottleneck = bottleneck_of(sizes.bottleneck(model.bottleneck), training.rate.thrift)
        vace = None if model.vace is None else model_folder(model.vace)
        adaptor, features = training.adaptor or sizes.adaptor, self.bottleneck.preset.features
        self.refiner = Refiner(backbone.dit, adaptor, features, vace, copies=not training.run.shard)
        goes_on = model.start is not None and model.begin is None
        goes_on = goes_on and start_from(cast(str, model.start), self.bottleneck, self.refiner)
        self.begin = None if goes_on or model.begin == "random" else model.begin or MEASURED
        if model.checkpointing:
            self.refiner.dit.model.enable_gradient_checkpointing()  # saves memory, takes time
        self.pictures = PictureTerms(training.stage)

    def variant(self, clips: Tensor, step: Step) -> tuple[int, ...]:
        """The part of a step's random numbers that changes its shapes: rotation and first latent."""
        latents = clips.shape[2] if clips.shape[1] == LATENT_CHANNELS else gop.latents_of(clips.shape[2])
        return self._rotation(step, latents), self._first_latent(step, latents)

    def forward(self, clips: Tensor, step: Step) -> Losses:
        weights, draws = self.stage.weights, step.draws(clips.device)
        with torch.no_grad():
            clean = latents_of(self.vae, clips)
        quality = losses.sample_quality(draws.uniform(), self.rate, step.progress)
        levels, rotation = quality[:, None].expand(-1, clean.shape[2]), self._rotation(step, clean.shape[2])
        coded = self.bottleneck(clean, levels, draws.uniform_like, rotation)
        noise, first = self.stage.noise_scale * draws.normal_like(clean), self._first_latent(step, clean.shape[2])
        window = slice(max(0, first - 1), None)  # the refiner's input: one context latent, if any, and the rest
        context = clean[:, :, window.start : first] if first else None
        decoded, features, noise = (x[:, :, window] for x in (coded.latents, coded.features, noise))
        sigma_0: Tensor | float = self.stage.sigma_0
        if self.stage.sigma_ratio is not None:
            sigma_0 = flow.sigma_0_for((coded.latents - clean).detach(), self.stage.sigma_ratio)
        terms = {
            "rate": losses.bits_per_pixel(coded.bits, clean),
            "decoded": losses.squared_error(coded.latents, clean),
        }
        if weights.cfm:
            given = (decoded.detach(), features.detach()) if self.stage.cfm_detached else (decoded, features)
            terms["cfm"] = self._flow_matching(clean[:, :, window], *given, noise, sigma_0, draws.uniform(), context)
        if weights.refined or weights.of_pictures:
            refined = coded.latents[:, :, first:]
            if self.stage.unrolled:  # by the decoder's own steps
                refined = self.refiner(decoded, features, noise, sigma_0, self.stage.unrolled, context)
            terms["refined"] = losses.squared_error(refined, clean[:, :, first:])
            if weights.of_pictures:
                latents = torch.cat([clean[:, :, :first], refined], dim=2)
                terms |= self._on_pixels(clips, latents, coded.latents, first, draws)
        distorted = [name for name in ("decoded", "refined", "pixel", *TERMS) if name in terms]
        distortion = torch.stack([getattr(weights, name) * terms[name] for name in distorted]).sum(0)
        total = losses.rate_distortion(terms["rate"], distortion, quality, self.rate).mean()
        if "cfm" in terms:
            total = total + weights.cfm * terms["cfm"].mean()
        if "discriminator" in terms:
            total = total + weights.discriminator * terms["discriminator"].mean()
        return Losses(total, terms)

    @torch.no_grad()
    def measure(self, batches: Callable[[], Iterable[Tensor]]) -> dict[str, Tensor]:
        """Set and return the latent codec's initial statistics.

        They are measured on these clips, or read from a file of earlier ones.
        """
        if self.begin == MEASURED:
            latents = torch.cat([latents_of(self.vae, clips.to(self.vae.mean.device)) for clips in batches()])
            self.bottleneck.measure(latents, self.rate.smallest, self.rate.largest)
        else:
            self.load_start(Path(cast(str, self.begin)))
        return self.bottleneck.initial_tensors()

    @torch.no_grad()
    def load_start(self, file: Path) -> None:
        """Load initial statistics, as `measure` returns them, from a file."""
        fill(self.bottleneck.initial_tensors(), file)

    def resume_start(self, run: Path) -> None:
        """Load a run's initial statistics, which its checkpoints may lack."""
        trained = {name for name, one in self.bottleneck.named_parameters()}
        if (run / START).is_file():
            self.load_start(run / START)
        elif self.begin is not None and not trained >= self.bottleneck.initial_tensors().keys():
            raise GnvcError(f"{run / START}: missing, and no checkpoint has these statistics")

    def _rotation(self, step: Step, latents: int) -> int:
        """Draw this step's rotation length, mostly a usual one; 0 for a codec without rotations."""
        if not self.bottleneck.usual_rotation(latents):
            return 0
        return min(latents, ROTATIONS[step.shared(ROTATION).below(len(ROTATIONS))])

    def _first_latent(self, step: Step, latents: int) -> int:
        """First latent to refine: the GOP's first, or a later one that follows a clean context latent."""
        draws = step.shared(STEP)
        return 1 + draws.below(latents - 1) if latents > 1 and draws.chance(self.stage.continuation) else 0

    def _flow_matching(
        self,
        clean: Tensor,
        decoded: Tensor,
        features: Tensor,
        noise: Tensor,
        sigma_0: Tensor | float,
        uniform: Tensor,
        context: Tensor | None,
    ) -> Tensor:
        """L_CFM, which also trains the codec unless `decoded` and `features` are detached."""
        start, sigma = flow.start_point(decoded, noise, sigma_0), sigma_0 * uniform
        x = flow.path(clean, start, sigma, sigma_0)
        if context is not None:
            past = flow.path(context, noise[:, :, :1], sigma, 1.0)
            x = torch.cat([past, x[:, :, 1:]], dim=2)
        velocity = self.refiner.velocity(x, sigma, self.refiner.hints(decoded, features, sigma_0, context))
        return losses.flow_matching(velocity, flow.velocity(clean, start, sigma_0), context=int(context is not None))

    def _on_pixels(
        self, clips: Tensor, latents: Tensor, sent: Tensor, first: int, draws: BatchDraws
    ) -> dict[str, Tensor]:
        """Pixel losses on the VAE's output, before the clamp to ±1 that would stop gradients.

        Args:
            latents: input of the VAE's decoder: clean context, then refined latents.
            sent: the latent codec's output.
        """
        if clips.shape[1] == LATENT_CHANNELS:
            raise GnvcError("precomputed latents have no pixels to compare: train with videos")
        past = 1 + 4 * (first - 1) if first else 0
        decoded = self.vae.reconstruction(latents * self.vae.std + self.vae.mean)[:, :, past:]
        video, weights = to_model(clips)[:, :, past:], self.stage.weights

        def plain(decoded: Tensor) -> Tensor:
            return weights.pixel * losses.squared_error(decoded, video)

        terms = {"pixel": losses.squared_error(decoded, video)}
        return terms | self.pictures(weights, Pictures(decoded, video, sent, past), plain, draws)

    def validate(self, clips: Sequence[Tensor]) -> Validation:
        """Every clip is one GOP; bytes are those of its whole stream."""
        originals = [pixels_of(clip) for clip in clips]
        codec = self.codec()
        decoding = DecodeOptions(refine=self.stage.refines)
        figures: dict[str, float] = {}
        scores: list[float] = []
        pictures: dict[str, Frame] = {}
        levels = self.settings.run.qualities if self.rate.quality is None else (self.rate.quality,)
        for quality in levels:
            encoding = EncodeOptions(quality, gop=originals[0].shape[0], scenecut=False, canvas="off")
            points = []
            for video in originals:
                size, decoded = _encode_and_decode(codec, video, encoding, decoding)
                error = np.square((video.astype(np.float64) - decoded) / 127.5).mean()
                patterns = lattices(video, decoded).values()
                points.append((8 * size / video[..., 0].size, psnr(video, decoded), error, *patterns))
                pictures.setdefault(f"quality {quality}", decoded)
            bpp, ratio, error, *patterns = np.mean(points, axis=0).tolist()
            figures |= {f"bpp_{quality}": bpp, f"psnr_{quality}": ratio}
            figures |= {f"lattice_{stride}_{quality}": one for stride, one in zip(STRIDES, patterns, strict=True)}
            weight = losses.lambda_of(torch.tensor([quality]), self.rate)
            scores.append(float((bpp + weight * error) / weight.sqrt()))
        return Validation(float(np.mean(scores)), figures, sheets(originals[0], pictures))

    def codec(self, note: str = "", places: Tensor | None = None) -> GnvcVd:
        """The codec now, to validate or save: the live refiner and a frozen copy of the bottleneck.

        Args:
            places: positions of the qualities on the trained scale (bottleneck.freeze); by default as trained.
                Where nothing that decides symbols trains, the start's integers stay.
        """
        bottleneck = copy.deepcopy(self.bottleneck).requires_grad_(False).eval()
        if places is not None or "codec" in self.stage.trains or not (self.begin is None and bool(bottleneck.frozen)):
            bottleneck.freeze(places)
        # A dummy hash: its streams are never kept, and a sharded refiner has no full weights to hash.
        name, refinement = self.settings.model.name, self.stage.refinement
        return GnvcVd(name, self.backbone, bottleneck, bytes(4), lambda: self.refiner, note, refinement)


def _encode_and_decode(
    codec: GnvcVd, video: Frame, encoding: EncodeOptions, decoding: DecodeOptions
) -> tuple[int, Frame]:
    height, width = video.shape[1:3]
    info = VideoInfo(width, height, Fraction(25), None, Colour("bt709", "limited"), "", "")
    stream = codec.encode(Video(info, ((frame, None) for frame in video)), encoding)
    return len(stream), np.concatenate(list(codec.decode(stream, decoding)))
