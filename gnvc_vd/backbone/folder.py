"""A model folder: `model.json` with safetensors files, or with a reference to weights elsewhere.

    folder/
      model.json              the dataclasses below as JSON; unknown keys are refused
      vae.safetensors         the backbone, unless `backbone.location` points elsewhere
      dit.safetensors
      empty_prompt.safetensors
      codec.safetensors         the latent codec, if it is trained: floats, and the integers that decide symbols
      adaptor.safetensors

A folder may come from an untrusted source: nothing is unpickled, no path leaves the folder, and every file must have
the sha256 in model.json.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.common import strict
from gnvc_vd.common.files import file_sha256
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import LATENT_CHANNELS, GnvcError
from gnvc_vd.presets import AdaptorPreset, BottleneckPreset, DitPreset, VaePreset

DESCRIPTION = "model.json"
FORMAT = 1
BOUNDS = {  # largest sizes that a description may ask for
    **dict.fromkeys(("base_dim", "light_decoder"), 256),
    "layers": 100,
    "heads": 128,
    "head_dim": 512,
    "ffn_dim": 1 << 16,
    **dict.fromkeys(("text_dim", "image_dim"), 1 << 14),
    **dict.fromkeys(("freq_dim", "text_tokens", "image_tokens"), 4096),
    **dict.fromkeys(("features", "width", "symbols", "hyper", "prior", "state"), 2048),
    "blocks": 64,
    "lora_rank": 1024,
}


@dataclass(frozen=True)
class BackboneReference:
    """Sizes, files with their sha256, and the files' location: None (this folder), a preset or a hub id."""

    vae: VaePreset
    dit: DitPreset
    files: dict[str, str]
    location: str | None = None
    revision: str | None = None

    @property
    def full_location(self) -> str | None:
        """Location of the files: a preset, owner/name or owner/name@revision; None: this folder."""
        return f"{self.location}@{self.revision}" if self.location and self.revision else self.location


@dataclass(frozen=True)
class CodecReference:
    """The learned codec's sizes, its files with their sha256, and its defaults for refinement and rounding."""

    bottleneck: BottleneckPreset
    adaptor: AdaptorPreset
    files: dict[str, str]
    refinement: Refinement = field(default_factory=Refinement)
    thrift: float = 0.0  # of the encoder's rounding (entropy/likelihoods.py)


@dataclass(frozen=True)
class ModelDescription:
    """The content of `model.json`."""

    name: str
    backbone: BackboneReference
    codec: CodecReference | None = None
    format: int = FORMAT
    note: str = ""

    @property
    def files(self) -> dict[str, str]:
        """The folder's files with their sha256."""
        of_backbone = self.backbone.files if self.backbone.location is None else {}
        return of_backbone | (self.codec.files if self.codec else {})


def read_description(folder: Path) -> ModelDescription:
    """Parse and check `model.json`."""
    path = folder / DESCRIPTION
    require(path.is_file(), f"{folder}: not a model folder, since it has no {DESCRIPTION}", GnvcError)
    description = strict.parse(ModelDescription, strict.read_object(path), DESCRIPTION)
    if description.format != FORMAT:
        raise GnvcError(f"{path}: format {description.format}; this program reads format {FORMAT}")
    check_sizes(description.backbone.vae, description.backbone.dit, str(path))
    codec = description.codec
    if codec is not None:
        _check_bounds(vars(codec.bottleneck) | {"lora_rank": codec.adaptor.lora_rank}, str(path))
        require(0 <= codec.thrift <= 1, f"{path}: thrift is 0 to 1, not {codec.thrift}", GnvcError)
    for name in [*description.backbone.files, *(codec.files if codec else ())]:
        _inside(folder, name)
    return description


def write_description(folder: Path, description: ModelDescription) -> None:
    text = json.dumps(dataclasses.asdict(description), indent=2)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def check_sizes(vae: VaePreset, dit: DitPreset, where: str) -> None:
    """Refuse sizes out of bounds, before any network is built."""
    _check_bounds(vars(vae) | vars(dit), where)
    require(vae.architecture in ("wan", "light"), f"{where}: there is no VAE {vae.architecture[:40]!r}", GnvcError)
    require(vae.base_dim % 2 == 0, f"{where}: base_dim = {vae.base_dim} is odd", GnvcError)
    if vae.light_decoder is not None and (vae.architecture != "wan" or vae.light_decoder % 2):
        raise GnvcError(f"{where}: light_decoder is an even width, and goes with the architecture 'wan'")
    if dit.condition_channels not in (0, 20):
        raise GnvcError(f"{where}: condition_channels is 0 or 20, not {dit.condition_channels}")
    if len(vae.latents_mean) != LATENT_CHANNELS or len(vae.latents_std) != LATENT_CHANNELS or min(vae.latents_std) <= 0:
        raise GnvcError(f"{where}: latents need {LATENT_CHANNELS} means and positive deviations")


def _check_bounds(sizes: Mapping[str, Any], where: str) -> None:
    for name, value in sizes.items():
        if name in BOUNDS and value is not None and not 1 <= value <= BOUNDS[name]:
            raise GnvcError(f"{where}: {name} = {value} is not between 1 and {BOUNDS[name]}")


def check_file(folder: Path, name: str, sha256: str) -> Path:
    """Path of a folder's file, after checking that it exists and has this sha256."""
    path = _inside(folder, name)
    require(path.is_file(), f"{path}: missing", GnvcError)
    digest = file_sha256(path)
    if digest != sha256:
        raise GnvcError(f"{path}: sha256 {digest[:12]}… is not the stated {sha256[:12]}…: damaged or another version")
    return path


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not name.endswith(".safetensors"):
        raise GnvcError(f"{DESCRIPTION} names {name[:80]!r}; weights are .safetensors files")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise GnvcError(f"{DESCRIPTION} names {name[:80]!r}, which lies outside the folder")
    return path
