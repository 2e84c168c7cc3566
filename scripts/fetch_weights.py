"""Download the weights of presets and models, or list them: python scripts/fetch_weights.py [NAME …]

NAME is a preset, or a hub id (owner/name or owner/name@revision) of a model folder or a diffusers folder. Files go to
$GNVC_VD_WEIGHTS, or to a cache folder; an interrupted download is resumed. Only safetensors, JSON and the card are
fetched. Of a model folder, these are the files in its model.json, whose sha256 is checked, and its backbone.

NAME `metrics` fetches the networks of an evaluation's metrics: torchvision's VGG16, AlexNet and RAFT, to $TORCH_HOME,
and CLIP and VideoMAE. The sha256 of each file is checked.
"""

import argparse
import sys
from collections.abc import Sequence
from glob import escape
from pathlib import Path

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

import torch

from gnvc_vd.backbone.dit import build_dit
from gnvc_vd.backbone.folder import DESCRIPTION, check_file, read_description
from gnvc_vd.backbone.sources import find, repository_of
from gnvc_vd.backbone.weights import Options, new_vae
from gnvc_vd.common.files import file_sha256
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.weight_files import HUB_FILES, NETWORKS, check_digest, checked_network, digest_of, in_torch_home
from gnvc_vd.presets import PRESETS, Preset, Source

PARTS = ("vae", "transformer", "image_encoder", "image_processor")  # the last two: of image-conditioned models
PATTERNS = [f"{part}/*.{kind}" for part in PARTS for kind in ("json", "safetensors")]
TEXT_PATTERNS = ["tokenizer/*", "text_encoder/*.json", "text_encoder/*.safetensors"]
CARD = "README.md"
METRICS = "metrics"
PUBLISHED_BYTES = 4  # bytes per parameter, at most, in public diffusers folders


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to fetch; default: only print the list")
    parser.add_argument(
        "--text-encoder", action="store_true", help="also fetch the text encoder, which embed_prompt.py needs"
    )
    arguments = parser.parse_args()
    if not arguments.names:
        print(table())
        return 0
    try:
        for name in arguments.names:
            fetched = fetch_metrics() if name == METRICS else [fetch(name, arguments.text_encoder)]
            print("\n".join(map(str, fetched)))
    except GnvcError as error:
        print(f"fetch_weights: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def table() -> str:
    """Table of presets with the memory of their weights; activations come on top (`gnvc-vd bench backbone`)."""
    lines = ["preset             parameters  download  weights bf16  weights f32   from"]
    for name, preset in PRESETS.items():
        count = parameters(preset)
        download = f"{PUBLISHED_BYTES * count / 1e9:6.1f} GB" if preset.source else "  (none)"
        lines.append(
            f"{name:17} {count / 1e6:9.1f} M {download}  {2 * count / 1e9:9.2f} GB {4 * count / 1e9:9.2f} GB   "
            f"{preset.source.repository if preset.source else without_source(preset)}"
        )
    lines.append(f"{METRICS:17} of evaluations: {', '.join([*map(file_of, trunk_addresses()), *network_names()])}")
    return "\n".join(lines)


def parameters(preset: Preset) -> int:
    with torch.device("meta"):
        built = new_vae(preset.vae, Options()), build_dit(preset.dit)
    return sum(parameter.numel() for part in built for parameter in part.parameters())


def without_source(preset: Preset) -> str:
    return "it comes with the package" if preset.shipped else preset.note


def fetch(name: str, text_encoder: bool = False, referring: tuple[str, ...] = ()) -> Path:
    """Fetch the files of a preset or hub id, or resume an interrupted download; returns the folder.

    Args:
        referring: chain of models that led here, each of which names the next as its backbone.
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


def trunk_addresses() -> list[str]:
    """Addresses of torchvision's weights; a file name ends with the first digits of its sha256."""
    import gnvc_vd.common.compat  # noqa: F401, I001 - before torchvision
    from torchvision import models
    from torchvision.models import optical_flow

    trunks = models.AlexNet_Weights.IMAGENET1K_V1, models.VGG16_Weights.IMAGENET1K_V1
    return [one.url for one in (*trunks, optical_flow.Raft_Large_Weights.C_T_SKHT_V2)]


def network_names() -> list[str]:
    return [network.name for network in NETWORKS.values()]


def file_of(address: str) -> str:
    return address.rpartition("/")[2]


def fetch_metrics() -> list[str]:
    """Fetch missing networks of metrics; returns every path with its sha256."""
    from torch.hub import download_url_to_file

    fetched = []
    for address in trunk_addresses():
        path = in_torch_home(file_of(address))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            check_digest(path)
        except UnavailableError:
            try:
                download_url_to_file(address, str(path), hash_prefix=digest_of(path.name))
            except Exception as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise GnvcError(f"{path.name}: the download failed ({reason}); put {address} at {path}") from error
        fetched.append(f"{path}  sha256 {file_sha256(path)}")
    for network in NETWORKS.values():
        source, folder = repository_of(network.name)
        download(network.name, source, folder, HUB_FILES)
        fetched.append(f"{checked_network(network, folder) / HUB_FILES[1]}  sha256 {network.sha256}")
    return fetched


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
