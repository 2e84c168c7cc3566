"""Load a backbone (VAE and transformer) by name; sources.py finds its weights."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from gnvc_vd.backbone.compiling import compile_decoder, compile_dit
from gnvc_vd.backbone.encoders import IMAGE_ENCODER, ImageEncoder, NoTextEncoderError, embed
from gnvc_vd.backbone.folder import BackboneReference, ModelDescription, check_sizes, write_description
from gnvc_vd.backbone.lean_diffusers import import_diffusers, without_values
from gnvc_vd.backbone.light_vae import LightVae
from gnvc_vd.backbone.sources import DIT_FILE, EMPTY_PROMPT, VAE_FILE, Tensors, WeightSource, fill, find, from_seed
from gnvc_vd.backbone.streaming import ENCODER_PARTS, VideoVae
from gnvc_vd.backbone.tiles import Tiling
from gnvc_vd.common.files import file_sha256, replacing
from gnvc_vd.common.strict import without_defaults
from gnvc_vd.conventions import GnvcError
from gnvc_vd.presets import PRESETS, RANDOM_DIT_SEED, RANDOM_SEED, DitPreset, Preset, VaePreset

if TYPE_CHECKING:
    from gnvc_vd.backbone.dit import WanDit

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Options:
    """Options for computing. Every option whose results differ from diffusers' is named here.

    Args:
        vae_encoder, vae_decoder, transformer: dtype of their weights and computations. None leaves a transformer as
            stored, mapped to its files, for a caller who makes the copies (train/setup.py).
        compile: compile the VAE's decoder and the transformer's blocks, for each size of pictures when it first comes:
            for a GPU and many GOPs of one size. Not for GVC.
        lean: import diffusers without the packages beside it (lean_diffusers.py): programs, which start sooner so.
    """

    vae_encoder: torch.dtype = torch.float32
    vae_decoder: torch.dtype = torch.float32
    transformer: torch.dtype | None = torch.float32
    kernels: Literal["auto", "stock"] = "auto"  # convolution kernels of Wan's VAE
    tiling: Tiling | Literal["auto"] | None = None  # for Wan's VAE; the light VAE needs no tiles
    attention: str = "native"  # diffusers' name for a kernel ("native", "flash", "sage", …)
    compile: bool = False
    lean: bool = False


@dataclass
class Backbone:
    """A frozen VAE and transformer.

    The transformer is loaded, and diffusers imported, on the first access to `dit`: encoding with GNVC-VD and decoding
    without refinement need the VAE alone.
    """

    name: str
    vae_preset: VaePreset
    dit_preset: DitPreset
    vae: VideoVae
    load_dit: Callable[[], "WanDit"]
    files: Mapping[str, Path]  # the loaded files; empty for random weights
    note: str = ""

    def __post_init__(self) -> None:
        self.load_dit = cache(self.load_dit)  # copies by dataclasses.replace share the transformer

    @cached_property
    def dit(self) -> "WanDit":
        with torch.inference_mode(False):  # usable outside inference mode too
            return self.load_dit().to(self.vae.mean.device)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each file."""
        return {name: file_sha256(path) for name, path in self.files.items()}

    @property
    def identity(self) -> bytes:
        """Hash of the float weights, 32 bytes, which enters a stream's shown identity."""
        listing = "".join(f"{name} {self.hashes[name]}\n" for name in sorted(self.files))
        if not self.files:
            # The sizes as in model.json.
            sizes = json.dumps([without_defaults(self.vae_preset), without_defaults(self.dit_preset)])
            listing = f"{self.name} {RANDOM_SEED} {RANDOM_DIT_SEED} {sizes}"
        return hashlib.sha256(listing.encode()).digest()

    def embed(self, prompt: str) -> Tensor:
        """Embed a prompt, tokens × text_dim, with the text encoder in the folder of the empty prompt's embedding."""
        beside = self.files.get(EMPTY_PROMPT)
        if beside is None or (self.name in PRESETS and PRESETS[self.name].source is None):
            raise NoTextEncoderError(f"{self.name} has no text encoder, so it takes no caption")
        return embed(beside.parent, prompt)

    @cached_property
    def image_encoder(self) -> ImageEncoder:
        """CLIP's image encoder for given frames, which transformers with an image_dim take beside the latents."""
        beside = next((path for name, path in self.files.items() if name.startswith(f"{IMAGE_ENCODER}/")), None)
        if beside is None or self.dit_preset.image_dim is None:
            raise GnvcError(
                f"{self.name} has no {IMAGE_ENCODER}/, which conditioning on frames needs; `python "
                "scripts/fetch_weights.py` fetches it with Wan's image-conditioned models"
            )
        return ImageEncoder(beside.parent.parent, self.dit_preset.image_dim)

    def to(self, device: torch.device | str) -> "Backbone":
        self.vae.to(device)
        if "dit" in vars(self):
            self.dit.to(device)
        return self


