"""Encode and decode every video of a manifest or folder: python scripts/code_corpus.py MANIFEST OUT

The same command goes on where it stopped; a video that failed is tried again. OUT/table.csv has a row for each video,
OUT/failed.csv those that failed, with the reason; then the exit code is 1.

torchrun --standalone --nproc_per_node 8 scripts/code_corpus.py MANIFEST OUT      or accelerate launch, or srun
sbatch --array=0-99 --wrap "python scripts/code_corpus.py MANIFEST OUT"           a share for each job
"""

import argparse
import csv
import io
import os
import sys
from collections.abc import Callable, Mapping
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
from gnvc_vd.codecs.corpus import Corpus, Record, code_corpus, read_record
from gnvc_vd.codecs.load import load, load_gvc
from gnvc_vd.common.files import write_text
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.data.manifests import entries_of
from gnvc_vd.learned.codec import EncodeOptions
from gnvc_vd.presets import codebook_of
from gnvc_vd.train.slurm import join_step
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.encoding import DEFAULT_ATOMS, DEFAULT_GOP, GvcEncodeOptions
from gnvc_vd.zeroshot.parameters import Parameters

COLUMNS = ("name", "error", "frames", "width", "height", "bytes", "bpp", "kbps", "quality", "seconds", "decode_seconds")
SHOWN = 10  # failures that are printed
PATIENCE = timedelta(days=30)  # how long a process waits for the others when its share is done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="manifest of scripts/prepare_data.py, or a folder of videos")
    parser.add_argument("out", type=Path)
    parser.add_argument("--codec", choices=["gnvc-vd", "gvc"], default="gnvc-vd")
    parser.add_argument("--model", help="as for gnvc-vd encode (tiny)")
    parser.add_argument("--split", choices=["train", "validation"], help="only this split of the manifest (all)")
    parser.add_argument("--quality", type=int, help=f"quality of GNVC-VD ({EncodeOptions.quality})")
    parser.add_argument("--atoms", type=int, help=f"atoms of GVC ({DEFAULT_ATOMS})")
    parser.add_argument("--gop", type=int, help=f"frames of a GOP ({DEFAULT_WINDOW}; gvc {DEFAULT_GOP})")
    parser.add_argument("--frames", type=int, metavar="N", help="only the first N of each video")
    parser.add_argument("--decoded", choices=["mkv", "mp4", "y4m", "none"], default="mkv", help="decoded videos (mkv)")
    parser.add_argument("--steps", type=int, help="refinement steps of the decoder (as the stream says)")
    parser.add_argument("--no-refine", dest="refine", action="store_false", help="decode without the refiner")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto", help="of the decoder (auto)")
    parser.add_argument("--compile", action="store_true", help="compile the decoder, for each size of videos")
    parser.add_argument("--device", help="device of this process (one GPU for each, else the CPU)")
    arguments = parser.parse_args()
    try:
        refuse_others(arguments)
        join_step()
        state = PartialState(cpu=arguments.device == "cpu", timeout=PATIENCE)
        share = (state.process_index, state.num_processes) if state.num_processes > 1 else array_share(os.environ)
        device = torch.device(arguments.device or state.device)
        computing = options_of(arguments, device)
        corpus, codec = corpus_of(arguments, computing, device)
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


def refuse_others(arguments: argparse.Namespace) -> None:
    """Refuse options of the other codec."""
    if arguments.codec == "gvc":
        said = {"--quality": arguments.quality is not None, "--steps": arguments.steps is not None}
        said |= {"--no-refine": not arguments.refine, "--precision bf16": arguments.precision == "bf16"}
    else:
        said = {"--atoms": arguments.atoms is not None}
    strange = [option for option, given in said.items() if given]
    require(not strange, f"{', '.join(strange)}: not with --codec {arguments.codec}")


def options_of(arguments: argparse.Namespace, device: torch.device) -> Options:
    """What decides decoded frames beside weights and `DecodeOptions`; GVC's decoder follows its encoder's floats."""
    kind = decoder_dtype("fp32" if arguments.codec == "gvc" else arguments.precision, device)
    return Options(lean=True, vae_decoder=kind, transformer=kind, compile=arguments.compile)


def corpus_of(arguments: argparse.Namespace, computing: Options, device: torch.device) -> tuple[Corpus, Codec[Any]]:
    root, entries = entries_of(arguments.manifest, "videos", arguments.split)
    loading: Callable[..., Codec[Any]] = load_gvc if arguments.codec == "gvc" else load
    codec = loading(arguments.model, computing).to(device)
    settings = settings_of(arguments, codec)
    decoding = DecodeOptions(steps=arguments.steps, refine=arguments.refine)
    suffix = None if arguments.decoded == "none" else f".{arguments.decoded}"
    return Corpus(root, entries, arguments.out, settings, decoding, computing, suffix, arguments.frames), codec


def settings_of(arguments: argparse.Namespace, codec: Codec[Any]) -> EncodeOptions | GvcEncodeOptions:
    """As `gnvc-vd encode` has them with the same options."""
    options = {name: value for name in ("quality", "atoms", "gop") if (value := getattr(arguments, name)) is not None}
    if isinstance(codec, Gvc):
        return GvcEncodeOptions(parameters=Parameters(codebook=codebook_of(codec.prior.dit_preset)), **options)
    return EncodeOptions(**options)


def write_tables(corpus: Corpus) -> tuple[int, list[Record]]:
    """Tables of all records, whoever made them: how many videos wait, and the failed ones."""
    known, failed = None, list[Record]()
    while known != (found := [one for entry in corpus.entries if (one := read_record(corpus, entry)) is not None]):
        known = found  # once more after writing: of two jobs that end at once, the later file holds what both did
        failed = [record for record in known if record.error is not None]
        for name, rows in (("table.csv", known), ("failed.csv", failed)):
            text = io.StringIO()
            table = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
            table.writeheader()
            table.writerows(vars(one) | one.encoded for one in rows)
            write_text(corpus.out / name, text.getvalue())
    return len(corpus.entries) - len(found), failed


def array_share(said: Mapping[str, str]) -> tuple[int, int]:
    """The share of a job of a SLURM array, by what SLURM says of it; all of it elsewhere."""
    defaults = {"ID": "0", "MIN": "0", "COUNT": "1"}
    number, first, count = (int(said.get(f"SLURM_ARRAY_TASK_{name}", value)) for name, value in defaults.items())
    irregular = f"a SLURM array counts by ones: task {number} of {count} has no share"
    require(0 <= number - first < count, irregular, GnvcError)
    return number - first, count


raise SystemExit(main())
