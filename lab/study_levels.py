"""What a second level pays for the lowest slice of the transform codec: its entropy models, trained with and without.

python -m lab.study_levels MODEL VIDEO… --latents FOLDER… [--size H×W …] [--steps 300]

Slice 0 of the rotation of MODEL's transform codec, of whole 2×2 places, is coded either as it is, by an entropy
model of lowest slices, or as the four bands of a Haar transform of those places: the first by a model of lowest slices,
the other three by one of higher slices, which is told those before. Both begin as they are measured on the training
latents and take the same steps. Printed as Markdown: bits per pixel and mean squared error by quality, and the bits of
two levels in percent of those of one at the latter's errors.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from gnvc_vd.codecs.load import load
from gnvc_vd.conventions import QUALITIES, GnvcError, UsageError
from gnvc_vd.data.latents import LatentClips, vae_identity
from gnvc_vd.learned.bottleneck.gains import GAIN_AT_ONE, KNOTS, SMALLEST_SCALE
from gnvc_vd.learned.bottleneck.slices import SliceEntropy, SliceHistory
from gnvc_vd.learned.bottleneck.transform import Transform
from gnvc_vd.presets import TransformPreset
from gnvc_vd.train.losses import rate_distortion
from lab.study_motion import BLOCK, FRAMES, middle, model_clip, size_of, transform_of
from lab.study_transform import BATCH, LEARNING_RATE, RATE

HAAR = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2.0
SHOWN = (6, 12, 18, 24, 30, 36)  # qualities


class Bands(torch.nn.Module):
    """Entropy models of a slice in one band or in four."""

    def __init__(self, training: Tensor, preset: TransformPreset) -> None:
        super().__init__()
        self.count = training.shape[1]
        self.lowest = SliceEntropy(preset, lowest=True, thrift=RATE.thrift)
        self.higher = SliceEntropy(preset, lowest=False, thrift=RATE.thrift)
        gains = math.log(GAIN_AT_ONE) + torch.linspace(math.log(RATE.smallest), math.log(RATE.largest), KNOTS) / 2
        for number in range(self.count):
            model = self._model(number)
            model.start.data.copy_(gains)
            power = training[:, number].square().mean((0, 2, 3))
            model.log_scale[model.rows[self.count, number]] = power.sqrt().clamp_min(SMALLEST_SCALE).log()

    def forward(self, bands: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Bits and squared error of each clip's bands, B bands 64 h w."""
        seen: SliceHistory | None = None
        bits, error = torch.zeros(len(bands)), torch.zeros(len(bands))
        for number, band in enumerate(bands.unbind(1)):
            model, at = self._model(number), (self.count, number)
            gain = model.gain(quality, at)
            likely = model(band * gain, at, quality, None if seen is None else seen.context())
            if seen is None:
                seen = SliceHistory(likely.values.detach())
            else:
                seen.add(likely.values.detach())
            bits = bits + likely.bits
            error = error + (likely.symbols / gain - band).square().sum((1, 2, 3))
        return bits, error

    def _model(self, number: int) -> SliceEntropy:
        return self.higher if number else self.lowest


def bands_of(model: Transform, latents: Tensor, levels: int) -> Tensor:
    """B 1 64 h w, or B 4 64 h/2 w/2."""
    with torch.no_grad():
        slices = model.rotation(latents)[:, :1]
    even = slices[..., : slices.shape[3] // 2 * 2, : slices.shape[4] // 2 * 2]
    if levels == 1:
        return even
    return torch.einsum("fp,bcphw->bfchw", HAAR, pixel_unshuffle(even[:, 0], 2).unflatten(1, (-1, 4)))


def trained(training: Tensor, preset: TransformPreset, latents: int, steps: int) -> Bands:
    """As lab.study_transform trains, the whole rotation's places and pixels its measure.

    Args:
        latents: of a rotation: an error of the slice is spread over all of them.
    """
    torch.manual_seed(0)
    model, generator = Bands(training, preset).train(), torch.Generator().manual_seed(1)
    places = training[0, :, 0].numel()
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, LEARNING_RATE / 20)
    averages = [one.detach().clone() for one in parameters]
    for step in range(steps):
        batch = training[torch.randint(len(training), (BATCH,), generator=generator)]
        quality = torch.randint(QUALITIES, (BATCH,), generator=generator)
        bits, error = model(batch, quality)
        bpp, mean_error = bits / (places * BLOCK**2 * FRAMES), error / (places * 64 * latents)
        optimiser.zero_grad(set_to_none=True)
        rate_distortion(bpp, mean_error, quality, RATE).mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        torch._foreach_lerp_(averages, [one.detach() for one in parameters], 1 - min(0.99, (1 + step) / (10 + step)))
    with torch.no_grad():
        for one, average in zip(parameters, averages, strict=True):
            one.copy_(average)
    return model


@torch.no_grad()
def curve(model: Bands, bands: Tensor, qualities: Sequence[int]) -> list[tuple[float, float]]:
    """Bits per pixel and mean squared error."""
    points, pixels = [], bands[0, :, 0].numel() * BLOCK**2 * FRAMES
    for quality in qualities:
        bits, error = model(bands, torch.tensor([quality]))
        points.append((bits.item() / pixels, error.item() / bands.numel()))
    return points


def study(arguments: argparse.Namespace) -> None:
    model = load(arguments.model)
    vae, codec = model.backbone.vae, transform_of(model)
    stored = [LatentClips(folder, vae_identity(vae)) for folder in arguments.latents]
    latents = torch.stack([one[number] for one in stored for number in range(len(one))])
    models = {n: trained(bands_of(codec, latents, n), codec.preset, latents.shape[2], arguments.steps) for n in (1, 2)}
    print("| clip | quality | one level, bpp / error | two levels, % of bits at that error |\n|---|---|---|---|")
    for video in arguments.videos:
        for size in arguments.size:
            frames = middle(video, *size)
            if frames is None:
                continue
            with torch.no_grad():
                found = vae.encode(model_clip(frames))
            one = curve(models[1], bands_of(codec, found, 1), SHOWN)
            two = np.log(curve(models[2], bands_of(codec, found, 2), range(0, QUALITIES, 3)))
            for quality, (bpp, error) in zip(SHOWN, one, strict=True):
                at = np.interp(-math.log(error), -two[:, 1], two[:, 0], left=math.nan, right=math.nan)
                percent = 100 * math.expm1(at - math.log(bpp))
                name = f"{Path(video).stem} {frames.shape[2]}×{frames.shape[1]}"
                print(f"| {name} | {quality} | {bpp:.5f} / {error:.4f} | {percent:+.1f} |", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="a model folder with a transform codec")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument("--latents", nargs="+", required=True, metavar="FOLDER", help="of precompute_latents.py")
    parser.add_argument("--size", nargs="+", type=size_of, default=[(256, 256)], metavar="HxW", help="multiples of 16")
    parser.add_argument("--steps", type=int, default=300, help="of training each (300)")
    arguments = parser.parse_args(argv)
    try:
        study(arguments)
    except GnvcError as error:
        print(f"study_levels: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
