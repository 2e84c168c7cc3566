"""Where a backbone's weights lie, how to read them there, and into a network that fits them exactly.

Sizes are read and bounded before any tensor is.

find("wan2.1-1.3b") ──▶ Located(sizes, files) ──▶ vae_tensors(), dit_tensors(), text()
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gnvc_vd.backbone import folder as model
from gnvc_vd.common import strict
from gnvc_vd.common.files import file_sha256
from gnvc_vd.common.foreign import read_foreign
from gnvc_vd.conventions import LATENT_CHANNELS, GnvcError
from gnvc_vd.presets import PRESETS, WAN_VAE, DitPreset, Source, VaePreset

EMPTY_PROMPT = "empty_prompt.safetensors"
ORIGINAL_VAE = "Wan2.1_VAE.pth"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
WEIGHTS_HOME = "GNVC_VD_WEIGHTS"
SHIPPED = Path(__file__).parent.parent / "assets"  # model folders that come with the package
WAN_TEXT_TOKENS = 512
HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}(@[\w.-]{1,96})?")

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Located:
    """A backbone on disk."""

    where: str
    vae: VaePreset
    dit: DitPreset
    files: Mapping[str, Path]
    vae_tensors: Callable[[], Tensors]
    dit_tensors: Callable[[], Tensors]
    text: Callable[[], Tensor]
    note: str = ""


def find(name: str) -> Located:
    """By preset name, folder or hub id; nothing is downloaded."""
    preset = PRESETS.get(name)
    if preset is not None and preset.shipped:
        return replace(_model_folder(model_folder(name)), where=name)
    if preset is not None and preset.source is not None:
        folder = weights_folder(preset.source, name)
        if not folder.is_dir():
            raise GnvcError(missing(name, preset.source.repository, folder))
        return _in_folder(folder)
    if Path(name).is_dir():
        return _in_folder(Path(name))
    if HUB_ID.fullmatch(name):
        folder = weights_folder(hub_source(name))
        if folder.is_dir():
            return _in_folder(folder)
        raise GnvcError(missing(name, name, folder))
    raise GnvcError(f"{name}: no such preset or folder; the presets are {', '.join(PRESETS)}")


def model_folder(name: str | Path) -> Path:
    """Where a name's model.json lies, if it has one: a preset's that comes with the package, or the path itself."""
    preset = PRESETS.get(str(name))
    return SHIPPED / str(name) if preset is not None and preset.shipped else Path(name)


def weights_folder(source: Source, name: str = "") -> Path:
    """Where fetched weights are kept: $GNVC_VD_WEIGHTS, or a cache folder of the user's."""
    home = os.environ.get(WEIGHTS_HOME)
    root = Path(home) if home else Path.home() / ".cache" / "gnvc_vd" / "weights"
    return root / (name or f"{source.repository}@{source.revision}".replace("/", "--"))


def hub_source(name: str) -> Source:
    repository, _, revision = name.partition("@")
    return Source(repository, revision or "main")


def missing(name: str, repository: str, folder: Path) -> str:
    from gnvc_vd.backbone.plan import plan

    preset = PRESETS.get(name)
    size = f", about {plan(preset).download_bytes / 1e9:.1f} GB" if preset else ""
    return (
        f"the weights of {name} are not in {folder}: run `python scripts/fetch_weights.py {name}` "
        f"({repository}{size}), or put a diffusers folder there"
    )


def _in_folder(folder: Path) -> Located:
    if (folder / model.DESCRIPTION).exists():
        return _model_folder(folder)
    if (folder / "transformer").is_dir() and (folder / "vae").is_dir():
        return _diffusers_folder(folder)
    if (folder / ORIGINAL_VAE).is_file():
        return _original_folder(folder)
    raise GnvcError(
        f"{folder}: neither a model folder ({model.DESCRIPTION}), nor diffusers' layout (vae/, transformer/), "
        f"nor Wan's own ({ORIGINAL_VAE})"
    )


def _model_folder(folder: Path) -> Located:
    description = model.read_description(folder)
    reference = description.backbone
    if reference.location is None:
        files = {name: model.checked_file(folder, name, sha256) for name, sha256 in reference.files.items()}
        return Located(
            where=str(folder),
            vae=reference.vae,
            dit=reference.dit,
            files=files,
            vae_tensors=lambda: read_tensors([_stated(files, "vae.safetensors", folder)]),
            dit_tensors=lambda: read_tensors([_stated(files, "dit.safetensors", folder)]),
            text=lambda: _text(_stated(files, EMPTY_PROMPT, folder)),
            note=description.note,
        )
    if not HUB_ID.fullmatch(reference.location):
        raise GnvcError(f"{folder}: its backbone lies at {reference.location[:80]!r}, which is no hub id")
    elsewhere = find(f"{reference.location}@{reference.revision}" if reference.revision else reference.location)
    for name, sha256 in reference.files.items():
        if name not in elsewhere.files or file_sha256(elsewhere.files[name]) != sha256:
            raise GnvcError(f"{folder}: {elsewhere.where}/{name} is not the file that this model was made with")
    return elsewhere


def _stated(files: Mapping[str, Path], name: str, folder: Path) -> Path:
    if name not in files:
        raise GnvcError(f"{folder}: its {model.DESCRIPTION} names no {name}")
    return files[name]


