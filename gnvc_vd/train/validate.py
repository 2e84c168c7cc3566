"""What a training is judged by, on clips that it never draws: figures, a score (lower is better), pictures.

vae      PSNR of reconstructions
prior    L_CFM at fixed σ, with nothing given and with the first frame
codec    an RD point for each quality: real units, decoded as a decoder would

PSNR is of a whole clip's squared error, then the mean over clips; `gnvc-vd compare` takes the mean over frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.backbone.conditioning import FIRST, NOTHING, condition_on
from gnvc_vd.bitstream import Unit
from gnvc_vd.codec import Decoding, Encoding, GnvcVd, stream_size
from gnvc_vd.conventions import Colour, Frame
from gnvc_vd.data.clips import to_levels, to_model
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.parameters import Parameters
from gnvc_vd.refine import flow
from gnvc_vd.train import losses
from gnvc_vd.train.config import Training
from gnvc_vd.train.draws import BatchDraws
from gnvc_vd.train.stages import PriorStage, VaeStage
from gnvc_vd.video import VideoInfo

SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)
STRIP_FRAMES = 5


@dataclass(frozen=True)
class Verdict:
    score: float
    figures: dict[str, float]
    pictures: dict[str, Frame] = field(default_factory=dict)


@torch.no_grad()
def validate_vae(stage: VaeStage, clips: Sequence[Tensor]) -> Verdict:
    """Clips are uint8, 3 T H W."""
    found = []
    for clip in clips:
        video = to_model(clip[None].to(stage.vae.mean.device))
        found.append(_frames(stage.vae.decode(stage.vae.encode(video))[0]))
    originals = [_pixels(clip) for clip in clips]
    ratios = [psnr(a, b) for a, b in zip(originals, found, strict=True)]
    figures = {"psnr": float(np.mean(ratios)), "psnr_first_frame": _first_frames(originals, found)}
    return Verdict(-figures["psnr"], figures, _pictures(originals[0], {"reconstruction": found[0]}))


@torch.no_grad()
def validate_prior(stage: PriorStage, clips: Sequence[Tensor], seed: int) -> Verdict:
    device = stage.vae.mean.device
    found: dict[str, list[float]] = {}
    for number, clip in enumerate(clips):
        video = to_model(clip[None].to(device))
        clean = stage.vae.encode(video)
        noise = BatchDraws(seed, [number], device).normal_like(clean)
        for name, given in (("nothing", NOTHING), ("first", FIRST)):
            condition = condition_on(stage.vae, video, given)
            for sigma in SIGMAS:
                at = torch.tensor([sigma], device=device)
                velocity = stage.dit.velocity(flow.path(clean, noise, at, 1.0), at, condition)
                loss = losses.flow_matching(velocity, flow.velocity(clean, noise, 1.0))
                found.setdefault(f"cfm_{name}_{sigma}", []).append(float(loss))
    figures = {name: float(np.mean(values)) for name, values in found.items()}
    return Verdict(float(np.mean(list(figures.values()))), figures)


def validate_codec(codec: GnvcVd, clips: Sequence[Tensor], training: Training) -> Verdict:
    """Every clip is one GOP; bytes are those of its whole stream."""
    originals = [_pixels(clip) for clip in clips]
    stage = training.stage
    decoding = Decoding(refine=stage.unrolled > 0 and (stage.weights.refined > 0 or stage.weights.pixel > 0))
    parameters = Parameters(steps=max(1, stage.unrolled), sigma_0=stage.sigma_0)
    figures: dict[str, float] = {}
    scores: list[float] = []
    shown: dict[str, Frame] = {}
    levels = training.habits.qualities if training.rate.quality is None else (training.rate.quality,)
    for quality in levels:
        encoding = Encoding(quality, gop=originals[0].shape[0], scenecut=False, parameters=parameters)
        rates, ratios, errors = [], [], []
        for video in originals:
            size, found = _coded(codec, video, encoding, decoding)
            rates.append(8 * size / video[..., 0].size)
            ratios.append(psnr(video, found))
            errors.append(float(np.square((video.astype(np.float64) - found) / 127.5).mean()))
            shown.setdefault(f"quality {quality}", found)
        bpp, error = float(np.mean(rates)), float(np.mean(errors))
        figures |= {f"bpp_{quality}": bpp, f"psnr_{quality}": float(np.mean(ratios))}
        weight = losses.lambda_of(torch.tensor([quality]), training.rate)
        scores.append(float((bpp + weight * error) / weight.sqrt()))
    return Verdict(float(np.mean(scores)), figures, _pictures(originals[0], shown))


def _coded(codec: GnvcVd, video: Frame, encoding: Encoding, decoding: Decoding) -> tuple[int, Frame]:
    height, width = video.shape[1:3]
    info = VideoInfo(width, height, Fraction(25), None, Colour("bt709", "limited"), "", "")
    header = codec.header(info, encoding)
    units: list[Unit] = list(codec.encode_units(iter(video), encoding))
    decoded = [window for unit in units for window in codec.decode_unit(header, unit, decoding)]
    return stream_size(header, units), np.concatenate(decoded)


def _pictures(original: Frame, found: dict[str, Frame]) -> dict[str, Frame]:
    """Frames side by side, a row for each way; and what one column of pixels does over time, where flicker shows."""
    rows = [original, *found.values()]
    places = np.linspace(0, len(original) - 1, min(STRIP_FRAMES, len(original))).round().astype(int)
    frames = np.concatenate([np.concatenate(list(video[places]), axis=1) for video in rows])
    middle = original.shape[2] // 2
    flicker = np.concatenate([video[:, :, middle].transpose(1, 0, 2) for video in rows])
    return {"frames": frames, "flicker": flicker.repeat(4, axis=1)}


def _first_frames(originals: Sequence[Frame], found: Sequence[Frame]) -> float:
    return float(np.mean([psnr(a[:1], b[:1]) for a, b in zip(originals, found, strict=True)]))


def _pixels(clip: Tensor) -> Frame:
    pixels: Frame = clip.permute(1, 2, 3, 0).contiguous().numpy()
    return pixels


def _frames(video: Tensor) -> Frame:
    """3 T H W in [−1, 1] to T H W 3 uint8."""
    return _pixels(to_levels(video).cpu())
