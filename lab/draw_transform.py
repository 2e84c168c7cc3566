"""Draws what the transform codec's transform does to latents: python -m lab.draw_transform OUT.png [VIDEO…]

The latents are of the first 25 frames of each video (the clips that come with the package), of the VAE of --model; the
basis of 2×2 blocks is measured on all of them, as a training's is on its clips. Shown is the first video:

    frames ─VAE─▶ latents ─DCT over time─▶ frequencies ─2×2 blocks, basis U─▶ slices, each with its share of the energy
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.bitstream.gop import frame_span
from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import GnvcError
from gnvc_vd.evaluate.test_sets import CLIPS
from gnvc_vd.learned.bottleneck.transform import OrthonormalTransform
from gnvc_vd.metrics.block_transform import dct
from gnvc_vd.video.pixels import to_model
from lab.probe_clips import middle_clips

FRAMES, SIDE = 25, 176  # one rotation of the usual length, of the square that the shipped clips have room for
SIDE_BY_SIDE = 8  # of a slice's 64 channels, in a square
DARKEST = 1e-2  # of a slice's coefficients beside the largest of all


class TransformSteps(NamedTuple):
    """A clip's latents on their way; energies are shares of all that is coded, one for each latent or slice."""

    latents: Tensor  # T h w, the channel that says the most
    frequencies: Tensor  # T h w, of that channel
    slices: Tensor  # T 64 h/2 w/2
    latent_energies: Tensor
    slice_energies: Tensor


@torch.inference_mode()
def transform_steps(latents: Tensor) -> TransformSteps:
    """Of the first of several clips, N 16 T h w."""
    rotation = OrthonormalTransform().eval()
    rotation.measure(latents)
    centred = latents[0] - rotation.centre()
    strongest = centred[int(centred.square().sum((1, 2, 3)).argmax())]
    slices = rotation(latents[:1])[0]
    return TransformSteps(
        strongest,
        torch.einsum("at,thw->ahw", dct(len(strongest)).to(strongest), strongest),
        slices,
        centred.square().sum((0, 2, 3)) / centred.square().sum(),
        slices.square().sum((1, 2, 3)) / slices.square().sum(),
    )


def mosaic(channels: Tensor) -> Tensor:
    """64 h w side by side, row by row, the strongest component first: 8h 8w."""
    return channels.unflatten(0, (SIDE_BY_SIDE, SIDE_BY_SIDE)).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)


def draw(clip: Tensor, transformed: TransformSteps, out: Path) -> None:
    """Five rows: frames, latents, frequencies, slices, energies."""
    count = len(transformed.latents)
    figure = Figure(figsize=(9, 6.1), layout="constrained")
    rows = figure.subplots(5, count, gridspec_kw={"height_ratios": [1, 1, 1, 1, 0.5]})
    largest = float(transformed.latents.abs().max())
    loudest = float(transformed.slices.abs().max())
    for place in range(count):
        start, stop = frame_span(place, place + 1)
        frame_title = f"frame {start}" if stop == start + 1 else f"frames {start}–{stop - 1}"
        _picture(rows[0, place], clip[:, start].permute(1, 2, 0).numpy(), frame_title)
        for row, values in ((1, transformed.latents), (2, transformed.frequencies)):
            _picture(rows[row, place], values[place].numpy(), cmap="RdBu", vmin=-largest, vmax=largest)
        magnitude = (mosaic(transformed.slices[place].abs()) / loudest).clamp_min(DARKEST).log10()
        _picture(rows[3, place], magnitude.numpy(), cmap="magma", vmin=np.log10(DARKEST), vmax=0.0)
        _share(rows[4, place], float(transformed.latent_energies[place]), float(transformed.slice_energies[place]))
    titles = ("video", "latents\n(one channel)", "DCT over\ntime", "slices: 64\ncomponents", "share of\nthe energy")
    for axes, title in zip(rows[:, 0], titles, strict=True):
        axes.set_ylabel(title, fontsize=8)
    with replacing(out) as part:
        figure.savefig(part, dpi=88, format="png")


def _picture(axes: Axes, values: NDArray[np.generic], title: str = "", **style: object) -> None:
    axes.imshow(values, interpolation="nearest", **style)  # type: ignore[arg-type]
    axes.set_title(title, fontsize=7)
    axes.set_xticks([])
    axes.set_yticks([])


def _share(axes: Axes, latent: float, slice_: float) -> None:
    """Two bars: how much of everything is in this latent, and how much in this slice."""
    for height, share, colour, name in ((1, latent, "#9a9a9a", "latent"), (0, slice_, "#d55e00", "slice")):
        axes.barh(height, share, color=colour, height=0.7)
        axes.text(0.03 + (share if share < 0.5 else 0), height, f"{name} {100 * share:.1f} %", fontsize=7, va="center")
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, 1.6)
    axes.set_xticks([])
    axes.set_yticks([])


def encoded(vae: VideoVae, clips: Sequence[Tensor]) -> Tensor:
    with torch.inference_mode():
        return torch.cat([vae.encode(to_model(clip[None])) for clip in clips]).float()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a .png")
    parser.add_argument("videos", type=Path, nargs="*", metavar="VIDEO", help="(the clips that come with the package)")
    parser.add_argument("--model", default="tiny", help="whose VAE (tiny)")
    arguments = parser.parse_args(argv)
    try:
        paths = arguments.videos or sorted(CLIPS.glob("*.mp4"))
        clips = [next(middle_clips(path, FRAMES, SIDE)) for path in paths]
        draw(clips[0], transform_steps(encoded(load_backbone(arguments.model).vae, clips)), arguments.out)
    except GnvcError as error:
        print(f"draw_transform: {error}", file=sys.stderr)
        return 1
    print(arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
