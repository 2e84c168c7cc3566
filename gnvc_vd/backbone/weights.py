"""Weights from wherever they lie, into the modules of a preset, strictly: every tensor expected, none beside.

preset             nano: from a seed · tiny: with the package · wan2.1-…: where scripts/fetch_weights.py put them
hub id             org/name or org/name@revision, likewise
model folder       model.json beside safetensors (ours; hashes checked)
diffusers folder   vae/ and transformer/, with config.json and safetensors
original folder    Wan2.1_VAE.pth, config.json, diffusion_pytorch_model*.safetensors
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from gnvc_vd.backbone.dit import Attention, WanDit, build_dit, kept_in_float32, restore_rope
from gnvc_vd.backbone.prompt import NoTextEncoderError, embed
from gnvc_vd.backbone.sources import EMPTY_PROMPT, Located, fill, find
from gnvc_vd.backbone.tiles import Tiling
from gnvc_vd.backbone.vae import Kernels
from gnvc_vd.backbone.vaes import AnyVae, network_of, vae_with
from gnvc_vd.files import replacing
from gnvc_vd.model import BackboneReference, ModelDescription, file_sha256, write_description
from gnvc_vd.presets import PRESETS, RANDOM_SEED, DitPreset, Preset, VaePreset, preset


@dataclass(frozen=True)
class Options:
    """How a backbone computes. Each deviation from diffusers' own numbers is a named option."""

    dtype: torch.dtype = torch.float32
    kernels: Kernels = "auto"
    tiling: Tiling | None = None
    attention: Attention = field(default_factory=Attention)


@dataclass
class Backbone:
    """VAE and transformer, frozen."""

    name: str
    vae_preset: VaePreset
    dit_preset: DitPreset
    vae: AnyVae
    dit: WanDit
    files: Mapping[str, Path]  # what was loaded; empty for weights from a seed
    note: str = ""

    @cached_property
    def hashes(self) -> dict[str, str]:
        """sha256 of each file."""
        return {name: file_sha256(path) for name, path in self.files.items()}

    @property
    def identity(self) -> bytes:
        """32 bytes that change with the float weights: what the container's shown-world identity begins with."""
        if not self.files:
            return hashlib.sha256(f"{self.name} {RANDOM_SEED} {self.vae_preset} {self.dit_preset}".encode()).digest()
        return hashlib.sha256("".join(f"{name} {self.hashes[name]}\n" for name in sorted(self.files)).encode()).digest()

    def embed(self, prompt: str) -> Tensor:
        """Tokens × text_dim, by the text encoder that lies beside the empty prompt's embedding."""
        beside = self.files.get(EMPTY_PROMPT)
        if beside is None or (self.name in PRESETS and PRESETS[self.name].source is None):
            raise NoTextEncoderError(f"{self.name} has no text encoder, and can be told no caption")
        return embed(beside.parent, prompt)

    def to(self, device: torch.device | str) -> "Backbone":
        self.vae.to(device)
        self.dit.to(device)
        return self


def load_backbone(name: str | Path, options: Options | None = None) -> Backbone:
    """VAE and transformer by preset name, folder or hub id. Needs no network."""
    options = options or Options()
    if name == "nano":
        return random_backbone(preset("nano"), options)
    return _assembled(find(str(name)), options)


def random_backbone(sizes: Preset, options: Options | None = None) -> Backbone:
    """Weights from a seed, at any preset's sizes: for nano, and for what only looks at time and memory."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        vae, dit = network_of(sizes.vae), build_dit(sizes.dit)
    text = torch.zeros(1, sizes.dit.text_dim)
    parts = _Parts(sizes.name, sizes.vae, sizes.dit, vae, dit, text, {}, sizes.note)
    return _with_options(parts, options or Options())


def save_backbone(backbone: Backbone, folder: Path, name: str, half: bool = False) -> None:
    """A model folder with the backbone's weights in it, in the precision they have or in half of float32's."""
    from safetensors.torch import save_file

    with replacing(folder) as part:
        part.mkdir()
        tensors = {
            "vae.safetensors": backbone.vae.model.state_dict(),
            "dit.safetensors": backbone.dit.model.state_dict(),
            EMPTY_PROMPT: {"text": backbone.dit.text[0]},
        }
        for file, state in tensors.items():
            held = {key: (value.half() if half else value) for key, value in state.items()}
            save_file({key: value.detach().cpu().contiguous() for key, value in held.items()}, part / file)
        files = {file: file_sha256(part / file) for file in tensors}
        reference = BackboneReference(backbone.vae_preset, backbone.dit_preset, files)
        write_description(part, ModelDescription(name, reference, note=backbone.note))


@dataclass(frozen=True)
class _Parts:
    name: str
    vae_preset: VaePreset
    dit_preset: DitPreset
    vae: nn.Module
    dit: nn.Module
    text: Tensor
    files: Mapping[str, Path]
    note: str = ""


def _assembled(source: Located, options: Options) -> Backbone:
    """Modules on the meta device first: a wrong size is found before any memory is taken for it."""
    with torch.device("meta"):
        vae, dit = network_of(source.vae), build_dit(source.dit)
    fill(vae, source.vae_tensors(), source.where)
    fill(dit, source.dit_tensors(), source.where)
    restore_rope(dit)
    parts = _Parts(source.where, source.vae, source.dit, vae, dit, source.text(), source.files, source.note)
    return _with_options(parts, options)


def _with_options(parts: _Parts, options: Options) -> Backbone:
    for name, parameter in parts.dit.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if kept_in_float32(name) else options.dtype)
    vae = vae_with(nn.Module.to(parts.vae, options.dtype), parts.vae_preset, options.kernels, options.tiling)
    dit = WanDit(parts.dit, parts.dit_preset, parts.text.float(), options.attention)
    for module in (vae, dit):
        module.eval().requires_grad_(False)
    return Backbone(parts.name, parts.vae_preset, parts.dit_preset, vae, dit, parts.files, parts.note)
