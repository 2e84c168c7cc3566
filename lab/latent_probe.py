"""How a VAE shows a clip uncoded, and from latents under an ideal transform code: how to choose a VAE."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.conventions import Colour, Frame
from gnvc_vd.evaluate.compare import Panel
from gnvc_vd.metrics.ideal import IdealCode
from gnvc_vd.metrics.pairs import Pairing
from gnvc_vd.video import Picture
from gnvc_vd.video.pixels import pixels_of, to_frames, to_model

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
