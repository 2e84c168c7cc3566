"""Make a training's settings and its sources of clips from a Hydra configuration."""

import hashlib
import inspect
import json
from dataclasses import asdict, fields, replace
from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from gnvc_vd.common import strict
from gnvc_vd.common.strict import MAX_STRING, require
from gnvc_vd.conventions import UsageError
from gnvc_vd.data.clips import ClipSpec, Mixture
from gnvc_vd.data.device import Bank, DeviceClips
from gnvc_vd.data.latents import LatentClips, encoder_identity
from gnvc_vd.data.material import Material
from gnvc_vd.data.samples import Clips
from gnvc_vd.presets import AdaptorPreset, Preset, preset
from gnvc_vd.train.experiments import plain
from gnvc_vd.train.loop import Sources
from gnvc_vd.train.settings import Model, Training
from gnvc_vd.train.setup import backbone_of

OURS = ("gnvc_vd.data.", "gnvc_vd.train.compose.")  # modules whose functions a configuration may name


def training_of(config: DictConfig) -> Training:
    """Parse the settings of a training strictly from a configuration."""
    told = plain(config)
    strange = told.keys() - {field.name for field in fields(Training)}
    require(not strange, f"the configuration holds unknown keys: {', '.join(sorted(strange))}")
    data = json.dumps(told["data"]["train"])
    if len(data) > MAX_STRING:  # all of it counts: checkpoints of other data are refused
        digest = hashlib.sha256(data.encode()).hexdigest()
        data = data[: MAX_STRING - len(digest)] + digest
    given = told | {"data": data}
    adaptor = adaptor_of(given.pop("adaptor"), preset(given["model"]["name"]))
    return replace(strict.parse(Training, given, "configuration"), adaptor=adaptor)


def adaptor_of(given: dict[str, Any], sizes: Preset) -> AdaptorPreset | None:
    """The preset's adaptor with some fields replaced; None if none is.

    Args:
        given: fields of AdaptorPreset, or `every` instead of `layers`; null leaves a field as it is.
    """
    given = {name: value for name, value in given.items() if value is not None}
    every = given.pop("every", None)
    if every is not None:
        if "layers" in given:
            raise UsageError("adaptor.every and adaptor.layers both say which layers take a hint: give one of them")
        if not isinstance(every, int) or every < 1:
            raise UsageError(f"adaptor.every is a whole number of layers, at least 1: not {every}")
        given["layers"] = list(range(0, sizes.dit.layers, every))
    return strict.parse(AdaptorPreset, asdict(sizes.adaptor) | given, "configuration.adaptor") if given else None


def sources_of(config: DictConfig | None) -> Sources | None:
    """A function that makes the dataset for clips of any shape: a mixture of the configuration's parts.

    A part may be limited to clips of `shortest` to `longest` frames, as septuplets have 7. With a `bank`, clips are
    made on the training's device, from files that are decoded once for all shapes.
    """
    if config is None:
        return None
    parts = list(config.parts)
    require(parts, "data has no parts to draw clips from")
    strange = [part.source["_target_"] for part in parts if not str(part.source["_target_"]).startswith(OURS)]
    require(not strange, f"clips come from {' or '.join(OURS)}*, not from {', '.join(strange)}")
    given = config.get("bank")
    bank = None if given is None else strict.parse(Bank, OmegaConf.to_container(given, resolve=True), "data.bank")
    material = Material()

    def make(spec: ClipSpec) -> Clips:
        fit = [part for part in parts if part.get("shortest", 1) <= spec.frames <= part.get("longest", spec.frames)]
        require(fit, f"no part of the data has clips of {spec.frames} frames")
        made = [(_made(part.source, spec), float(part.weight)) for part in fit]
        mixed = made[0][0] if len(made) == 1 else Mixture(made, spec.seed)
        return mixed if bank is None else DeviceClips(mixed, spec, bank, material)

    return make


def _made(source: DictConfig, spec: ClipSpec) -> Clips:
    """Call a source's `_target_` with its options; Hydra's `instantiate` would convert the spec to a configuration."""
    options = cast(dict[str, Any], OmegaConf.to_container(source, resolve=True))
    make = hydra.utils.get_object(options.pop("_target_"))
    try:
        inspect.signature(make).bind(spec=spec, **options)
    except TypeError as error:
        raise UsageError(f"{make.__name__} as a source of clips: {error}") from error
    return cast(Clips, make(spec=spec, **options))


def stored_latents(spec: ClipSpec, folder: str, name: str, start: str | None) -> LatentClips:
    """Precomputed latents of the VAE that the training starts from, of clips at least as large as `spec`.

    Args:
        name, start: the training's `model.name` and `model.start`.
    """
    return LatentClips(folder, encoder_identity(backbone_of(Model(name, start)).vae), spec.seed, spec)
