"""What a preset costs before it is there: parameters, download, memory. Computed on the meta device."""

from dataclasses import dataclass

import torch

from gnvc_vd.backbone.dit import build_dit
from gnvc_vd.backbone.vaes import network_of
from gnvc_vd.presets import Preset

PUBLISHED_BYTES = 4  # a parameter in the public diffusers folders, which hold float32


@dataclass(frozen=True)
class Plan:
    vae_parameters: int
    dit_parameters: int

    @property
    def parameters(self) -> int:
        return self.vae_parameters + self.dit_parameters

    @property
    def download_bytes(self) -> int:
        """At most: some repositories hold less precision."""
        return PUBLISHED_BYTES * self.parameters

    def memory_bytes(self, bytes_per_parameter: int) -> int:
        """Weights alone; activations come on top (`gnvc-vd bench backbone`)."""
        return bytes_per_parameter * self.parameters


def plan(preset: Preset) -> Plan:
    with torch.device("meta"):
        return Plan(_count(network_of(preset.vae)), _count(build_dit(preset.dit)))


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
