"""What codecs ask of a backbone: of its VAE a stream with explicit state, of its transformer a velocity.

    frames 0 | 1–4 | 5–8 …  ──encode_step──▶  latent 0 | 1 | 2 …   one latent a step, normalised
    latent 0 | 1 | 2 …      ──decode_step──▶  frames 0 | 1–4 | 5–8 …

    x, σ                    ──velocity──▶     E[noise − data | x at σ]

Latents are normalised with the VAE's mean and deviation, video is RGB in [−1, 1], both B C T H W.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from gnvc_vd.conventions import TEMPORAL_STRIDE

State = tuple[Any, ...]  # whatever the VAE wants to have next time; opaque to everyone else


class Encoded(NamedTuple):
    latent: Tensor  # B C 1 h w
    state: State


class Decoded(NamedTuple):
    frames: Tensor  # B 3 T H W, T = 1 at the first step and 4 after it
    state: State


class VideoVae(Protocol):
    """A video VAE; the first five serve codecs, the rest its own training."""

    mean: Tensor
    std: Tensor

    @property
    def model(self) -> nn.Module: ...  # what a weights file holds

    def encode(self, video: Tensor) -> Tensor: ...
    def decode(self, latents: Tensor) -> Tensor: ...
    def encode_step(self, state: State | None, frames: Tensor) -> Encoded: ...
    def decode_step(self, state: State | None, latent: Tensor) -> Decoded: ...
    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]: ...
    def reconstruction(self, z: Tensor) -> Tensor: ...


class Condition(NamedTuple):
    """What an image-conditioned preset sees beside the noisy latent."""

    channels: Tensor  # B 20 T h w: mask and latent of the given frames
    image: Tensor | None = None  # B tokens image_dim: CLIP embedding, where the preset has one


class VelocityModel(Protocol):
    def velocity(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None, *, text: Tensor | None = None
    ) -> Tensor: ...


@dataclass(frozen=True)
class Attention:
    """Which kernel computes attention: diffusers' name for it ("native", "flash", "sage", …)."""

    backend: str = "native"


def encode_steps(vae: VideoVae, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Chunks of 1, 4, 4, … frames to latents, as they come."""
    state: State | None = None
    for chunk in chunks:
        latent, state = vae.encode_step(state, chunk)
        yield latent


def decode_steps(vae: VideoVae, latents: Iterable[Tensor]) -> Iterator[Tensor]:
    """Single latents to chunks of 1, 4, 4, … frames, as they come."""
    state: State | None = None
    for latent in latents:
        frames, state = vae.decode_step(state, latent)
        yield frames


def chunked(video: Tensor) -> list[Tensor]:
    """A clip of 1 + 4k frames as the steps take it."""
    rest = video[:, :, 1:]
    return [video[:, :, :1], *(rest.split(TEMPORAL_STRIDE, dim=2) if rest.shape[2] else ())]


def check_step(x: Tensor, channels: int, length: int, multiple: int) -> None:
    """Refuse what a step does not take."""
    good = x.ndim == 5 and x.shape[1:3] == (channels, length) and not any(side % multiple for side in x.shape[3:])
    if not good:
        raise ValueError(
            f"expected B {channels} {length} H W with sides in multiples of {multiple}, not {tuple(x.shape)}"
        )
