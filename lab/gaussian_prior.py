"""A video model that is known exactly: Gaussian fields with a falling spectrum that change, and their velocity.

    frame t: c_t = ρ c_t−1 + √(1 − ρ²) w_t,  w white in time, of spectrum S(f) in the plane; 16 coefficients of a block
    latents: c of the first frame, then means of four      video: c times sixteen patterns of 8 × 8 pixels

E[x_0 | x_σ, given frames] of jointly Gaussian numbers is a matrix product for each spatial frequency. So what GVC does
with a perfect prior can be measured without one.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from gnvc_vd.backbone.dit import WanDit
from gnvc_vd.backbone.image_condition import Condition
from gnvc_vd.backbone.streaming import State, VideoVae
from gnvc_vd.backbone.weights import Backbone
from gnvc_vd.bitstream.gop import frames_of
from gnvc_vd.conventions import LATENT_CHANNELS, SPATIAL_STRIDE, TEMPORAL_STRIDE, Frame
from gnvc_vd.presets import PRESETS
from gnvc_vd.video.pixels import to_frames as to_pixels

SAME = 0.985  # ρ
FALL = 2.2  # of the spectrum's power, from a frequency of one cycle in CORNER blocks on
CORNER = 6.0
STILL_ERROR = 0.03  # variance of what a still codec adds to a given frame's coefficients
LUMA, CHROMA = 10, 3  # patterns of each
PIXELS = 0.9  # a coefficient's size in pixels, times its pattern


class GaussianVae(VideoVae):
    """Sixteen smooth orthonormal patterns for each block, averaged over a latent's frames."""

    patterns: Tensor

    def __init__(self) -> None:
        super().__init__(nn.Identity(), [0.0] * LATENT_CHANNELS, [1.0] * LATENT_CHANNELS)
        self.register_buffer("patterns", _patterns())  # 16 3 8 8, orthonormal

    def encode_step(self, state: State | None, frames: Tensor) -> tuple[Tensor, State]:
        batch, _, _, height, width = frames.shape
        shape = (batch, 3, height // SPATIAL_STRIDE, SPATIAL_STRIDE, width // SPATIAL_STRIDE, SPATIAL_STRIDE)
        blocks = frames.mean(dim=2).view(shape)
        return torch.einsum("kcij,bchiwj->bkhw", self.patterns, blocks)[:, :, None] / PIXELS, ()

    def decode_step(self, state: State | None, latent: Tensor) -> tuple[Tensor, State]:
        frame = self.frame(latent[:, :, 0])
        return frame[:, :, None].repeat(1, 1, 1 if state is None else TEMPORAL_STRIDE, 1, 1), ()

    def frame(self, coefficients: Tensor) -> Tensor:
        batch, _, rows, columns = coefficients.shape
        blocks = torch.einsum("kcij,bkhw->bchiwj", self.patterns, coefficients) * PIXELS
        return blocks.reshape(batch, 3, SPATIAL_STRIDE * rows, SPATIAL_STRIDE * columns)

    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.encode(video)
        return latents, torch.zeros_like(latents)

    def reconstruction(self, z: Tensor) -> Tensor:
        return self.decode(z)


class GaussianVelocity(nn.Module):
    """E[ε − x_0 | x_σ, given frames], exactly.

    Args:
        rounding: what the velocity is rounded to, as a network in that precision would.
    """

    def __init__(self, rounding: torch.dtype = torch.float32) -> None:
        super().__init__()
        self._rounding = rounding

    def velocity(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None, *, text: Tensor | None = None
    ) -> Tensor:
        sigma = float(sigma)
        _, _, latents, height, width = x.shape
        mean, covariance = _posterior(latents, spectrum(height, width), condition)
        unit = torch.eye(latents, dtype=torch.float64)
        noisy = torch.fft.fft2(x.cpu().double(), norm="ortho")[0].permute(2, 3, 1, 0)  # h w T 16
        gain = (1 - sigma) * torch.linalg.solve((1 - sigma) ** 2 * covariance + sigma**2 * unit, covariance)
        estimate = mean + gain.to(noisy.dtype) @ (noisy - (1 - sigma) * mean)
        clean = torch.fft.ifft2(estimate.permute(3, 2, 0, 1), norm="ortho").real[None]
        velocity = (x.cpu().double() - clean) / sigma
        return velocity.to(self._rounding).float().to(x.device)


def gaussian_prior(rounding: torch.dtype = torch.float32) -> Backbone:
    """In a pretrained model's place."""
    sizes, velocity = PRESETS["nano"], cast(WanDit, GaussianVelocity(rounding))
    note = "Gaussian fields of which everything is known; no video looks like them"
    return Backbone("gaussian", sizes.vae, sizes.dit, GaussianVae(), lambda: velocity, {}, note)


def clip(vae: GaussianVae, frames: int, height: int, width: int, seed: int = 0) -> list[Frame]:
    """Pictures of the model's own kind."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = height // SPATIAL_STRIDE, width // SPATIAL_STRIDE
    power = spectrum(rows, columns).float()

    def fresh() -> Tensor:
        white = torch.randn(1, LATENT_CHANNELS, rows, columns, generator=generator)
        return torch.fft.ifft2(torch.fft.fft2(white) * power.sqrt()).real

    field, out = fresh(), []
    for _ in range(frames):
        out.append(to_pixels(vae.frame(field)[0, :, None])[0])
        field = SAME * field + math.sqrt(1 - SAME**2) * fresh()
    return out


def spectrum(height: int, width: int) -> Tensor:
    """The variance of each spatial frequency, of mean 1."""
    squared = torch.fft.fftfreq(height)[:, None].double() ** 2 + torch.fft.fftfreq(width).double() ** 2
    power = (1 + CORNER**2 * squared * 4) ** -FALL
    return power / power.mean()


def _posterior(latents: int, power: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor]:
    """Mean h w T 16 and covariance h w T T of the latents under what is given."""
    place = torch.arange(frames_of(latents), dtype=torch.float64)
    over_time = SAME ** (place[:, None] - place).abs()
    averaging = torch.zeros(latents, len(place), dtype=torch.float64)
    averaging[0, 0] = 1
    for latent in range(1, latents):
        averaging[latent, TEMPORAL_STRIDE * latent - 3 : TEMPORAL_STRIDE * latent + 1] = 1 / TEMPORAL_STRIDE
    covariance = power[..., None, None] * (averaging @ over_time @ averaging.T)
    given, seen = _given(condition, len(place))
    if condition is None or not given:
        return torch.zeros(*power.shape, latents, LATENT_CHANNELS, dtype=torch.complex128), covariance
    picks = torch.zeros(len(given), len(place), dtype=torch.float64)
    picks[range(len(given)), list(given)] = 1
    theirs = power[..., None, None] * (picks @ over_time @ picks.T)
    theirs = theirs + STILL_ERROR * torch.eye(len(given), dtype=torch.float64)
    cross = power[..., None, None] * (averaging @ over_time @ picks.T)
    gain = torch.linalg.solve(theirs, cross.mT).mT
    observed = torch.fft.fft2(seen.cpu().double(), norm="ortho").permute(2, 3, 0, 1)  # h w given 16
    return gain.to(observed.dtype) @ observed, covariance - gain @ cross.mT


def _given(condition: Condition | None, frames: int) -> tuple[Sequence[int], Tensor]:
    """Places of the given frames and their coefficients, from mask and latent as Wan's condition has them."""
    if condition is None:
        return (), torch.empty(0)
    mask, latents = condition.channels[0, :TEMPORAL_STRIDE], condition.channels[0, TEMPORAL_STRIDE:]
    means = []
    if float(mask[0, 0].mean()) > 0:
        means.append((0, latents[:, 0]))
    if frames > 1 and float(mask[-1, -1].mean()) > 0:
        means.append((frames - 1, TEMPORAL_STRIDE * latents[:, -1]))  # three of the four are grey
    return [place for place, _ in means], torch.stack([seen for _, seen in means])


def _patterns() -> Tensor:
    """The lowest cosines of a block, ten in luma and three in each of two chroma directions."""
    place = torch.arange(SPATIAL_STRIDE).double()
    cosines = torch.cos(math.pi * (place + 0.5) * place[:, None] / SPATIAL_STRIDE)
    cosines /= cosines.norm(dim=1, keepdim=True)
    lowest = sorted(((a, b) for a in range(4) for b in range(4)), key=lambda pair: (sum(pair), pair))
    colours = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]).double()
    colours /= colours.norm(dim=1, keepdim=True)
    out = [
        colours[colour][:, None, None] * cosines[a][:, None] * cosines[b]
        for colour, count in ((0, LUMA), (1, CHROMA), (2, CHROMA))
        for a, b in lowest[:count]
    ]
    return torch.stack(out).float()
