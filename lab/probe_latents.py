"""What a VAE's latents are worth: quality uncoded, and under an ideal transform code at some rates.

Below the clips stands the VAE's own pattern: the lattice that it gives pictures of one colour, the mean of some.

python -m lab.probe_latents MODEL VIDEO… [--rates 0.02 0.006] [--frames 25] [--size 256] [--sheet PNG]

The sheet shows for each clip some frames side by side, a row for the original, the uncoded one and each rate; below
them one column of pixels over time, where flicker shows.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.backbone.weights import load_backbone, random_backbone
from gnvc_vd.conventions import Colour, Frame, GnvcError
from gnvc_vd.evaluate.compare import Panel
from gnvc_vd.metrics.ideal import IdealCode
from gnvc_vd.metrics.lattice import STRIDES, lattices
from gnvc_vd.metrics.pairs import PairMaker
from gnvc_vd.presets import PRESETS
from gnvc_vd.video import Picture, open_video
from gnvc_vd.video.pictures import sheets, write_picture
from gnvc_vd.video.pixels import pixels_of, to_frames, to_model
from lab.probe_clips import middle_clips

LATTICES = tuple(f"lattice_{stride}" for stride in STRIDES)
METRICS = ("cvvdp", "vmaf", "st_lpips_alex", "psnr_rgb", *LATTICES)
COLOURS = ((64, 64, 64), (128, 128, 128), (192, 192, 192), (192, 64, 64), (64, 192, 64), (64, 64, 192))
BT709 = Colour("bt709", "limited")


@dataclass(frozen=True)
class Judgement:
    """A clip as a VAE shows it at a rate of its latents; without a rate, uncoded: the ceiling."""

    bpp: float | None
    figures: dict[str, float | None]
    frames: Frame  # T H W 3


@torch.inference_mode()
def judge(vae: VideoVae, clip: Tensor, rates: Sequence[float], frame_rate: Fraction) -> list[Judgement]:
    """A clip, uint8 3 T H W with sides in multiples of 16, uncoded and at each rate in bits per pixel."""
    video, original = to_model(clip[None].to(vae.mean.device)), pixels_of(clip)
    latents = vae.encode(video)
    code = IdealCode(latents.cpu())
    rows = []
    for rate in (None, *rates):
        coded = latents if rate is None else code.at_bits(rate * clip[0].numel()).latents.to(latents.device)
        frames = to_frames(vae.decode(coded)[0])
        rows.append(Judgement(rate, _figures(original, frames, frame_rate), frames))
    return rows


@torch.inference_mode()
def own_lattices(vae: VideoVae, frames: int, size: int) -> dict[str, float]:
    """Of pictures of one colour, uncoded, the mean over COLOURS."""
    differences = []
    for colour in COLOURS:
        clip = torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, frames, size, size)
        decoded = to_frames(vae.decode(vae.encode(to_model(clip[None].to(vae.mean.device))))[0])
        differences.append(lattices(pixels_of(clip), decoded))
    return {name: float(np.mean([one[name] for one in differences])) for name in LATTICES}


def _figures(original: Frame, decoded: Frame, frame_rate: Fraction) -> dict[str, float | None]:
    """As `gnvc-vd compare` measures."""
    height, width = original.shape[1:3]
    panel = Panel(METRICS, width, height, frame_rate, "dis", "cpu")
    try:
        pairing = PairMaker(BT709, "cpu")
        for one, other in zip(original, decoded, strict=True):
            panel.add(pairing(Picture(one, None), Picture(other, None)))
        figures = panel.figures()
        return {name: figures[name] for name in METRICS}
    finally:
        panel.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="a model folder or preset")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.02, 0.006], help="bits per pixel (0.02 0.006)")
    parser.add_argument("--frames", type=int, default=25, help="the first so many (25)")
    parser.add_argument("--size", type=int, default=256, help="of the crop from the middle (256)")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write pictures side by side there")
    parser.add_argument("--random", action="store_true", help="random weights at the preset's sizes")
    arguments = parser.parse_args(argv)
    try:
        probe(arguments)
    except GnvcError as error:
        print(f"probe_latents: {error}", file=sys.stderr)
        return 1
    return 0


def probe(arguments: argparse.Namespace) -> None:
    random = arguments.random and arguments.model in PRESETS
    backbone = random_backbone(PRESETS[arguments.model]) if random else load_backbone(arguments.model)
    print(f"{'clip':32} {'bpp':>8}" + "".join(f"{name:>15}" for name in METRICS))
    pictures: list[Frame] = []
    for path in arguments.videos:
        clip, shown = next(middle_clips(path, arguments.frames, arguments.size)), {}
        with open_video(path) as video:
            frame_rate = video.info.rate
        for row in judge(backbone.vae, clip, arguments.rates, frame_rate):
            rate = "uncoded" if row.bpp is None else f"{row.bpp:.4f}"
            print(_line(path, rate, row.figures), flush=True)
            shown[rate] = row.frames
        pictures += sheets(pixels_of(clip), shown).values()
    print(_line("pictures of one colour", "uncoded", own_lattices(backbone.vae, arguments.frames, arguments.size)))
    if arguments.sheet is not None:
        widest = max(picture.shape[1] for picture in pictures)
        padded = [np.pad(picture, ((0, 8), (0, widest - picture.shape[1]), (0, 0))) for picture in pictures]
        write_picture(arguments.sheet, np.concatenate(padded))


def _line(clip: str, rate: str, figures: Mapping[str, float | None]) -> str:
    values = [figures.get(name) for name in METRICS]
    return f"{clip[-32:]:32} {rate:>8}" + "".join(f"{'–' if one is None else f'{one:.4f}':>15}" for one in values)


if __name__ == "__main__":
    raise SystemExit(main())
