"""Wan's causal video VAE as a streaming VAE, with the same results as diffusers' own `encode` and `decode`.

Memory is that of one step for clips of any length. On a CPU, layers may use faster kernels with another order of sums:
for a batch of one, torch runs small 3-D convolutions as the naive `slow_conv3d`, and norms over channels, which are far
apart in memory, as a scalar loop. With diffusers' layers, these two take most of a decoding step.
"""

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm
from torch import Tensor, nn

from gnvc_vd.backbone.light_vae import Decoder
from gnvc_vd.backbone.streaming import State, VideoVae
from gnvc_vd.backbone.tiles import Tiling, cut, join
from gnvc_vd.conventions import LATENT_CHANNELS, SPATIAL_STRIDE
from gnvc_vd.presets import VaePreset

# One entry per cached convolution and tile; diffusers' decoder leaves a marker string in some after the first step.
Caches = list[Tensor | str | None]
TileStep = Callable[[Tensor, Caches], Tensor]  # updates the caches
STEP_MEMORY = 18 * 2**30 / (1280 * 720) / 96 / 2  # bytes for each pixel, base channel and byte of a number; an H100's
SHARE = 0.7  # of a GPU's memory, for a step; the rest is for weights and the transformer
EPSILON = 1e-12  # of torch.nn.functional.normalize


class WanVae(VideoVae):
    """diffusers' AutoencoderKLWan as a streaming VAE.

    Args:
        kernels: "stock": torch's choice, which on a CPU is a naive loop for small clips; "auto": oneDNN's kernels
            where they can run (faster, but the last bits differ: see `gnvc-vd bench backbone`).
        tiling: work in tiles, for pictures whose features do not fit in memory; "auto": where on a GPU they do not.
    """

    model: AutoencoderKLWan

    def __init__(
        self,
        model: AutoencoderKLWan,
        kernels: Literal["auto", "stock"] = "auto",
        tiling: Tiling | Literal["auto"] | None = None,
    ) -> None:
        super().__init__(model, model.config.latents_mean, model.config.latents_std)
        self.tiling = tiling
        if kernels != "stock":
            use_fast_kernels(model)
        self.decoder_step = None if isinstance(model.decoder, Decoder) else 1
        self._encoder_caches = _count_caches(model.encoder)
        self._decoder_caches = _count_caches(model.decoder)

    def moments(self, state: State | None, frames: Tensor) -> tuple[Tensor, State]:
        def encode(tile: Tensor, caches: Caches) -> Tensor:
            return self.model.quant_conv(self.model.encoder(tile, feat_cache=caches, feat_idx=[0]))

        return self._in_tiles(encode, self._encoder_caches, state, frames, 1, 1 / SPATIAL_STRIDE)

    def decode_unnormalised(self, state: State | None, z: Tensor) -> tuple[Tensor, State]:
        if isinstance(self.model.decoder, Decoder):
            return self.model.decoder.step(state, z)

        def decode(tile: Tensor, caches: Caches) -> Tensor:
            x = self.model.post_quant_conv(tile)
            frames = self.model.decoder(x, feat_cache=caches, feat_idx=[0], first_chunk=state is None)
            if self.compiled:  # then some are parts of larger tensors, a layout that the next step would compile for
                caches[:] = [one.contiguous() if isinstance(one, Tensor) else one for one in caches]
            return cast(Tensor, frames)

        return self._in_tiles(decode, self._decoder_caches, state, z, 1 / SPATIAL_STRIDE, 1)

    def _in_tiles(
        self, step: TileStep, count: int, state: State | None, x: Tensor, scale: float, scale_after: float
    ) -> tuple[Tensor, State]:
        """Run one step in tiles, each with its own caches; scales are resolutions relative to the picture's."""
        size = [side / scale for side in x.shape[3:]]
        tiling = self._tiling_of(x, size)
        tiles = cut(x, tiling, scale)
        after: list[Caches] = [list(caches) for caches in state or [(None,) * count] * sum(map(len, tiles))]
        caches = iter(after)
        done = [[step(tile, next(caches)) for tile in row] for row in tiles]
        return join(done, tiling, size, scale_after), tuple(map(tuple, after))

    def _tiling_of(self, x: Tensor, size: Sequence[float]) -> Tiling | None:
        if self.tiling != "auto":
            return self.tiling
        if x.device.type != "cuda":
            return None
        memory = torch.cuda.get_device_properties(x.device).total_memory  # not what is free now: all steps take one way
        return tiling_that_fits(size, self.model.config.base_dim, x.element_size(), memory)


def tiling_that_fits(size: Sequence[float], base_dim: int, bytes_each: int, memory: int) -> Tiling | None:
    """No tiles where a step's features fit in a GPU's memory, else the usual ones."""
    needed = STEP_MEMORY * size[0] * size[1] * base_dim * bytes_each
    return None if needed <= SHARE * memory else Tiling()


def build_vae(preset: VaePreset) -> AutoencoderKLWan:
    """Build a preset's VAE with random weights."""
    model = AutoencoderKLWan(
        base_dim=preset.base_dim,
        z_dim=LATENT_CHANNELS,
        latents_mean=list(preset.latents_mean),
        latents_std=list(preset.latents_std),
    )
    if preset.light_decoder is not None:  # nothing stands before it
        model.decoder, model.post_quant_conv = Decoder(preset.light_decoder), nn.Identity()
    return model


class FastCausalConv3d(WanCausalConv3d):
    """WanCausalConv3d with oneDNN's kernel on a CPU, and without a padded copy of the features."""

    def forward(self, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        width, _, height, _, before, _ = self._padding
        if before and cache_x is not None:
            x, before = torch.cat([cache_x, x], dim=2), before - cache_x.shape[2]
        if before:
            x = nn.functional.pad(x, (0, 0, 0, 0, before, 0))
        padding = (0, height, width)
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # the compiler picks kernels itself
            return nn.functional.conv3d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return torch.ops.aten.mkldnn_convolution.default(
            x, self.weight, self.bias, padding, self.stride, self.dilation, self.groups
        )


class FastRmsNorm(WanRMS_norm):
    """WanRMS_norm with a vectorised sum of squares, and one pass less over the features."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or not self.channel_first:
            return cast(Tensor, super().forward(x))
        norm = x.square().sum(1, keepdim=True).sqrt().clamp_min(EPSILON)
        return (x / norm).mul(self.scale * self.gamma) + self.bias


FASTER: dict[type[nn.Module], type[nn.Module]] = {WanCausalConv3d: FastCausalConv3d, WanRMS_norm: FastRmsNorm}


def use_fast_kernels(model: nn.Module) -> None:
    """Replace layers by their faster versions, if this build of torch has oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return
    for layer in model.modules():
        layer.__class__ = FASTER.get(type(layer), type(layer))


def _count_caches(module: nn.Module) -> int:
    return sum(isinstance(part, WanCausalConv3d) for part in module.modules())
