"""Training steps of latent codecs on stored latents, clips a second: forward and backward of R + λD, no optimiser.

Both kinds in tiny's sizes; the contextual one with its integer layers' weights quantised once a pass and, as the stock
way, at every call. Latents and weights are random: time does not depend on them.
"""

import inspect
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from gnvc_vd.bench.harness import PrintLine, Report, best_of, device_name, print_nothing
from gnvc_vd.conventions import LATENT_CHANNELS, QUALITIES
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.bottleneck.transform import Transform
from gnvc_vd.presets import preset
from gnvc_vd.train.losses import bits_per_pixel, rate_distortion, squared_error
from gnvc_vd.train.settings import Rate

CLIPS, LATENTS, SIDE, ROUNDS = 8, 7, 20, 3


class QuantiseEveryCall(Contextual):
    """Quantises the weights of integer layers at every call."""

    forward = inspect.unwrap(Contextual.forward)


def measure(print_line: PrintLine = print_nothing) -> Report:
    report = Report(f"training: {CLIPS} clips of {LATENTS} latents of {SIDE}×{SIDE}, {device_name()}", print_line)
    sizes = preset("tiny")
    torch.manual_seed(0)
    codecs = [
        ("contextual, requantising", QuantiseEveryCall(sizes.contextual)),
        ("contextual", Contextual(sizes.contextual)),
        ("transform", Transform(sizes.transform)),
    ]
    add_rows(report, codecs)
    return report


def add_rows(report: Report, models: Sequence[tuple[str, nn.Module]], clips: int = CLIPS) -> None:
    """A row for each latent codec, all timed in turn; what they are compared with is the first.

    Args:
        models: names and codecs whose forward takes latents and their qualities, and returns a BottleneckOutput.
    """
    latents = torch.randn(clips, LATENT_CHANNELS, LATENTS, SIDE, SIDE)
    seconds = best_of(ROUNDS, *(partial(train, model.train(), latents) for _, model in models))
    for (name, _), took in zip(models, seconds, strict=True):
        ratio = f": {seconds[0] / took:.2f} × the clips a second" if took is not seconds[0] else ""
        key = "training_" + "_".join(name.replace(",", "").split())
        figures = {f"{key}_clips_per_second": clips / took, f"{key}_ratio": seconds[0] / took}
        report.add(name, f"{clips / took:.2f} clips/s{ratio}", **figures)


def train(model: nn.Module, latents: Tensor) -> None:
    """One step's gradients, also where the caller follows none."""
    quality = torch.linspace(0, QUALITIES - 1, len(latents)).long()
    with torch.inference_mode(False), torch.enable_grad():
        model.zero_grad(set_to_none=True)
        out = model(latents, quality[:, None].expand(-1, latents.shape[2]))
        bpp, error = bits_per_pixel(out.bits, latents), squared_error(out.latents, latents)
        rate_distortion(bpp, error, quality, Rate()).mean().backward()
