"""What motion could give the transform codec, and what a canvas does: bits saved, one idea at a time.

python -m lab.study_motion MODEL VIDEO… [--size H×W …] [--latents FOLDER… [--steps 150] [--only WORD]]

MODEL is a folder whose codec is a transform codec, latents are those that it was trained on
(scripts/precompute_latents.py). Of every video the first 25 frames are coded, cropped in the middle to each size that
fits. Printed as Markdown:
1. the trained codec by its own likelihoods: rate, PSNR, shares of the slices; the same on a canvas on which the scene
   stands (learned/canvas.py), with its bits in percent at equal PSNR, and those that the encoder's rule counts;
2. with latents, for each candidate of a proxy, bits in percent of those of the one rotation that the codec has, at the
   latent error which that has at 0.004, 0.0112 and 0.025 bits per pixel.

The proxy codes the codec's own slices with one step for all, a dead zone, and normal distributions whose scales a
network of two hidden layers makes of magnitudes that a decoder has: earlier slices, places above and to the left,
channels before. It is fitted anew for each candidate on the training latents, so nothing is told of what it codes.
Candidates: rotations of other lengths; other splits of time, everywhere or chosen for each place or group of places
(choices are paid for); blocks that follow integer motion, an upper bound since overlaps and gaps cost nothing; a second
level, 2×2 places of the lowest slice by Haar (in percent of that slice).
"""

import argparse
import math
import sys
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pixel_unshuffle

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.bitstream import gop as gops
from gnvc_vd.codecs.load import load
from gnvc_vd.conventions import Frame, GnvcError, UsageError
from gnvc_vd.data.latents import LatentClips, encoder_identity
from gnvc_vd.learned.bottleneck.transform import Transform
from gnvc_vd.learned.canvas import Canvas
from gnvc_vd.learned.codec import GnvcVd
from gnvc_vd.learned.pan_search import bits_of, pan_of
from gnvc_vd.metrics.block_transform import dct
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.video import open_video
from gnvc_vd.video.pixels import to_frames, to_model
from lab.motion_proxy import (
    STEPS,
    Candidate,
    Proxy,
    choose_basis,
    fit,
    follow_motion,
    lowest,
    parts,
    quantise,
    split_basis,
    whole,
)

RATES = (0.004, 0.0112, 0.025)  # bits per pixel
QUALITIES = (6, 15, 24, 33, 42)
FRAMES, BLOCK, TRAINING = 25, 16, 256  # of a clip; pixels of a place; clips of each folder that proxies are fitted on
ROTATION, LOWEST = "one rotation, DCT", "the lowest slice"