def load_backbone(name: str | Path, options: Options | None = None) -> Backbone:
    """Load VAE and transformer by preset name, folder or hub id, without network."""
    return _backbone(find(str(name)), options or Options())


def random_backbone(sizes: Preset, options: Options | None = None) -> Backbone:
    """Make a backbone of a preset's sizes with random weights, from a fixed seed."""
    return _backbone(from_seed(sizes), options or Options())


def new_vae(preset: VaePreset, options: Options) -> VideoVae:
    """Build a preset's VAE with untrained weights: Wan's, or the light one, which does not need diffusers."""
    if preset.architecture == "wan":
        import_diffusers(options.lean)
        from gnvc_vd.backbone.wan_vae import WanVae, build_vae

        return WanVae(build_vae(preset), options.kernels, options.tiling)
    return LightVae(preset)


def with_light_decoder(backbone: Backbone, width: int) -> Backbone:
    """A backbone of Wan's VAE with a new light decoder, not yet trained, in place of the one that it has."""
    sizes = replace(backbone.vae_preset, light_decoder=width)
    check_sizes(sizes, backbone.dit_preset, backbone.name)
    vae = _with_weights(lambda: new_vae(sizes, Options()), None, RANDOM_SEED, backbone.name)
    encoder = {name: one for name, one in backbone.vae.model.state_dict().items() if name.startswith(ENCODER_PARTS)}
    vae.model.load_state_dict(encoder, strict=False)
    return replace(backbone, vae=vae, vae_preset=sizes)


def save_backbone(backbone: Backbone, folder: Path, name: str, half: bool = False, location: str | None = None) -> None:
    """Write a model folder with the backbone's weights, in their own precision or, with `half`, in float16.

    Args:
        location: preset or hub id of the weights; the folder then refers to it instead of holding them.
    """
    from safetensors.torch import save_file

    with replacing(folder) as part:
        part.mkdir()
        repository, _, revision = (location or "").partition("@")
        if location is not None:
            files = backbone.hashes
        else:
            tensors = {
                VAE_FILE: backbone.vae.model.state_dict(),
                DIT_FILE: backbone.dit.model.state_dict(),
                EMPTY_PROMPT: {"text": backbone.dit.text[0]},
            }
            for file, state in tensors.items():
                held = {key: value.half() if half else value for key, value in state.items()}
                save_file({key: value.detach().cpu().contiguous() for key, value in held.items()}, part / file)
            files = {file: file_sha256(part / file) for file in tensors}
        where = repository or None, revision or None
        reference = BackboneReference(backbone.vae_preset, backbone.dit_preset, files, *where)
        write_description(part, ModelDescription(name, reference, note=backbone.note))


def _backbone(source: WeightSource, options: Options) -> Backbone:
    vae = _with_weights(lambda: new_vae(source.vae, options), source.vae_tensors, RANDOM_SEED, source.where)
    vae.set_precision(options.vae_encoder, options.vae_decoder)
    if options.compile:
        compile_decoder(vae)
    load_dit = partial(_dit, source, options)
    return Backbone(source.where, source.vae, source.dit, vae, load_dit, source.files, source.note)


def _dit(source: WeightSource, options: Options) -> "WanDit":
    import_diffusers(options.lean)
    from gnvc_vd.backbone.dit import WanDit, build_dit, keep_in_float32

    def build() -> WanDit:
        return WanDit(build_dit(source.dit), source.dit, source.text().float(), options.attention)

    dit = _with_weights(build, source.dit_tensors, RANDOM_DIT_SEED, source.where)
    if options.transformer is not None:
        for name, parameter in dit.model.named_parameters():
            kind = torch.float32 if keep_in_float32(name) else options.transformer
            # One after another; in float32 files stay mapped, else the last copy lets go of them.
            parameter.data = parameter.data.to(kind, copy=options.transformer != torch.float32)
    if options.compile:
        compile_dit(dit)
    return dit


def _with_weights(build: Callable[[], M], tensors: Callable[[], Tensors] | None, seed: int, where: str) -> M:
    """Build a module, fill it with the tensors, or with random weights if there are none, and freeze it."""
    if tensors is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = build()
    else:
        with without_values():
            made = build()
        fill(cast(nn.Module, made.model), tensors(), where)
    return made.eval().requires_grad_(False)
