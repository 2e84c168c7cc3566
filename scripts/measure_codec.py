"""Measure a latent codec's initial statistics: python scripts/measure_codec.py FOLDER… --out start.safetensors

FOLDER holds latents of scripts/precompute_latents.py, all of clips of one shape. Training with model.begin=OUT starts
from these statistics instead of measuring its first batches: the start is the same for every run, and no clips have to
be encoded. The file has about 30 kB for the transform codec.
"""

import argparse
import sys
from pathlib import Path

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

import torch
from safetensors.torch import save_file

from gnvc_vd import load_backbone
from gnvc_vd.common.files import replacing
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.data.latents import LatentClips, encoder_identity
from gnvc_vd.learned.bottleneck.kinds import bottleneck_of
from gnvc_vd.presets import preset


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("latents", nargs="+", metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--backbone", default="tiny", help="whose VAE made them: preset, folder or hub id (tiny)")
    parser.add_argument("--sizes", default="tiny", metavar="PRESET", help="whose latent codec is measured (tiny)")
    parser.add_argument("--bottleneck", choices=["contextual", "transform"], default="transform", help="(transform)")
    parser.add_argument("--smallest", type=float, default=0.005, help="λ of the lowest quality (0.005)")
    parser.add_argument("--largest", type=float, default=12.0, help="λ of the highest quality (12)")
    arguments = parser.parse_args()
    try:
        measure(arguments)
    except GnvcError as error:
        print(f"measure_codec: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def measure(arguments: argparse.Namespace) -> None:
    require(0 < arguments.smallest <= arguments.largest, "λs are above 0, and the largest is no less than the smallest")
    identity = encoder_identity(load_backbone(arguments.backbone).vae)
    folders = [LatentClips(folder, identity) for folder in arguments.latents]
    shapes = {folder.index.shape for folder in folders}
    require(len(shapes) == 1, f"the folders hold latents of {len(shapes)} shapes; statistics are of one")
    clips = torch.stack([folder[number] for folder in folders for number in range(len(folder))]).float()
    model = bottleneck_of(preset(arguments.sizes).bottleneck(arguments.bottleneck))
    with torch.no_grad():
        model.measure(clips, arguments.smallest, arguments.largest)
    with replacing(arguments.out) as part:
        save_file({name: value.detach().contiguous() for name, value in model.initial_tensors().items()}, part)
    print(f"{arguments.out}: the start of a {arguments.bottleneck} codec, measured on {len(clips)} clips")


raise SystemExit(main())
