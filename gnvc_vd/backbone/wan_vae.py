"""Wan's causal video VAE as a stream (contract.py): state goes in and comes out, none stays on the module.

Memory is a step's, however long the clip. The numbers are those of diffusers' own `encode` and `decode`.
"""

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Literal

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch import Tensor, nn

from gnvc_vd.backbone.interfaces import Decoded, Encoded, State, check_step, chunked, decode_steps, encode_steps
from gnvc_vd.backbone.kernels import use_fast_kernels
from gnvc_vd.backbone.tiles import Grid, Tiling, cut, join
from gnvc_vd.conventions import LATENT_CHANNELS, SPATIAL_STRIDE, TEMPORAL_STRIDE
from gnvc_vd.presets import VaePreset

# One entry per cached convolution and tile; diffusers' decoder leaves a marker string in some after the first step.
Caches = tuple[Tensor | str | None, ...]
TileStep = Callable[[Caches | None, Tensor], tuple[Tensor, Caches]]
Kernels = Literal["auto", "stock"]


class WanVae(nn.Module):
    """diffusers' AutoencoderKLWan behind the VideoVae contract.

    Args:
        model: the module that holds the weights; in bfloat16 it computes in bfloat16, and in and out stay float32.
        convolutions: "stock" is what torch picks, which for one small clip on a CPU is a naive loop; "auto" takes
            oneDNN's kernel wherever it can run (faster, last bits differ: `gnvc-vd bench backbone` prints it).
        tiling: work in tiles, for pictures whose features do not fit in memory.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: AutoencoderKLWan, kernels: Kernels = "auto", tiling: Tiling | None = None) -> None:
        super().__init__()
        self.model = model
        self.tiling = tiling
        self.register_buffer("mean", _per_channel(model.config.latents_mean), persistent=False)
        self.register_buffer("std", _per_channel(model.config.latents_std), persistent=False)
        if kernels != "stock":
            use_fast_kernels(model)
        self._encoder_caches = _count_caches(model.encoder)
        self._decoder_caches = _count_caches(model.decoder)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def encode(self, video: Tensor) -> Tensor:
        """All at once: B 3 1+4k H W → B 16 1+k H/8 W/8."""
        return torch.cat(list(encode_steps(self, chunked(video))), dim=2)

    def decode(self, latents: Tensor) -> Tensor:
        """All at once: B 16 1+k h w → B 3 1+4k 8h 8w."""
        return torch.cat(list(decode_steps(self, latents.split(1, dim=2))), dim=2)

    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents, not normalised: what a VAE's own training needs."""
        caches: Caches | None = None
        moments = []
        for chunk in chunked(video):
            part, caches = self._encode_tile(caches, chunk.to(self.dtype))
            moments.append(part.float())
        mean, log_variance = torch.cat(moments, dim=2).chunk(2, dim=1)
        return mean, log_variance

    def reconstruction(self, z: Tensor) -> Tensor:
        """Video from latents that are not normalised, and not cut off at ±1, where no gradient would pass."""
        caches: Caches | None = None
        parts = []
        for one in z.to(self.dtype).split(1, dim=2):
            part, caches = self._decode_tile(caches, one)
            parts.append(part.float())
        return torch.cat(parts, dim=2)

    def encode_step(self, state: State | None, frames: Tensor) -> Encoded:
        """The next 4 frames (at the start, 1) to the next latent."""
        check_step(frames, channels=3, length=1 if state is None else TEMPORAL_STRIDE, multiple=SPATIAL_STRIDE)
        grid = cut(frames.to(self.dtype), self.tiling)
        moments, after = self._each(self._encode_tile, state, grid)
        z = join(moments, self.tiling, frames.shape[3:], 1 / SPATIAL_STRIDE)[:, :LATENT_CHANNELS]  # the mode
        return Encoded((z.float() - self.mean) / self.std, after)

    def decode_step(self, state: State | None, latent: Tensor) -> Decoded:
        """The next latent to the next 4 frames (at the start, 1)."""
        check_step(latent, channels=LATENT_CHANNELS, length=1, multiple=1)
        z = (latent * self.std + self.mean).to(self.dtype)
        grid = cut(z, self.tiling, 1 / SPATIAL_STRIDE)
        frames, after = self._each(self._decode_tile, state, grid)
        size = [SPATIAL_STRIDE * side for side in latent.shape[3:]]
        return Decoded(join(frames, self.tiling, size).clamp(-1, 1).float(), after)

    def _each(self, step: TileStep, state: State | None, grid: Grid) -> tuple[Grid, State]:
        """One step for every tile, each with its own caches."""
        before = iter(state) if state is not None else repeat(None)
        done = [[step(next(before), tile) for tile in row] for row in grid]
        return [[out for out, _ in row] for row in done], tuple(caches for row in done for _, caches in row)

    def _encode_tile(self, before: Caches | None, frames: Tensor) -> tuple[Tensor, Caches]:
        caches: list[Tensor | str | None] = list(before or (None,) * self._encoder_caches)
        moments = self.model.quant_conv(self.model.encoder(frames, feat_cache=caches, feat_idx=[0]))
        return moments, tuple(caches)

    def _decode_tile(self, before: Caches | None, z: Tensor) -> tuple[Tensor, Caches]:
        caches: list[Tensor | str | None] = list(before or (None,) * self._decoder_caches)
        x = self.model.post_quant_conv(z)
        frames = self.model.decoder(x, feat_cache=caches, feat_idx=[0], first_chunk=before is None)
        return frames, tuple(caches)


def build_vae(preset: VaePreset) -> AutoencoderKLWan:
    """The module of a preset, with random weights."""
    return AutoencoderKLWan(
        base_dim=preset.base_dim,
        z_dim=LATENT_CHANNELS,
        latents_mean=list(preset.latents_mean),
        latents_std=list(preset.latents_std),
    )


def _count_caches(module: nn.Module) -> int:
    return sum(isinstance(part, WanCausalConv3d) for part in module.modules())


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)
