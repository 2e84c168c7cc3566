"""A GVC layer on a GNVC-VD base: what atoms chosen from a codebook add to decoded latents, a few in each step.

python -m lab.study_layer MODEL VIDEO… [--qualities 6 20] [--metrics psnr_rgb,cvvdp,vmaf]

Of every video the first 25 frames are coded, 256×256 from the middle. The base is MODEL's stream, in bits of its
payload. A layer starts at x(σ_0) from the decoded latents and goes to σ = 0 in a few steps. At each step but the last,
noise is replaced by the atoms that match what is missing, x_1 − x̂_1 (η = 1: all of it), latent by latent; their
indexes and signs are the layer's bits, by GVC's own count. Two models steer: the refiner, which knows what the base
decoded, and the backbone's transformer alone, as in GVC. `shape` is the bound without any model: the atoms' direction
is added to the decoded latents at its best length, which is coded in a byte for each latent.

Printed as Markdown, for each base quality: the base, refined and not, every layer's gain over the better of them, and
what the base gains by spending the layer's bits itself, read off its own curve.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.backbone import flow
from gnvc_vd.codecs.load import load
from gnvc_vd.common.noise import normal
from gnvc_vd.conventions import Frame, GnvcError
from gnvc_vd.evaluate.compare import compare
from gnvc_vd.learned.bottleneck.policies import qualities
from gnvc_vd.learned.codec import NOISE_KEY, GnvcVd
from gnvc_vd.video import create_video
from gnvc_vd.video.pixels import to_frames
from gnvc_vd.zeroshot import combinadic
from gnvc_vd.zeroshot.codebook import Codebook
from lab.study_choices import LATENTS, LEVELS, clips, latents_of

SIZE = 1024  # atoms in a codebook
SEED = (0, 0x4C415945)
STARTS, STEPS, ATOMS = (0.1, 0.3), (2, 5), (4, 32)

Figures = dict[str, float]
Velocity = Callable[..., Tensor]  # of x and σ


@dataclass(frozen=True)
class Base:
    """What a decoder has of a GOP, and the clean latents."""

    clean: Tensor
    decoded: Tensor
    features: Tensor
    bits: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--qualities", nargs="+", type=int, default=[6, 20], metavar="Q", help="of the base")
    parser.add_argument("--metrics", default="psnr_rgb,cvvdp,vmaf", metavar="NAME,…")
    arguments = parser.parse_args()
    try:
        codec = load(arguments.model)
        for path in arguments.videos:
            (clip,) = clips(path, 1)
            study(codec, path.stem, clip, arguments.qualities, arguments.metrics.split(","))
    except GnvcError as error:
        print(f"study_layer: {error}", file=sys.stderr)
        return 1
    return 0


@torch.inference_mode()
def study(codec: GnvcVd, name: str, clip: Frame, levels: Sequence[int], metrics: Sequence[str]) -> None:
    def figures(latents: Tensor) -> Figures:
        return judge(clip, to_frames(codec.backbone.vae.decode(latents)[0]), metrics)

    latents = latents_of(codec, clip)
    curve = {}
    for level in sorted({*LEVELS, *levels}):
        base = base_of(codec, latents, level)
        plain, refined = figures(base.decoded), figures(refine(codec, base))
        curve[level] = (base, plain, refined)
    for level in levels:
        base, plain, refined = curve[level]
        print(f"\n{name}, quality {level}: {bpp(base.bits, clip):.5f} bpp\n")
        print(f"| | bpp | {' | '.join(metrics)} | the base with these bits |")
        print("|" + "---|" * (len(metrics) + 3))
        print(row("base", base.bits, clip, plain, None))
        print(row("refined", base.bits, clip, refined, None))
        for title, bits, reached in layers(codec, base):
            wanted = read_off([(one.bits, figure) for one, figure, _ in curve.values()], base.bits + bits)
            print(row(title, base.bits + bits, clip, figures(reached), wanted), flush=True)


def base_of(codec: GnvcVd, latents: Tensor, level: int) -> Base:
    (payload,), decoded = codec.bottleneck.compress(latents, qualities(level, LATENTS))
    shown = torch.stack([one.latent for one in decoded], dim=2)
    features = torch.stack([one.feature for one in decoded], dim=2)
    return Base(latents, shown, features, 8 * len(payload.data))


def refine(codec: GnvcVd, base: Base) -> Tensor:
    settings = codec.refinement
    sigma_0 = flow.sigma_0_for(base.decoded - base.clean, settings.sigma_ratio or 1.0).item()
    noise = settings.noise_scale * normal(base.decoded.shape, (0, NOISE_KEY), (0, 0, 0))
    return codec.refiner(base.decoded, base.features, noise, sigma_0, settings.steps)


def layers(codec: GnvcVd, base: Base) -> list[tuple[str, int, Tensor]]:
    """Title, bits and latents of every layer."""
    found = list[tuple[str, int, Tensor]]()
    for atoms in ATOMS:
        found.append((f"shape, {atoms} atoms", *shape_layer(base, atoms)))
        for sigma_0 in STARTS:
            hints = codec.refiner.hints(base.decoded, base.features, sigma_0)
            models: dict[str, Velocity] = {
                "refiner": partial(codec.refiner.velocity, hints=hints),
                "backbone": codec.backbone.dit.velocity,
            }
            for steps in STEPS:
                for name, velocity in models.items():
                    title = f"{name}, σ_0 {sigma_0}, {steps} steps, {atoms} atoms"
                    found.append((title, *steered(base, velocity, sigma_0, steps, atoms)))
    return found


def steered(base: Base, velocity: Velocity, sigma_0: float, steps: int, atoms: int) -> tuple[int, Tensor]:
    """From x(σ_0) to 0; noise is atoms wherever there is any."""
    z, bits = chosen(base.clean - base.decoded, 0, atoms)
    x = flow.start_point(base.decoded, z, sigma_0)
    sigmas = [sigma_0 * (steps - number) / steps for number in range(steps)]
    for number, (sigma, following) in enumerate(pairwise(sigmas), start=1):
        clean = flow.estimate(x, sigma, velocity(x, sigma))
        z, spent = chosen(base.clean - clean, number, atoms)
        x, bits = flow.start_point(clean, z, following), bits + spent
    return bits, flow.estimate(x, sigmas[-1], velocity(x, sigmas[-1]))


def shape_layer(base: Base, atoms: int) -> tuple[int, Tensor]:
    missing = base.clean - base.decoded
    z, bits = chosen(missing, 0, atoms)
    length = (missing * z).mean((1, 3, 4), keepdim=True)  # z has unit variance
    return bits + 8 * missing.shape[2], base.decoded + length * z


def chosen(missing: Tensor, number: int, atoms: int) -> tuple[Tensor, int]:
    """Noise of unit variance that points where something is missing, and the bits that say which."""
    parts = []
    for place, one in enumerate(missing[0].unbind(1)):
        book = Codebook(SIZE, one.numel(), SEED, (number, place, 0))
        parts.append(book.assemble(book.select(one, atoms)).view_as(one))
    return torch.stack(parts, 1)[None], missing.shape[2] * (combinadic.bits(SIZE, atoms) + atoms)


def read_off(curve: Sequence[tuple[int, Figures]], bits: int) -> Figures:
    """The base's figures at so many bits, linear in their logarithm."""
    rates = [math.log(rate) for rate, _ in curve]
    return {name: float(np.interp(math.log(bits), rates, [one[name] for _, one in curve])) for name in curve[0][1]}


def judge(reference: Frame, test: Frame, metrics: Sequence[str]) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.mkv" for name in ("reference", "test")]
        for path, frames in zip(paths, (reference, test), strict=True):
            with create_video(str(path), frames.shape[2], frames.shape[1], Fraction(25)) as writer:
                for frame in frames:
                    writer.write(frame)
        done = compare(str(paths[0]), str(paths[1]), metrics=metrics)
    return {name: math.nan if (value := done.figures[name]) is None else value for name in metrics}


def bpp(bits: int, clip: Frame) -> float:
    return bits / clip[..., 0].size


def row(title: str, bits: int, clip: Frame, figures: Figures, wanted: Figures | None) -> str:
    cells = " | ".join(f"{value:.2f}" for value in figures.values())
    beside = "" if wanted is None else " / ".join(f"{value:.2f}" for value in wanted.values())
    return f"| {title} | {bpp(bits, clip):.5f} | {cells} | {beside} |"


if __name__ == "__main__":
    raise SystemExit(main())
