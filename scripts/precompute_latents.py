"""Compute VAE latents of training clips: python scripts/precompute_latents.py SOURCE OUT --backbone NAME

SOURCE is a folder or a manifest (docs/data.md). An interrupted run is resumed. Training with OUT instead of clips does
not run the VAE's encoder; its crops and camera paths are then the same in every pass.
"""

import argparse
import sys
from pathlib import Path

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

import torch
from tqdm import tqdm

from gnvc_vd import load_backbone
from gnvc_vd.common.files import file_sha256
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.data.clips import ClipSpec, SeptupletClips, VideoClips
from gnvc_vd.data.latents import SHARD, LatentIndex, encoder_identity, precompute
from gnvc_vd.data.photos import PhotoClips
from gnvc_vd.data.samples import Clips, LoaderOptions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", choices=["videos", "photos", "septuplets"], default="videos")
    parser.add_argument("--split", choices=["train", "validation"], default="train", help="split of a manifest (train)")
    parser.add_argument("--backbone", default="nano", help="preset, folder or hub id (nano)")
    parser.add_argument("--frames", type=int, default=9, help="frames per clip, 1 + 4k (9)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=[256, 256], metavar=("H", "W"), help="size of clips (256 256)"
    )
    parser.add_argument("--stride", type=int, default=1, help="use every N-th frame (1)")
    parser.add_argument("--short-side", type=int, help="downscale larger videos to this first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="number of clips (one pass over the source)")
    parser.add_argument("--half", action="store_true", help="store float16 instead of float32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="loader processes (0)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    try:
        compute(arguments)
    except GnvcError as error:
        print(f"precompute_latents: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def compute(arguments: argparse.Namespace) -> None:
    height, width = arguments.size
    spec = ClipSpec(arguments.frames, height, width, arguments.stride, arguments.short_side, seed=arguments.seed)
    clips: Clips
    if arguments.kind == "septuplets":
        clips = SeptupletClips(arguments.source, spec)
    else:
        source = VideoClips if arguments.kind == "videos" else PhotoClips
        clips = source(arguments.source, spec, arguments.split)
    vae = load_backbone(arguments.backbone).to(arguments.device).vae
    index = LatentIndex(
        encoder_identity(vae), spec, describe(arguments), arguments.count or len(clips), arguments.half, SHARD
    )
    with tqdm(total=index.count, desc="encoding", unit="clip", disable=None) as bar:
        precompute(clips, vae, arguments.out, index, arguments.batch, LoaderOptions(arguments.workers), bar.update)
    for name, reason in clips.skipped.items():
        print(f"left out: {name} {reason}", file=sys.stderr)
    print(f"{arguments.out}: latents of {index.count} clips")


def describe(arguments: argparse.Namespace) -> str:
    """Description of the source: a manifest by its hash, a folder by its name."""
    source: Path = arguments.source
    name = f"manifest {file_sha256(source)[:16]}" if source.is_file() else f"folder {source.name}"
    return f"{arguments.kind} {name} {arguments.split}"


raise SystemExit(main())
