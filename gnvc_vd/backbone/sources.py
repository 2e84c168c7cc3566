"""Find a backbone by name: its sizes and the files of its tensors. Nothing is downloaded.

preset             nano: random, from a seed · tiny: in the package
                   wan2.1-…: in the folder that scripts/fetch_weights.py filled
hub id             owner/name or owner/name@revision, fetched by the same script: a model folder or a diffusers folder
model folder       model.json beside safetensors (ours; hashes checked)
diffusers folder   vae/ and transformer/, with config.json and safetensors; image_encoder/ and image_processor/
                   if the transformer needs CLIP's embedding of given frames
original folder    Wan2.1_VAE.pth, config.json, diffusion_pytorch_model*.safetensors

find("wan2.1-1.3b") ──▶ WeightSource(sizes, files) ──▶ vae_tensors(), dit_tensors(), text() ──fill──▶ a module

Sizes are checked before a module is built; tensors must be exactly the module's.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gnvc_vd.backbone.encoders import IMAGE_ENCODER
from gnvc_vd.backbone.folder import DESCRIPTION, check_file, check_sizes, read_description
from gnvc_vd.common import strict
from gnvc_vd.common.files import file_sha256
from gnvc_vd.common.foreign import read_foreign
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import LATENT_CHANNELS, GnvcError
from gnvc_vd.presets import PRESETS, WAN_TEXT, WAN_VAE, DitPreset, Preset, Source, VaePreset

VAE_FILE, DIT_FILE, EMPTY_PROMPT = "vae.safetensors", "dit.safetensors", "empty_prompt.safetensors"
ORIGINAL_VAE = "Wan2.1_VAE.pth"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
IMAGE_WEIGHTS = "model.safetensors"  # of image_encoder/
WEIGHTS_HOME = "GNVC_VD_WEIGHTS"
SHIPPED = Path(__file__).parent.parent / "assets"  # the package's model folders
HUB_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}(@\w[\w.-]{0,95})?")
DIFFUSERS_SIZES = {  # our names of sizes to those of diffusers' config.json
    "layers": "num_layers",
    "heads": "num_attention_heads",
    "head_dim": "attention_head_dim",
    "ffn_dim": "ffn_dim",
    "text_dim": "text_dim",
    "freq_dim": "freq_dim",
    "image_dim": "image_dim",
    "image_tokens": "pos_embed_seq_len",
}

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class WeightSource:
    """A backbone's sizes, and functions that read its tensors; these are None for random weights."""

    where: str
    vae: VaePreset
    dit: DitPreset
    files: Mapping[str, Path]
    vae_tensors: Callable[[], Tensors] | None
    dit_tensors: Callable[[], Tensors] | None
    note: str = ""

    def __post_init__(self) -> None:
        check_sizes(self.vae, self.dit, self.where)

    def text(self) -> Tensor:
        """The empty prompt's embedding, tokens × text_dim."""
        if self.dit_tensors is None:
            return torch.zeros(1, self.dit.text_dim)
        if EMPTY_PROMPT not in self.files:
            raise GnvcError(
                f"{self.where}/{EMPTY_PROMPT}: missing; `python scripts/embed_prompt.py` makes it with the text encoder"
            )
        path = self.files[EMPTY_PROMPT]
        tensors = read_tensors([path])
        require(set(tensors) == {"text"}, f"{path}: holds no embedding named 'text'", GnvcError)
        return tensors["text"]


def find(name: str, referring: tuple[str, ...] = ()) -> WeightSource:
    """Find a backbone by preset name, folder or hub id.

    Args:
        referring: chain of models that led here, each of which names the next as its backbone.
    """
    require(name not in referring, f"{name}: refers to itself for its backbone", GnvcError)
    referring = (*referring, name)
    folder = folder_of(name)
    if folder is None:
        return from_seed(PRESETS[name])
    if folder.parent == SHIPPED:
        return replace(_model_folder(folder, referring), where=name)
    return _in_folder(folder, referring)


def folder_of(name: str) -> Path | None:
    """The existing folder that a preset's name, a path or a hub id stands for; None for presets with random weights."""
    preset = PRESETS.get(name)
    if preset is not None and preset.shipped:
        return SHIPPED / name
    if preset is not None and preset.source is None:
        return None
    if preset is None and Path(name).is_dir():
        return Path(name)
    source, folder = repository_of(name)
    if not folder.is_dir():
        raise GnvcError(
            f"{name} is not on this machine: run `python scripts/fetch_weights.py {name}`, or put a model folder or "
            f"diffusers folder of {source.repository} at {folder}"
        )
    return folder


def from_seed(sizes: Preset) -> WeightSource:
    """Random weights of a preset's sizes: for nano, for training from scratch, or for benchmarks."""
    note = sizes.note or f"random weights at the sizes of {sizes.name}: its pictures mean nothing"
    return WeightSource(sizes.name, sizes.vae, sizes.dit, {}, None, None, note)


