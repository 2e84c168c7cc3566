"""What refinement is worth to a codec: the latents' error before and after it, for each quality and way of refining."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.common.noise import normal
from gnvc_vd.conventions import bits_per_pixel
from gnvc_vd.learned.codec import GnvcVd, apart
from gnvc_vd.video.pixels import to_model
from lab.prior_probe import error


@dataclass(frozen=True)
class Way:
    """A way of refining: where it starts, in how many steps, and whether each latent goes as if there were no other."""

    parameters: Refinement
    apart: bool = False


@dataclass(frozen=True)
class Refined:
    """A quality refined in a way; `before` and `after` in dB, relative to the clean latents' variance."""

    quality: int
    bpp: float  # of the payload alone
    way: Way
    before: float
    after: float


@torch.inference_mode()
def refined(codec: GnvcVd, clip: Tensor, qualities: Sequence[int], ways: Sequence[Way]) -> Iterator[Refined]:
    """A clip, uint8 3 T H W, as one GOP and one window."""
    frames, height, width = clip.shape[1:]
    clean = codec.backbone.vae.encode(to_model(clip[None].to(codec.device)))
    noise = normal(clean.shape, (0, 0), (0, 0, 0), codec.device)
    for quality in qualities:
        payloads, known = codec.bottleneck.compress(clean, [quality] * clean.shape[2])
        decoded = torch.stack([one.latent for one in known], dim=2)
        features = torch.stack([one.feature for one in known], dim=2)
        rate = bits_per_pixel(len(payloads[0].data), width, height, frames)
        before = error(decoded, clean)
        for way in ways:
            told = way.parameters
            start = decoded, features, told.noise_scale * noise
            given = map(apart, start) if way.apart else start
            found = codec.refiner(*given, told.sigma_0, told.steps)
            yield Refined(quality, rate, way, before, error(found, apart(clean) if way.apart else clean))


def mean_of(found: Iterable[Refined]) -> list[Refined]:
    """Over clips: of the rates, and of the errors in dB."""
    groups: dict[tuple[int, Way], list[Refined]] = {}
    for one in found:
        groups.setdefault((one.quality, one.way), []).append(one)
    return [
        replace(
            same[0],
            bpp=sum(one.bpp for one in same) / len(same),
            before=sum(one.before for one in same) / len(same),
            after=sum(one.after for one in same) / len(same),
        )
        for same in groups.values()
    ]
