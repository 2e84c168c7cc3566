"""A whole codec by name."""

from pathlib import Path
from typing import NoReturn

from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.conventions import GnvcError


def load(name: str | Path) -> NoReturn:
    """The codec of a model folder, preset or hub id. No model has a trained one yet: that is what it says."""
    backbone = load_backbone(name)
    raise GnvcError(f"{backbone.name} has no trained codec yet; load_backbone gives its VAE and transformer")