def model_folder(name: str | Path) -> Path:
    """The folder where a model's model.json would be: in the package, a hub id's in the cache, or the path itself."""
    preset = PRESETS.get(str(name))
    if preset is not None:
        return SHIPPED / str(name) if preset.shipped else Path(name)
    is_hub_id = HUB_ID.fullmatch(str(name)) and not Path(name).is_dir()
    return repository_of(str(name))[1] if is_hub_id else Path(name)


def repository_of(name: str) -> tuple[Source, Path]:
    """The repository of a preset or hub id, and its folder in $GNVC_VD_WEIGHTS or the user's cache."""
    preset = PRESETS.get(name)
    if preset is not None and preset.source is not None:
        source, folder_name = preset.source, name
    elif HUB_ID.fullmatch(name):
        repository, _, revision = name.partition("@")
        source = Source(repository, revision or "main")
        folder_name = f"{repository}@{source.revision}".replace("/", "--")
    else:
        raise GnvcError(f"{name}: no such preset or folder; the presets are {', '.join(PRESETS)}")
    home = os.environ.get(WEIGHTS_HOME)
    return source, (Path(home) if home else user_cache() / "weights") / folder_name


def user_cache() -> Path:
    return Path.home() / ".cache" / "gnvc_vd"


def _in_folder(folder: Path, referring: tuple[str, ...]) -> WeightSource:
    if (folder / DESCRIPTION).exists():
        return _model_folder(folder, referring)
    if (folder / "transformer").is_dir() and (folder / "vae").is_dir():
        return _diffusers_folder(folder)
    if (folder / ORIGINAL_VAE).is_file():
        return _original_folder(folder)
    raise GnvcError(
        f"{folder}: neither a model folder ({DESCRIPTION}), nor diffusers' layout (vae/, transformer/), "
        f"nor Wan's own ({ORIGINAL_VAE})"
    )


def _model_folder(folder: Path, referring: tuple[str, ...]) -> WeightSource:
    description = read_description(folder)
    reference = description.backbone
    location = reference.full_location
    if location is None:
        for name in (VAE_FILE, DIT_FILE, EMPTY_PROMPT):
            require(name in reference.files, f"{folder}: its {DESCRIPTION} names no {name}", GnvcError)
        files = {name: check_file(folder, name, sha256) for name, sha256 in reference.files.items()}
        tensors = partial(read_tensors, [files[VAE_FILE]]), partial(read_tensors, [files[DIT_FILE]])
        return WeightSource(str(folder), reference.vae, reference.dit, files, *tensors, description.note)
    if location not in PRESETS and not HUB_ID.fullmatch(location):
        raise GnvcError(f"{folder}: its backbone is {location[:80]!r}, which is no preset or hub id")
    elsewhere = find(location, referring)
    for name, sha256 in reference.files.items():
        if name not in elsewhere.files or file_sha256(elsewhere.files[name]) != sha256:
            raise GnvcError(f"{folder}: {elsewhere.where}/{name} is not the file that this model was made with")
    return replace(elsewhere, where=str(folder), note=description.note or elsewhere.note)


def _diffusers_folder(folder: Path) -> WeightSource:
    config = strict.read_object(folder / "transformer" / "config.json")
    if config.get("_class_name") != "WanTransformer3DModel" or config.get("patch_size") != [1, 2, 2]:
        raise GnvcError(f"{folder}: not a Wan2.1 transformer")
    sizes = {name: config.get(theirs) for name, theirs in DIFFUSERS_SIZES.items()}
    sizes |= {"text_tokens": WAN_TEXT["text_tokens"], "condition_channels": config.get("in_channels")}
    dit = strict.parse(DitPreset, sizes, f"{folder}/transformer/config.json")
    dit = replace(dit, condition_channels=dit.condition_channels - LATENT_CHANNELS)
    config = strict.read_object(folder / "vae" / "config.json")
    if config.get("_class_name") != "AutoencoderKLWan" or config.get("z_dim") != LATENT_CHANNELS:
        raise GnvcError(f"{folder}: not Wan2.1's VAE")
    sizes = {name: config.get(name) for name in ("base_dim", "latents_mean", "latents_std")}
    vae = strict.parse(VaePreset, sizes, f"{folder}/vae/config.json")
    vae_files, dit_files = shards(folder / "vae"), shards(folder / "transformer")
    tensors = partial(read_tensors, vae_files), partial(_dit_tensors, dit_files, dit)
    return WeightSource(str(folder), vae, dit, _files([*vae_files, *dit_files], folder, dit), *tensors)


def _dit_tensors(files: Sequence[Path], dit: DitPreset) -> Tensors:
    """The transformer's tensors, except norm_added_q, which image-conditioned folders hold and Wan never uses."""
    unused = {f"blocks.{layer}.attn2.norm_added_q.weight" for layer in range(dit.layers if dit.image_dim else 0)}
    return {name: tensor for name, tensor in read_tensors(files).items() if name not in unused}


