"""Wan's own checkpoint layout, translated by the key maps that diffusers ships.

A translation that does not fit the network exactly is refused where the tensors are assigned.
"""

from collections.abc import Mapping

from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers, convert_wan_vae_to_diffusers
from torch import Tensor

from gnvc_vd.conventions import LATENT_CHANNELS, GnvcError
from gnvc_vd.presets import DitPreset

Tensors = Mapping[str, Tensor]


def convert_vae(tensors: Tensors) -> dict[str, Tensor]:
    return dict(convert_wan_vae_to_diffusers(dict(tensors)))


def convert_dit(tensors: Tensors) -> dict[str, Tensor]:
    return dict(convert_wan_transformer_to_diffusers(dict(tensors)))


def vae_width(tensors: Tensors) -> int:
    return _shape(tensors, "encoder.conv_in.weight")[0]


def dit_preset(config: Mapping[str, object], tensors: Tensors) -> DitPreset:
    """Sizes from the tensors; the number of heads, which no shape tells, from Wan's config.json."""
    dim, channels = _shape(tensors, "patch_embedding.weight")[:2]
    heads, tokens = config.get("num_heads"), config.get("text_len", 512)
    if not isinstance(heads, int) or not isinstance(tokens, int) or heads < 1 or dim % heads:
        raise GnvcError(f"config.json: {heads!r} heads do not divide a width of {dim}")
    image = "condition_embedder.image_embedder"
    return DitPreset(
        layers=1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")),
        heads=heads,
        head_dim=dim // heads,
        ffn_dim=_shape(tensors, "blocks.0.ffn.net.0.proj.weight")[0],
        text_dim=_shape(tensors, "condition_embedder.text_embedder.linear_1.weight")[1],
        text_tokens=tokens,
        freq_dim=_shape(tensors, "condition_embedder.time_embedder.linear_1.weight")[1],
        condition_channels=channels - LATENT_CHANNELS,
        image_dim=_shape(tensors, f"{image}.norm1.weight")[0] if f"{image}.norm1.weight" in tensors else None,
        image_tokens=_shape(tensors, f"{image}.pos_embed")[1] if f"{image}.pos_embed" in tensors else None,
    )


def _shape(tensors: Tensors, name: str) -> tuple[int, ...]:
    if name not in tensors:
        raise GnvcError(f"not Wan's own layout: no tensor becomes {name!r}")
    return tuple(tensors[name].shape)
