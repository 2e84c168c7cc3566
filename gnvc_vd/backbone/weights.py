"""Weights from wherever they lie, into the modules of a preset, strictly: every tensor expected, none beside.

preset             nano: from a seed · tiny: with the package · wan2.1-…: where scripts/fetch_weights.py put them
hub id             org/name or org/name@revision, likewise
model folder       model.json beside safetensors (ours; hashes checked)
diffusers folder   vae/ and transformer/, with config.json and safetensors
original folder    Wan2.1_VAE.pth, config.json, diffusion_pytorch_model*.safetensors
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gnvc_vd.backbone.folder import BackboneReference, ModelDescription, write_description
from gnvc_vd.backbone.interfaces import Attention
from gnvc_vd.backbone.prompt import NoTextEncoderError, embed
from gnvc_vd.backbone.sources import EMPTY_PROMPT, Located, fill, find
from gnvc_vd.backbone.tiles import Tiling
from gnvc_vd.backbone.vaes import AnyVae, network_of, vae_with
from gnvc_vd.common.files import file_sha256, replacing
from gnvc_vd.common.strict import stated
from gnvc_vd.presets import PRESETS, RANDOM_SEED, DitPreset, Preset, VaePreset, preset

if TYPE_CHECKING:
    from gnvc_vd.backbone.dit import WanDit
    from gnvc_vd.backbone.wan_vae import Kernels


@dataclass(frozen=True)
class Options:
    """How a backbone computes. Each deviation from diffusers' own numbers is a named option."""

    dtype: torch.dtype = torch.float32
    kernels: "Kernels" = "auto"
    tiling: Tiling | None = None
    attention: Attention = field(default_factory=Attention)


@dataclass
class Backbone:
    """VAE and transformer, frozen.

    The transformer is read, and what it is built with imported, when it is first asked for: who only encodes with
    GNVC-VD, or looks at what is not refined, never asks.
    """

    name: str
    vae_preset: VaePreset
    dit_preset: DitPreset
    vae: AnyVae
    load_dit: Callable[[], "WanDit"]
    files: Mapping[str, Path]  # what was loaded; empty for weights from a seed
    note: str = ""

    def __post_init__(self) -> None:
        self.load_dit = cache(self.load_dit)  # one transformer, also for what `replace` makes of this backbone

    @cached_property
    def dit(self) -> "WanDit":
        with torch.inference_mode(False):  # whoever asks first, it is there for everyone
            return self.load_dit().to(self.vae.mean.device)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """sha256 of each file."""
        return {name: file_sha256(path) for name, path in self.files.items()}

    @property
    def identity(self) -> bytes:
        """32 bytes that change with the float weights: what the container's shown-world identity begins with."""
        if not self.files:
            sizes = json.dumps([stated(self.vae_preset), stated(self.dit_preset)])  # by model.json's keys
            return hashlib.sha256(f"{self.name} {RANDOM_SEED} {sizes}".encode()).digest()
        return hashlib.sha256("".join(f"{name} {self.hashes[name]}\n" for name in sorted(self.files)).encode()).digest()

    def embed(self, prompt: str) -> Tensor:
        """Tokens × text_dim, by the text encoder that lies beside the empty prompt's embedding."""
        beside = self.files.get(EMPTY_PROMPT)
        if beside is None or (self.name in PRESETS and PRESETS[self.name].source is None):
            raise NoTextEncoderError(f"{self.name} has no text encoder, and can be told no caption")
        return embed(beside.parent, prompt)

    def to(self, device: torch.device | str) -> "Backbone":
        self.vae.to(device)
        if "dit" in vars(self):
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
    options = options or Options()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        vae = network_of(sizes.vae)

    def load_dit() -> "WanDit":
        from gnvc_vd.backbone.dit import random_dit

        return random_dit(sizes, options.dtype, options.attention)

    return Backbone(sizes.name, sizes.vae, sizes.dit, _vae(vae, sizes.vae, options), load_dit, {}, sizes.note)


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


def _assembled(source: Located, options: Options) -> Backbone:
    """Modules on the meta device first: a wrong size is found before any memory is taken for it."""
    with torch.device("meta"):
        vae = network_of(source.vae)
    fill(vae, source.vae_tensors(), source.where)

    def load_dit() -> "WanDit":
        from gnvc_vd.backbone.dit import stored_dit

        return stored_dit(source, options.dtype, options.attention)

    ready = _vae(vae, source.vae, options)
    return Backbone(source.where, source.vae, source.dit, ready, load_dit, source.files, source.note)


def _vae(network: nn.Module, preset: VaePreset, options: Options) -> AnyVae:
    vae = vae_with(nn.Module.to(network, options.dtype), preset, options.kernels, options.tiling)
    vae.eval().requires_grad_(False)
    return vae