def candidates(basis: Tensor, count: int) -> dict[str, tuple[Candidate, str]]:
    """By name, each with the name of the one that it is compared with."""
    early, late = split_basis(count // 2, count - count // 2), split_basis(count - count // 2, count // 2)
    bases, halves = [dct(count), early, late], (count // 2, count - count // 2)
    curves: dict[str, Candidate] = {
        ROTATION: partial(whole, basis=dct(count)),
        f"rotations of {halves[0]} and {halves[1]}": partial(parts, lengths=halves),
        "rotations of 1": partial(parts, lengths=(1,) * count),
        "time split in two, everywhere": partial(whole, basis=early),
        **{f"split or not, each {n}×{n} places": partial(choose_basis, bases=bases, group=n) for n in (1, 2, 4)},
        **{f"motion of {n}×{n} places": partial(follow_motion, basis=basis, group=n) for n in (2, 4)},
        LOWEST: partial(lowest, levels=1),
        "the lowest slice, Haar of 2×2": partial(lowest, levels=2),
    }
    return {name: (one, LOWEST if name.startswith(LOWEST) else ROTATION) for name, one in curves.items()}


def curve(candidate: Candidate, models: Sequence[Proxy], blocks: Tensor, pixels: int) -> list[tuple[float, float]]:
    """Log bits per pixel and log error at every step, the coarsest first."""
    points = []
    for step in STEPS:
        made, bits, error = candidate(blocks, step), 0.0, 0.0
        for model, part in zip(models, made, strict=True):
            bits += model(part, step).sum().item() + part.told.item()
            error += (part.values - step * quantise(part.values / step)).square().sum().item()
        points.append((math.log(bits / pixels), math.log(error)))
    return points


def saving(points: Sequence[tuple[float, float]], reference: Sequence[tuple[float, float]], rate: float) -> float:
    """Percent of bits more than the reference has at this rate, at its error; not a number where a curve has none."""
    between = partial(np.interp, left=math.nan, right=math.nan)
    error = between(math.log(rate), *zip(*reference, strict=True))
    at = between(-error, [-one[1] for one in points], [one[0] for one in points])
    return float(100 * math.expm1(at - math.log(rate)))


def cell(percent: float) -> str:
    return "–" if math.isnan(percent) else f"{percent:+.1f}"


def transform_of(codec: GnvcVd) -> Transform:
    if not isinstance(codec.bottleneck, Transform):
        raise UsageError(f"{codec.name} has no transform codec")
    return codec.bottleneck


def coded(model: Transform, vae: VideoVae, frames: Frame, canvas: Canvas | None) -> list[tuple[float, ...]]:
    """Bits per pixel, PSNR and each slice's percent, by quality; of a canvas where there is one."""
    padded = gops.pad(frames if canvas is None else canvas.place_frames(frames))
    latents, points = vae.encode(model_clip(padded)), []
    for quality in QUALITIES:
        out = model.train()(latents, torch.full((1, latents.shape[2]), quality))
        decoded = to_frames(vae.decode(out.latents)[0])
        decoded = decoded if canvas is None else canvas.crop_frames(decoded)
        bits = out.bits[0]
        bpp = (bits.sum().item() + (0 if canvas is None else 8 * len(canvas.pack()))) / frames[..., 0].size
        points.append((bpp, psnr(frames, decoded), *(100 * bits / bits.sum()).tolist()))
    return points


def study(arguments: argparse.Namespace) -> None:
    codec = load(arguments.model)
    vae, model = codec.backbone.vae, transform_of(codec)
    stored = [LatentClips(folder, encoder_identity(vae)) for folder in arguments.latents]
    clips = {}
    for video in arguments.videos:
        for size in arguments.size:
            frames = middle(video, *size)
            if frames is not None:
                clips[f"{Path(video).stem} {frames.shape[2]}×{frames.shape[1]}"] = frames
    print("| clip | quality | bpp | dB | percent of bits by slice |\n|---|---|---|---|---|")
    with torch.no_grad():
        for name, frames in clips.items():
            plain, still = (coded(model, vae, frames, one) for one in (None, pan_of(frames)))
            for kind, points in (("", plain), (", canvas", still)):
                for quality, (bpp, ratio, *shares) in zip(QUALITIES, points, strict=True):
                    listed = " ".join(f"{one:.0f}" for one in shares)
                    print(f"| {name}{kind} | {quality} | {bpp:.5f} | {ratio:.2f} | {listed} |", flush=True)
            figures = [[(math.log(one[0]), -one[1]) for one in points] for points in (still, plain)]
            percent = " / ".join(cell(saving(figures[0], figures[1], rate)) for rate in RATES)
            rule = 100 * (bits_of(pan_of(frames).place_frames(frames)) / bits_of(frames) - 1)
            print(f"| {name}, canvas, % of bits at equal PSNR; by the rule | | {percent} | {rule:+.1f} | |", flush=True)
        if not stored:
            return
        blocks = {name: slice_latents(model, vae.encode(model_clip(frames))) for name, frames in clips.items()}
        numbers = [(one, number) for one in stored for number in range(min(TRAINING, len(one)))]
        training = slice_latents(model, torch.stack([one[number] for one, number in numbers]))
    print(f"\n| candidate | {' | '.join(clips)} |\n|---|{'---|' * len(clips)}")
    references: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for name, (candidate, reference) in candidates(model.rotation.basis, training.shape[1]).items():
        if arguments.only not in name and name not in (ROTATION, LOWEST):
            continue
        models, cells = fit(candidate, training, arguments.steps), []
        with torch.no_grad():
            for clip, frames in clips.items():
                curve_points = curve(candidate, models, blocks[clip], frames[..., 0].size)
                against = references.setdefault((reference, clip), curve_points)
                cells.append(" / ".join(cell(saving(curve_points, against, rate)) for rate in RATES))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def slice_latents(model: Transform, latents: Tensor) -> Tensor:
    """B T 64 h w in the codec's basis, time as it was: candidates turn it."""
    blocks = pixel_unshuffle((latents - model.rotation.mean[:, None, None, None]).transpose(1, 2), 2)
    return conv2d(blocks.flatten(0, 1), model.rotation.basis[:, :, None, None]).view_as(blocks)


def model_clip(frames: Frame) -> Tensor:
    return to_model(torch.from_numpy(frames).permute(3, 0, 1, 2)[None])


def middle(video: str, height: int, width: int) -> Frame | None:
    """The first frames, cropped in the middle; nothing where they are smaller."""
    with open_video(video) as opened:
        frames = np.stack(list(islice(opened, FRAMES)))
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return None if min(top, left) < 0 else frames[:, top : top + height, left : left + width].copy()


def size_of(text: str) -> tuple[int, int]:
    height, width = (int(one) for one in text.split("x"))
    if min(height, width) <= 0 or height % BLOCK or width % BLOCK:
        raise ValueError
    return height, width


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="a model folder with a transform codec")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument("--latents", nargs="+", default=[], metavar="FOLDER", help="of precompute_latents.py")
    parser.add_argument("--size", nargs="+", type=size_of, default=[(256, 256)], metavar="HxW", help="multiples of 16")
    parser.add_argument("--steps", type=int, default=150, help="of fitting each proxy (150)")
    parser.add_argument("--only", default="", metavar="WORD", help="candidates with this in their names")
    arguments = parser.parse_args(argv)
    try:
        study(arguments)
    except GnvcError as error:
        print(f"study_motion: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