def _diffusers_folder(folder: Path) -> Located:
    dit = _diffusers_dit(strict.read_object(folder / "transformer" / "config.json"), str(folder))
    vae = _diffusers_vae(strict.read_object(folder / "vae" / "config.json"), str(folder))
    model.check_sizes(vae, dit, str(folder))
    vae_files, dit_files = shards(folder / "vae"), shards(folder / "transformer")
    prompt = folder / EMPTY_PROMPT
    files = {str(path.relative_to(folder)): path for path in [*vae_files, *dit_files, prompt] if path.exists()}
    return Located(
        where=str(folder),
        vae=vae,
        dit=dit,
        files=files,
        vae_tensors=lambda: read_tensors(vae_files),
        dit_tensors=lambda: read_tensors(dit_files),
        text=lambda: _text(prompt),
    )


def _original_folder(folder: Path) -> Located:
    """Wan's own release. Its VAE is a .pth, the one pickle there is; diffusers' key maps translate the names."""
    from gnvc_vd.backbone import original

    dit_files = shards(folder)
    vae_tensors = original.convert_vae(read_foreign(folder / ORIGINAL_VAE))
    dit_tensors = original.convert_dit(read_tensors(dit_files))
    dit = original.dit_preset(strict.read_object(folder / "config.json"), dit_tensors)
    vae = VaePreset(original.vae_width(vae_tensors), WAN_VAE.latents_mean, WAN_VAE.latents_std)
    model.check_sizes(vae, dit, str(folder))
    prompt = folder / EMPTY_PROMPT
    return Located(
        where=str(folder),
        vae=vae,
        dit=dit,
        files={path.name: path for path in [folder / ORIGINAL_VAE, *dit_files, prompt] if path.exists()},
        vae_tensors=lambda: vae_tensors,
        dit_tensors=lambda: dit_tensors,
        text=lambda: _text(prompt),
    )


def _diffusers_dit(config: Mapping[str, object], where: str) -> DitPreset:
    """The preset that a transformer's config.json describes; other architectures are refused."""
    if config.get("_class_name") != "WanTransformer3DModel" or config.get("patch_size") != [1, 2, 2]:
        raise GnvcError(f"{where}: not a Wan2.1 transformer")
    return DitPreset(
        layers=_integer(config, "num_layers"),
        heads=_integer(config, "num_attention_heads"),
        head_dim=_integer(config, "attention_head_dim"),
        ffn_dim=_integer(config, "ffn_dim"),
        text_dim=_integer(config, "text_dim"),
        text_tokens=WAN_TEXT_TOKENS,
        freq_dim=_integer(config, "freq_dim"),
        condition_channels=_integer(config, "in_channels") - LATENT_CHANNELS,
        image_dim=_optional(config, "image_dim"),
        image_tokens=_optional(config, "pos_embed_seq_len"),
    )


def _diffusers_vae(config: Mapping[str, object], where: str) -> VaePreset:
    if config.get("_class_name") != "AutoencoderKLWan" or config.get("z_dim") != LATENT_CHANNELS:
        raise GnvcError(f"{where}: not Wan2.1's VAE")
    mean, std = (config.get(key) for key in ("latents_mean", "latents_std"))
    if not all(isinstance(values, list) and all(isinstance(v, int | float) for v in values) for values in (mean, std)):
        raise GnvcError(f"{where}: its config.json lacks the latents' mean and deviation")
    return VaePreset(_integer(config, "base_dim"), tuple(mean), tuple(std))  # type: ignore[arg-type]


def read_tensors(files: Sequence[Path]) -> dict[str, Tensor]:
    """All tensors of some safetensors files."""
    tensors: dict[str, Tensor] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as stream:
                tensors |= {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 – not a dict
        except (SafetensorError, OSError) as error:
            raise GnvcError(f"{path}: not a readable safetensors file ({error})") from error
    return tensors


def fill(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str, stored_names: Mapping[str, str] | None = None
) -> None:
    """Assign the tensors; their names and shapes must be exactly the module's.

    Args:
        stored_names: how the module's tensors are called among them, where that is not as in the module.
    """
    state = module.state_dict()
    names = stored_names or {name: name for name in state}
    wanted = {names[path]: tuple(value.shape) for path, value in state.items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if wanted != found:
        missing, strange = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        resized = [name for name in wanted.keys() & found.keys() if wanted[name] != found[name]]
        first = next(iter([*missing, *strange, *sorted(resized)]))
        raise GnvcError(
            f"{where}: the weights do not fit the described network: {len(missing)} tensors missing, "
            f"{len(strange)} unknown, {len(resized)} of another size (for one {first!r})"
        )
    module.load_state_dict({path: tensors[name] for path, name in names.items()}, strict=True, assign=True)


def shards(folder: Path) -> list[Path]:
    """The safetensors files that the folder's index names, or its only one."""
    index = folder / f"{WEIGHTS_FILE}.index.json"
    names = {WEIGHTS_FILE}
    if index.is_file():
        weight_map = strict.read_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise GnvcError(f"{index}: names no files")
        names = {str(name) for name in weight_map.values()}
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise GnvcError(f"{index}: names {name[:80]!r}, which is no safetensors file of its folder")
        if not (folder / name).is_file():
            raise GnvcError(f"{folder / name}: missing")
    return [folder / name for name in sorted(names)]


def _text(path: Path) -> Tensor:
    if not path.is_file():
        raise GnvcError(f"{path}: missing; `python scripts/embed_prompt.py` makes it from the text encoder, once")
    tensors = read_tensors([path])
    if set(tensors) != {"text"}:
        raise GnvcError(f"{path}: holds no embedding named 'text'")
    return tensors["text"]


def _integer(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise GnvcError(f"a config.json lacks a whole number for {key!r}")
    return value


def _optional(config: Mapping[str, object], key: str) -> int | None:
    return None if config.get(key) is None else _integer(config, key)