def _original_folder(folder: Path) -> WeightSource:
    """Wan's own release, whose VAE is a .pth file; diffusers' key maps rename the tensors, and `fill` checks them."""
    from diffusers.loaders import single_file_utils as key_maps

    dit_files = shards(folder)
    vae_tensors = key_maps.convert_wan_vae_to_diffusers(read_foreign(folder / ORIGINAL_VAE))
    dit_tensors = key_maps.convert_wan_transformer_to_diffusers(read_tensors(dit_files))
    dit = _sizes_of_tensors(dit_tensors, strict.read_object(folder / "config.json"))
    vae = replace(WAN_VAE, base_dim=_shape(vae_tensors, "encoder.conv_in.weight")[0])
    files = _files([folder / ORIGINAL_VAE, *dit_files], folder, dit)
    return WeightSource(str(folder), vae, dit, files, lambda: vae_tensors, lambda: dit_tensors)


def _files(weights: Sequence[Path], folder: Path, dit: DitPreset) -> dict[str, Path]:
    """The files of a diffusers or original folder, with the image encoder's and the empty prompt's, by name."""
    encoder = folder / IMAGE_ENCODER
    images = shards(encoder, IMAGE_WEIGHTS) if dit.image_dim is not None and encoder.is_dir() else []
    return {str(path.relative_to(folder)): path for path in [*weights, *images, folder / EMPTY_PROMPT] if path.exists()}


def _sizes_of_tensors(tensors: Tensors, config: Mapping[str, object]) -> DitPreset:
    """A transformer's sizes from its tensors' shapes, and the number of heads from Wan's config.json."""
    dim, channels = _shape(tensors, "patch_embedding.weight")[:2]
    heads, tokens = config.get("num_heads"), config.get("text_len", WAN_TEXT["text_tokens"])
    if not isinstance(heads, int) or not isinstance(tokens, int) or heads < 1 or dim % heads:
        raise GnvcError(f"config.json: {heads!r} heads do not divide a width of {dim}")
    embedder = "condition_embedder"
    image = f"{embedder}.image_embedder"
    return DitPreset(
        layers=1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")),
        heads=heads,
        head_dim=dim // heads,
        ffn_dim=_shape(tensors, "blocks.0.ffn.net.0.proj.weight")[0],
        text_dim=_shape(tensors, f"{embedder}.text_embedder.linear_1.weight")[1],
        text_tokens=tokens,
        freq_dim=_shape(tensors, f"{embedder}.time_embedder.linear_1.weight")[1],
        condition_channels=channels - LATENT_CHANNELS,
        image_dim=_shape(tensors, f"{image}.norm1.weight")[0] if f"{image}.norm1.weight" in tensors else None,
        image_tokens=_shape(tensors, f"{image}.pos_embed")[1] if f"{image}.pos_embed" in tensors else None,
    )


def _shape(tensors: Tensors, name: str) -> tuple[int, ...]:
    require(name in tensors, f"not Wan's own layout: it has no tensor for {name!r}", GnvcError)
    return tuple(tensors[name].shape)


def read_tensors(files: Sequence[Path]) -> dict[str, Tensor]:
    """Read all tensors of safetensors files."""
    tensors: dict[str, Tensor] = {}
    for path in files:
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise GnvcError(f"{path}: not a readable safetensors file ({error})") from error
    return tensors


def fill(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str, stored_names: Mapping[str, str] | None = None
) -> None:
    """Assign tensors to a module; names and shapes must be exactly the module's.

    Args:
        stored_names: the name in `tensors` of each of the module's tensors, if they differ.
    """
    state = module.state_dict()
    names = stored_names or {name: name for name in state}
    wanted = {names[path]: tuple(value.shape) for path, value in state.items()}
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    if wanted != shapes:
        missing, strange = sorted(wanted.keys() - shapes.keys()), sorted(shapes.keys() - wanted.keys())
        resized = sorted(name for name in wanted.keys() & shapes.keys() if wanted[name] != shapes[name])
        raise GnvcError(
            f"{where}: the weights do not fit the described network: {len(missing)} tensors missing, "
            f"{len(strange)} unknown, {len(resized)} of another size (e.g. {[*missing, *strange, *resized][0]!r})"
        )
    for path, value in state.items():
        found_type, wanted_type = tensors[names[path]].dtype, value.dtype
        fits = found_type.is_floating_point if wanted_type.is_floating_point else found_type == wanted_type
        require(fits, f"{where}: {names[path]} is {found_type}, but the module needs {wanted_type}", GnvcError)
    module.load_state_dict({path: tensors[name] for path, name in names.items()}, strict=True, assign=True)


def shards(folder: Path, only: str = WEIGHTS_FILE) -> list[Path]:
    """The safetensors files that a folder's index lists; without an index, its only one."""
    index = folder / f"{only}.index.json"
    names = {only}
    if index.is_file():
        weight_map = strict.read_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise GnvcError(f"{index}: lists no files")
        names = {str(name) for name in weight_map.values()}
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise GnvcError(f"{index}: lists {name[:80]!r}, which is no safetensors file of its folder")
        require((folder / name).is_file(), f"{folder / name}: missing", GnvcError)
    return [folder / name for name in sorted(names)]
