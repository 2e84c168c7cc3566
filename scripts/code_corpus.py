"""Encode and decode every video of a manifest or folder: python scripts/code_corpus.py MANIFEST OUT

The same command goes on where it stopped; a video that failed is tried again. OUT/table.csv has a row for each video,
OUT/failed.csv those that failed, with the reason; then the exit code is 1.

torchrun --standalone --nproc_per_node 8 scripts/code_corpus.py MANIFEST OUT      or accelerate launch, or srun
sbatch --array=0-99 --wrap "python scripts/code_corpus.py MANIFEST OUT"           a share for each job
"""

import argparse
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

import torch
from accelerate import PartialState

from gnvc_vd.backbone.decoder_precision import decoder_dtype
from gnvc_vd.backbone.weights import Options
from gnvc_vd.bitstream.gop import DEFAULT_WINDOW
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.codecs.contract import Codec
from gnvc_vd.codecs.corpus import Corpus, array_share, code_corpus, write_tables
from gnvc_vd.codecs.load import load, load_gvc
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.data.manifests import entries_of
from gnvc_vd.learned.codec import EncodeOptions
from gnvc_vd.train.slurm import join_step
from gnvc_vd.zeroshot.encoding import DEFAULT_ATOMS, DEFAULT_GOP, GvcEncodeOptions

SHOWN = 10  # of the failures
PATIENCE = timedelta(days=30)  # of processes whose share is done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="of scripts/prepare_data.py, or a folder of videos")
    parser.add_argument("out", type=Path)
    parser.add_argument("--codec", choices=["gnvc-vd", "gvc"], default="gnvc-vd")
    parser.add_argument("--model", help="as of gnvc-vd encode (tiny)")
    parser.add_argument("--split", choices=["train", "validation"], help="of the manifest (all)")
    parser.add_argument("--quality", type=int, default=32, help="of GNVC-VD (32)")
    parser.add_argument("--atoms", type=int, default=DEFAULT_ATOMS, help=f"of GVC ({DEFAULT_ATOMS})")
    parser.add_argument("--gop", type=int, help=f"frames of a GOP ({DEFAULT_WINDOW}; gvc {DEFAULT_GOP})")
    parser.add_argument("--frames", type=int, metavar="N", help="of each video, the first N")
    parser.add_argument("--decoded", choices=["mkv", "mp4", "y4m", "none"], default="mkv", help="decoded videos (mkv)")
    parser.add_argument("--steps", type=int, help="of refinement, for the decoder (as the stream says)")
    parser.add_argument("--no-refine", dest="refine", action="store_false", help="decode without the refiner")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto", help="of the decoder (auto)")
    parser.add_argument("--device", help="(one GPU for each process, else the CPU)")
    arguments = parser.parse_args()
    try:
        join_step()
        state = PartialState(cpu=arguments.device == "cpu", timeout=PATIENCE)
        share = (state.process_index, state.num_processes) if state.num_processes > 1 else array_share(os.environ)
        corpus, codec = corpus_of(arguments), codec_of(arguments, torch.device(arguments.device or state.device))
        made, kept = code_corpus(corpus, codec, share)
        print(f"share {share[0] + 1} of {share[1]}: {made} videos coded here, {kept} were there")
        state.wait_for_everyone()
        waiting, failed = write_tables(corpus) if state.is_main_process else (0, [])
    except (GnvcError, OSError) as error:
        print(f"code_corpus: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    for record in failed[:SHOWN]:
        print(f"code_corpus: {record.name}: {record.error}", file=sys.stderr)
    if state.is_main_process:
        rest = f", {waiting} wait for other jobs" if waiting else ""
        print(f"{corpus.out / 'table.csv'}: {len(corpus.entries)} videos, {len(failed)} failed{rest}")
    return 1 if failed else 0


def codec_of(arguments: argparse.Namespace, device: torch.device) -> Codec[Any]:
    if arguments.codec == "gvc":  # its decoder follows its encoder's floats
        return load_gvc(arguments.model, Options(lean=True)).to(device)
    kind = decoder_dtype(arguments.precision, device)
    return load(arguments.model, Options(lean=True, vae_decoder=kind, transformer=kind)).to(device)


def corpus_of(arguments: argparse.Namespace) -> Corpus:
    root, entries = entries_of(arguments.manifest, "videos", arguments.split)
    gop = {} if arguments.gop is None else {"gop": arguments.gop}
    learned = arguments.codec == "gnvc-vd"
    settings = EncodeOptions(arguments.quality, **gop) if learned else GvcEncodeOptions(arguments.atoms, **gop)
    decoding = DecodeOptions(steps=arguments.steps, refine=arguments.refine)
    suffix = None if arguments.decoded == "none" else f".{arguments.decoded}"
    return Corpus(root, entries, arguments.out, settings, decoding, suffix, arguments.frames)


raise SystemExit(main())
