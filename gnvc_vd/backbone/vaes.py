"""Which VAE a preset has, Wan's or the light one, and a VAE alone. The light one needs nothing of diffusers."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from torch import nn

from gnvc_vd.backbone.light_vae import LightNetwork, LightVae
from gnvc_vd.backbone.sources import fill, find
from gnvc_vd.backbone.tiles import Tiling
from gnvc_vd.conventions import UsageError
from gnvc_vd.presets import RANDOM_SEED, Preset, VaePreset, preset

if TYPE_CHECKING:
    from gnvc_vd.backbone.wan_vae import Kernels, WanVae

AnyVae: TypeAlias = "WanVae | LightVae"


def network_of(preset: VaePreset) -> nn.Module:
    """What a weights file holds, with random weights."""
    if preset.architecture == "light":
        return LightNetwork(preset)
    from gnvc_vd.backbone.wan_vae import build_vae

    return build_vae(preset)


def vae_with(
    network: nn.Module, preset: VaePreset, kernels: "Kernels" = "auto", tiling: Tiling | None = None
) -> AnyVae:
    """The network behind the VideoVae contract."""
    if preset.architecture == "wan":
        from gnvc_vd.backbone.wan_vae import WanVae

        return WanVae(network, kernels, tiling)
    if tiling is not None:
        raise UsageError("the light VAE does not work in tiles")
    return LightVae(cast(LightNetwork, network), preset)


def load_vae(name: str | Path, dtype: torch.dtype = torch.float32) -> AnyVae:
    """A backbone's VAE by preset name, folder or hub id, without taking memory for its transformer."""
    if name == "nano":
        return random_vae(preset("nano"))
    source = find(str(name))
    with torch.device("meta"):
        network = network_of(source.vae)
    fill(network, source.vae_tensors(), source.where)
    return _frozen(vae_with(nn.Module.to(network, dtype), source.vae))


def random_vae(sizes: Preset) -> AnyVae:
    """The VAE that a backbone with random weights has at these sizes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        return _frozen(vae_with(network_of(sizes.vae), sizes.vae))


def _frozen(vae: AnyVae) -> AnyVae:
    vae.eval().requires_grad_(False)
    return vae
