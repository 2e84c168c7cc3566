"""What a VAE's latents are worth: quality uncoded, and under an ideal transform code at some rates.

python -m lab.probe_latents MODEL VIDEO… [--rates 0.02 0.006] [--frames 25] [--size 256] [--sheet PNG]

The sheet shows for each clip some frames side by side, a row for the original, the uncoded one and each rate; below
them one column of pixels over time, where flicker shows.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.backbone.weights import load_backbone, random_backbone
from gnvc_vd.conventions import Colour, Frame, GnvcError
from gnvc_vd.evaluate.compare import Panel
from gnvc_vd.metrics.ideal import IdealCode
from gnvc_vd.metrics.pairs import Pairing
from gnvc_vd.presets import PRESETS
from gnvc_vd.video import Picture
from gnvc_vd.video.pictures import sheets, write_picture
from gnvc_vd.video.pixels import pixels_of, to_frames, to_model
from lab.probe_clips import middle_clips

METRICS = ("psnr_rgb", "st_lpips_alex", "vmaf")
BT709 = Colour("bt709", "limited")


@dataclass(frozen=True)
class Judged:
    """A clip as a VAE shows it at a rate of its latents; without a rate, uncoded: the ceiling."""

    bpp: float | None
    figures: dict[str, float | None]
    frames: Frame  # T H W 3


@torch.inference_mode()
def judge(vae: VideoVae, clip: Tensor, rates: Sequence[float]) -> list[Judged]:
    """A clip, uint8 3 T H W with sides in multiples of 16, uncoded and at each rate in bits per pixel."""
    video, original = to_model(clip[None].to(vae.mean.device)), pixels_of(clip)
    latents = vae.encode(video)
    code = IdealCode(latents.cpu())
    rows = []
    for rate in (None, *rates):
        coded = latents if rate is None else code.at_bits(rate * clip[0].numel()).latents.to(latents.device)
        frames = to_frames(vae.decode(coded)[0])
        rows.append(Judged(rate, _figures(original, frames), frames))
    return rows


def _figures(original: Frame, shown: Frame) -> dict[str, float | None]:
    """As `gnvc-vd compare` measures."""
    height, width = original.shape[1:3]
    panel = Panel(METRICS, width, height, "dis", "cpu")
    try:
        pairing = Pairing(BT709, "cpu")
        for one, other in zip(original, shown, strict=True):
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
        for row in judge(backbone.vae, clip, arguments.rates):
            rate = "uncoded" if row.bpp is None else f"{row.bpp:.4f}"
            figures = "".join(f"{'–' if found is None else f'{found:.4f}':>15}" for found in row.figures.values())
            print(f"{path[-32:]:32} {rate:>8}{figures}", flush=True)
            shown[rate] = row.frames
        pictures += sheets(pixels_of(clip), shown).values()
    if arguments.sheet is not None:
        widest = max(picture.shape[1] for picture in pictures)
        padded = [np.pad(picture, ((0, 8), (0, widest - picture.shape[1]), (0, 0))) for picture in pictures]
        write_picture(arguments.sheet, np.concatenate(padded))


if __name__ == "__main__":
    raise SystemExit(main())
