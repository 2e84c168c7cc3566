"""Downloading public weights from the hub into the weights folder. Nothing else in the package touches the network."""

from pathlib import Path

from gnvc_vd.backbone.sources import HUB_ID, hub_source, missing, weights_folder
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.presets import PRESETS

PATTERNS = ["vae/*.json", "vae/*.safetensors", "transformer/*.json", "transformer/*.safetensors"]
TEXT_PATTERNS = ["tokenizer/*", "text_encoder/*.json", "text_encoder/*.safetensors"]


def fetch(name: str, text_encoder: bool = False) -> Path:
    """Fetch a preset's or hub id's files, or go on with a download that was interrupted; returns the folder."""
    from huggingface_hub import snapshot_download

    preset = PRESETS.get(name)
    if preset is not None and preset.source is None:
        raise UsageError(f"{name}: nothing to fetch ({preset.note})")
    if preset is None and not HUB_ID.fullmatch(name):
        raise UsageError(f"{name}: neither a preset ({', '.join(PRESETS)}) nor a hub id")
    source = preset.source if preset is not None and preset.source is not None else hub_source(name)
    folder = weights_folder(source, name if preset is not None else "")
    try:
        snapshot_download(
            source.repository,
            revision=source.revision,
            local_dir=folder,
            allow_patterns=PATTERNS + (TEXT_PATTERNS if text_encoder else []),
        )
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise GnvcError(f"{name}: the download failed ({said}); {missing(name, source.repository, folder)}") from error
    return folder
