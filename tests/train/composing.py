"""Configurations as scripts/train.py would have them, without starting it."""

import functools
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

import gnvc_vd
from gnvc_vd.train.experiments import register

CONFIGS = Path(gnvc_vd.__file__).parents[1] / "configs"
TRY = ("model=nano", "data=procedural", "debug=one_batch")  # any experiment, two steps, no file


def composed(*overrides: str) -> tuple[DictConfig, DictConfig]:
    """Of scripts/train.py: the configuration, and Hydra's own with it."""
    return composed_of("train", *overrides)


@functools.cache
def composed_of(script: str, *overrides: str) -> tuple[DictConfig, DictConfig]:
    register(CONFIGS)
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        whole = hydra.compose(script, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(whole)
    own = whole.copy()
    with open_dict(own):
        own.pop("hydra")
        OmegaConf.resolve(own)
    return own, whole


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


EXPERIMENTS, EVALUATIONS = choices("train/experiment"), choices("evaluate/experiment")
