"""Export a training's checkpoint to a model folder, or upload a model folder to the Hugging Face hub.

python scripts/export.py RUN FOLDER
python scripts/export.py FOLDER --push OWNER/NAME

RUN is a folder of scripts/train.py. `gnvc-vd encode --model FOLDER` uses the result, and the next phase of a training
can start from it (model.start=FOLDER). An upload needs a card, FOLDER/README.md, which is written by hand.
docs/training.md describes all steps.
"""

import argparse
import sys
from pathlib import Path

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

from gnvc_vd.conventions import QUALITIES, GnvcError, UsageError
from gnvc_vd.train.export import export
from gnvc_vd.train.push import push
from gnvc_vd.train.refit import Refit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a run of scripts/train.py; leave out with --push")
    parser.add_argument("folder", type=Path, help="the model folder to write; an existing one is replaced")
    parser.add_argument("--checkpoint", type=Path, help="one of RUN/checkpoints (default: the newest)")
    parser.add_argument("--live", action="store_true", help="the last step's weights instead of their average")
    parser.add_argument("--refit", action="store_true", help="move the qualities so that their rates rise evenly")
    parser.add_argument(
        "--half", action="store_true", help="half the size: weights in float16, integers that decide symbols unchanged"
    )
    parser.add_argument("--thrift", type=float, metavar="T", help="RD weight in rounding, 0 to 1 (as in training)")
    parser.add_argument("--backbone", help="backbone for the codec, with the same VAE (default: the run's)")
    parser.add_argument("--refer", action="store_true", help="store only that backbone's name, not its weights")
    parser.add_argument(
        "--refine-up-to",
        type=int,
        default=QUALITIES - 1,
        metavar="Q",
        help="highest quality that is refined by default (63)",
    )
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="refine larger pictures in tiles of this size")
    parser.add_argument("--name", help="name of the model (default: the run's)")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload FOLDER to the Hugging Face hub")
    arguments = parser.parse_intermixed_args()
    if (arguments.run is None) != (arguments.push is not None):
        parser.error("give RUN and FOLDER to export, or FOLDER alone with --push to upload")
    which = "live" if arguments.live else "averaged"
    try:
        if arguments.push is not None:
            print(push(arguments.folder, arguments.push))
            return 0
        done = export(
            arguments.run, arguments.folder, arguments.checkpoint, which, arguments.name, arguments.refit,
            half=arguments.half, thrift=arguments.thrift, backbone=arguments.backbone,
            refers=arguments.refer, highest_quality=arguments.refine_up_to,
            tile=arguments.tile,
        )  # fmt: skip
    except GnvcError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    if done.refit is not None:
        show(done.refit)
    print(f"{arguments.folder}: step {done.step} of {arguments.run}, {which} weights")
    return 0


def show(refit: Refit) -> None:
    print("quality   place  expected bpp")
    for quality in range(0, QUALITIES, 9):
        print(f"{quality:7} {refit.places[quality]:7.2f}  {refit.expected[quality]:12.5f}")


raise SystemExit(main())
