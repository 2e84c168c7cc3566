"""Which VAE a preset has: Wan's, or the light one."""

from torch import nn

from gnvc_vd.backbone.light_vae import LightNetwork, LightVae
from gnvc_vd.backbone.tiles import Tiling
from gnvc_vd.backbone.vae import Kernels, WanVae, build_vae
from gnvc_vd.conventions import UsageError
from gnvc_vd.presets import VaePreset

AnyVae = WanVae | LightVae


def network_of(preset: VaePreset) -> nn.Module:
    """What a weights file holds, with random weights."""
    return LightNetwork(preset) if preset.architecture == "light" else build_vae(preset)


def vae_with(network: nn.Module, preset: VaePreset, kernels: Kernels = "auto", tiling: Tiling | None = None) -> AnyVae:
    """The network behind the VideoVae contract."""
    if preset.architecture == "wan":
        return WanVae(network, kernels, tiling)
    if tiling is not None:
        raise UsageError("the light VAE does not work in tiles")
    assert isinstance(network, LightNetwork)
    return LightVae(network, preset)
