"""What a preset needs, and its download: python scripts/fetch_weights.py [NAME …]

NAME is a preset or a hub id (owner/name or owner/name@revision) of a model folder that scripts/export.py pushed or of
a diffusers folder. Files go to $GNVC_VD_WEIGHTS, or to a cache folder; an interrupted download goes on where it
stopped. Only safetensors, JSON and the card are fetched; of a model folder only the files that its model.json names,
which must have the sha256 that it states, and the backbone that it refers to.
"""

import argparse
import sys
from collections.abc import Sequence
from glob import escape
from pathlib import Path

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

from gnvc_vd.backbone.dit import build_dit
from gnvc_vd.backbone.folder import DESCRIPTION, check_file, read_description
from gnvc_vd.backbone.sources import find, repository_of, shapes_only
from gnvc_vd.backbone.weights import Options, new_vae
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.presets import PRESETS, Preset, Source

PARTS = ("vae", "transformer", "image_encoder", "image_processor")  # the last two of image-conditioned models
PATTERNS = [f"{part}/*.{kind}" for part in PARTS for kind in ("json", "safetensors")]
TEXT_PATTERNS = ["tokenizer/*", "text_encoder/*.json", "text_encoder/*.safetensors"]
CARD = "README.md"
PUBLISHED_BYTES = 4  # a parameter at most, in the public diffusers folders: some hold less precision


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to fetch; without any, only the list is printed")
    parser.add_argument("--text-encoder", action="store_true", help="also what embed_prompt.py needs")
    arguments = parser.parse_args()
    if not arguments.names:
        print(table())
        return 0
    try:
        for name in arguments.names:
            print(fetch(name, arguments.text_encoder))
    except GnvcError as error:
        print(f"fetch_weights: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def table() -> str:
    """Weights alone; activations come on top (`gnvc-vd bench backbone`)."""
    lines = ["preset             parameters  download  weights bf16  weights f32   from"]
    for name, preset in PRESETS.items():
        count = parameters(preset)
        download = f"{PUBLISHED_BYTES * count / 1e9:6.1f} GB" if preset.source else "  (none)"
        lines.append(
            f"{name:17} {count / 1e6:9.1f} M {download}  {2 * count / 1e9:9.2f} GB {4 * count / 1e9:9.2f} GB   "
            f"{preset.source.repository if preset.source else without_source(preset)}"
        )
    return "\n".join(lines)


def parameters(preset: Preset) -> int:
    with shapes_only():
        built = new_vae(preset.vae, Options()), build_dit(preset.dit)
    return sum(parameter.numel() for part in built for parameter in part.parameters())


def without_source(preset: Preset) -> str:
    return "it comes with the package" if preset.shipped else preset.note


def fetch(name: str, text_encoder: bool = False, referring: tuple[str, ...] = ()) -> Path:
    """Fetch a preset's or hub id's files, or go on with a download that was interrupted; returns the folder.

    Args:
        referring: the models that led here, each of which names the next as the place of its backbone.
    """
    preset = PRESETS.get(name)
    if preset is not None and preset.source is None:
        raise UsageError(f"{name}: nothing to fetch ({without_source(preset)})")
    require(name not in referring, f"{name}: refers to itself for its backbone", GnvcError)
    source, folder = repository_of(name)
    if preset is None:
        download(name, source, folder, [DESCRIPTION])
    if preset is not None or not (folder / DESCRIPTION).is_file():
        size = f", about {PUBLISHED_BYTES * parameters(preset) / 1e9:.1f} GB" if preset is not None else ""
        download(name, source, folder, PATTERNS + (TEXT_PATTERNS if text_encoder else []), size)
        return folder
    description = read_description(folder)
    download(name, source, folder, [CARD, *map(escape, description.files)])
    for file, sha256 in description.files.items():
        check_file(folder, file, sha256)
    elsewhere = description.backbone.full_location
    if elsewhere is not None and not is_here(elsewhere):
        print(fetch(elsewhere, text_encoder, (*referring, name)))
    return folder


def is_here(name: str) -> bool:
    try:
        find(name)
    except GnvcError:
        return False
    return True


def download(name: str, source: Source, folder: Path, patterns: Sequence[str], size: str = "") -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(source.repository, revision=source.revision, local_dir=folder, allow_patterns=list(patterns))
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise GnvcError(
            f"{name}: the download failed ({reason}); call this again, or put a model folder or diffusers folder "
            f"({source.repository}{size}) at {folder}"
        ) from error


raise SystemExit(main())
