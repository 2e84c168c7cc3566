"""The transform codec (learned/bottleneck/transform.py) trained alone on stored latents, and judged by payloads.

python -m lab.study_transform BACKBONE VIDEO… --latents FOLDER… [--steps 1200] [--out codec.safetensors] [--sheet PNG]
python -m lab.study_transform BACKBONE VIDEO… --start codec.safetensors [--sheet PNG]

BACKBONE is the model whose VAE made the latents (scripts/precompute_latents.py); videos are clips that nobody trained
on, of which the first 25 frames of the middle are coded. Printed before the first step and after the last: payload bits
per pixel and PSNR of the frames that the VAE decodes, then PSNR at fixed rates beside the ideal code of the same
latents (metrics/ideal.py). The sheet has a row for the original and one for each of the lower rates, at the nearest
quality; below them one column of pixels over time.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import QUALITIES, Frame, GnvcError, UsageError
from gnvc_vd.data.latents import LatentClips, encoder_identity
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.bottleneck.transform import Transform
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.metrics.ideal import IdealCode
from gnvc_vd.presets import preset
from gnvc_vd.train.losses import bits_per_pixel, rate_distortion, squared_error
from gnvc_vd.train.settings import Rate
from gnvc_vd.video.pictures import sheets, write_picture
from gnvc_vd.video.pixels import pixels_of, to_frames, to_model
from lab.probe_clips import middle_clips

LEVELS = tuple(range(0, QUALITIES, 9))
RATES = (0.006, 0.0125, 0.025, 0.05)  # bits per pixel
SHOWN_RATES = RATES[:3]
RATE = Rate(smallest=0.01, largest=12.0, thrift=0.08)
BATCH, LEARNING_RATE, WARMUP, AVERAGE = 8, 4e-3, 40, 0.99
MEASURED = 512  # clips that the start is measured on

Codec = Transform | Contextual


@dataclass(frozen=True)
class Clip:
    name: str
    frames: Frame  # T H W 3
    latents: Tensor  # 1 16 T h w


@dataclass(frozen=True)
class Point:
    bpp: float
    psnr: float
    frames: Frame  # T H W 3, as decoded


@dataclass(frozen=True)
class Budget:
    """How long a training is: so many steps, or seconds of the clock."""

    steps: int | None = None
    seconds: float = math.inf

    def part(self, step: int, seconds: float) -> float:
        """How much of it is over."""
        if self.steps is None:
            return seconds / self.seconds
        return step / self.steps if self.steps else 1.0


@dataclass(frozen=True)
class Rated:
    """Parameters that train at one learning rate."""

    parameters: list[nn.Parameter]
    rate: float


class Steps(NamedTuple):
    taken: int
    skipped: int  # whose gradient was not finite


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", metavar="BACKBONE", help="a model folder or preset")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument("--latents", nargs="+", default=[], metavar="FOLDER", help="of precompute_latents.py")
    parser.add_argument("--start", type=Path, metavar="FILE", help="a codec that --out kept, instead of a measured one")
    parser.add_argument("--steps", type=int, default=1200, help="of training (1200)")
    parser.add_argument("--size", type=int, default=256, help="of the crop from the middle (256)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the trained codec's tensors there")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write pictures of the trained codec there")
    arguments = parser.parse_args(argv)
    try:
        study(arguments)
    except GnvcError as error:
        print(f"study_transform: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def study(arguments: argparse.Namespace) -> None:
    vae = load_backbone(arguments.backbone).vae
    clips = [clip_of(vae, path, arguments.size) for path in arguments.videos]
    latents = stored_latents(vae, arguments.latents) if arguments.latents else None
    torch.manual_seed(0)
    model = Transform(preset("tiny").transform, RATE.thrift)
    if arguments.start is not None:
        restore(model, arguments.start)
    elif latents is not None:
        model.measure(measured_on(latents), RATE.smallest, RATE.largest)
    else:
        raise UsageError("a codec begins from --latents, which are measured, or from --start")
    parameters = sum(one.numel() for one in model.parameters()) / 1e6
    print(
        f"{0 if latents is None else len(latents)} clips of latents, {parameters:.2f} M parameters; their ideal code:"
    )
    for clip in clips:
        code, pixels = IdealCode(clip.latents), clip.frames[..., 0].size
        decoded = [to_frames(vae.decode(code.at_bits(rate * pixels).latents)[0]) for rate in RATES]
        print(f"  {clip.name:24} " + "  ".join(f"{psnr(clip.frames, one):5.2f}" for one in decoded))
    points = judge(model, vae, clips, "step 0")
    if latents is not None and arguments.steps:
        started = time.perf_counter()
        train(model, latents, Budget(arguments.steps), transform_rates(model))
        points = judge(model, vae, clips, f"step {arguments.steps}, {time.perf_counter() - started:.0f} s")
    if arguments.out is not None:
        with replacing(arguments.out) as unfinished:
            save_file({name: value.contiguous() for name, value in model.state_dict().items()}, unfinished)
    if arguments.sheet is not None:
        draw(arguments.sheet, clips, points)


def restore(model: Transform, path: Path) -> None:
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise GnvcError(f"{path}: no codec that --out kept ({str(error).splitlines()[0]})") from error


def draw(path: Path, clips: Sequence[Clip], points: Sequence[Sequence[Point]]) -> None:
    drawn: list[Frame] = []
    for clip, curve in zip(clips, points, strict=True):
        nearest = [min(curve, key=lambda one: abs(math.log(one.bpp / rate))) for rate in SHOWN_RATES]
        drawn += sheets(
            clip.frames, {str(rate): one.frames for rate, one in zip(SHOWN_RATES, nearest, strict=True)}
        ).values()
        print(f"{clip.name}: rows are the original, " + ", ".join(f"{one.bpp:.4f}" for one in nearest) + " bpp")
    widest = max(picture.shape[1] for picture in drawn)
    write_picture(path, np.concatenate([np.pad(one, ((0, 8), (0, widest - one.shape[1]), (0, 0))) for one in drawn]))


def clip_of(vae: VideoVae, path: str, size: int) -> Clip:
    clip = next(middle_clips(path, 25, size))
    with torch.inference_mode():
        return Clip(Path(path).stem, pixels_of(clip), vae.encode(to_model(clip[None])).clone())


def stored_latents(vae: VideoVae, folders: Sequence[str]) -> Tensor:
    stored = [LatentClips(folder, encoder_identity(vae)) for folder in folders]
    return torch.stack([one[number] for one in stored for number in range(len(one))])


def measured_on(latents: Tensor) -> Tensor:
    return latents[torch.randperm(len(latents))[:MEASURED]].float()


def transform_rates(model: Transform) -> list[Rated]:
    return [Rated(list(model.parameters()), LEARNING_RATE)]


def train(model: Codec, latents: Tensor, budget: Budget, rated: Sequence[Rated]) -> Steps:
    """At all qualities at once; leaves the average of the weights in the model."""
    generator = torch.Generator().manual_seed(1)
    groups = [{"params": one.parameters, "lr": one.rate} for one in rated]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)
    trained = [parameter for one in rated for parameter in one.parameters]
    averages = [one.detach().clone() for one in trained]
    model.train()
    skipped, started = 0, time.perf_counter()
    with tqdm(total=budget.steps, unit="step", desc="training", disable=None) as progress:
        for step in count():
            part = budget.part(step, time.perf_counter() - started)
            if part >= 1:
                break
            for group, one in zip(optimiser.param_groups, rated, strict=True):
                group["lr"] = one.rate * _part_of_rate(step, part)
            batch = latents[torch.randint(len(latents), (BATCH,), generator=generator)].float()
            quality = torch.randint(QUALITIES, (BATCH,), generator=generator)
            out = model(batch, quality[:, None].expand(-1, batch.shape[2]))
            bpp, error = bits_per_pixel(out.bits, batch), squared_error(out.latents, batch)
            loss = rate_distortion(bpp, error, quality, RATE).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if torch.isfinite(torch.nn.utils.clip_grad_norm_(trained, 1.0)):
                optimiser.step()
            else:
                skipped += 1
            kept = min(AVERAGE, (1 + step) / (10 + step))
            torch._foreach_lerp_(averages, [one.detach() for one in trained], 1 - kept)
            progress.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
            progress.update()
    with torch.no_grad():
        for parameter, average in zip(trained, averages, strict=True):
            parameter.copy_(average)
    return Steps(step - skipped, skipped)


def judge(model: Codec, vae: VideoVae, clips: Sequence[Clip], when: str) -> list[list[Point]]:
    """Payloads, decoded again, of each clip at some qualities; at fixed rates what lies between."""
    print(f"{when}: bits per pixel / PSNR of qualities {LEVELS}, then PSNR at {RATES} bpp")
    means = []
    for clip, points in zip(clips, coded_points(model, vae, clips), strict=True):
        means.append(points)
        print(f"  {clip.name:24} " + "  ".join(f"{one.bpp:.4f}/{one.psnr:.2f}" for one in points))
        print(f"  {'':24} " + "  ".join(f"{one:5.2f}" for one in at_rates(points)), flush=True)
    print(f"  {'mean':24} " + "  ".join(f"{one:5.2f}" for one in mean_at_rates(means)), flush=True)
    return means


@torch.no_grad()
def coded_points(model: Codec, vae: VideoVae, clips: Sequence[Clip]) -> Iterator[list[Point]]:
    """Of each clip, a payload at each of the levels."""
    model.eval()
    model.freeze()
    for clip in clips:
        yield [_point(model, vae, clip, quality) for quality in LEVELS]


def mean_at_rates(curves: Sequence[Sequence[Point]]) -> list[float]:
    """PSNR at the fixed rates, a mean over clips; not a number where one of them was never coded that low or high."""
    return [float(one) for one in np.mean([at_rates(points) for points in curves], axis=0)]


def at_rates(points: Sequence[Point]) -> list[float]:
    """PSNR at the fixed rates, between those that were coded."""
    ordered = sorted(points, key=lambda one: one.bpp)
    rates, ratios = [math.log(one.bpp) for one in ordered], [one.psnr for one in ordered]
    return [float(one) for one in np.interp(np.log(RATES), rates, ratios, left=math.nan, right=math.nan)]


def _point(model: Codec, vae: VideoVae, clip: Clip, quality: int) -> Point:
    levels, size = [quality] * clip.latents.shape[2], clip.latents.shape[3:]
    (payload,), _ = model.compress(clip.latents, levels)
    decoded = list(model.decompress([payload.data], [payload.symbol_hash], (size[0], size[1]), levels))
    frames = to_frames(vae.decode(torch.stack([one.latent for one in decoded], 2))[0])
    return Point(8 * len(payload.data) / clip.frames[..., 0].size, psnr(clip.frames, frames), frames)


def _part_of_rate(step: int, part: float) -> float:
    return min(1.0, (step + 1) / WARMUP) * (0.05 + 0.95 * (1 + math.cos(math.pi * part)) / 2)


if __name__ == "__main__":
    raise SystemExit(main())
