"""From a Hydra configuration to a training: our dataclasses, and what draws its clips."""

import json
from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from gnvc_vd import strict
from gnvc_vd.conventions import UsageError
from gnvc_vd.data.clips import Clips, ClipSpec, Mixture
from gnvc_vd.train.config import Training
from gnvc_vd.train.loop import Sources

FIELDS = ("name", "model", "stage", "rate", "adaptor", "seed", "habits")


def training_of(config: DictConfig) -> Training:
    """The plain part of a configuration, parsed strictly."""
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    strange = plain.keys() - {*FIELDS, "data"}
    if strange:
        raise UsageError(f"the configuration holds unknown keys: {', '.join(sorted(strange))}")
    told = {name: plain[name] for name in FIELDS}
    if told["adaptor"].get("layers") is None:  # the model's own
        del told["adaptor"]
    return strict.parse(Training, told | {"data": json.dumps(plain["data"]["train"])[:1000]}, "configuration")


def sources_of(config: DictConfig | None) -> Sources | None:
    """What makes a dataset for clips of any shape: the parts, mixed by their weights."""
    if config is None:
        return None
    parts = config.parts
    if not parts:
        raise UsageError("data has no parts to draw clips from")

    def make(spec: ClipSpec) -> Clips:
        made = [(cast(Clips, hydra.utils.instantiate(part.source, spec=spec)), float(part.weight)) for part in parts]
        return made[0][0] if len(made) == 1 else Mixture(made, spec.seed)

    return make
