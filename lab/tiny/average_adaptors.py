"""A model with the mean of its adaptor and another's: python -m lab.tiny.average_adaptors MODEL OTHER OUT [--half]

The mean of two stretches of one training can keep what they agree on, and lose what one of them has overlearned. That
the other's backbone is the model's, in whatever precision, is for its user to see to.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from gnvc_vd.codecs.load import load, save
from gnvc_vd.conventions import GnvcError


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder")
    parser.add_argument("other", help="another of the same sizes, which refines in the same way")
    parser.add_argument("out", type=Path, help="the folder to make")
    parser.add_argument("--half", action="store_true", help="keep float weights in half precision")
    arguments = parser.parse_args(argv)
    try:
        average(arguments.model, arguments.other, arguments.out, arguments.half)
    except GnvcError as error:
        print(f"average_adaptors: {error}", file=sys.stderr)
        return 1
    return 0


@torch.no_grad()
def average(model: str | Path, other: str | Path, out: Path, half: bool = False) -> None:
    codec, met = load(model), load(other)
    own, theirs = codec.refiner.adaptor(), met.refiner.adaptor()
    if own.keys() != theirs.keys() or any(own[key].shape != theirs[key].shape for key in own):
        raise GnvcError(f"{other}: its adaptor has other sizes than the model's")
    if met.refinement != codec.refinement:
        raise GnvcError(f"{other}: it refines in another way than the model")
    codec.refiner.load_adaptor({key: (own[key] + theirs[key]) / 2 for key in own}, str(other))
    save(codec, out, codec.name, half)


if __name__ == "__main__":
    raise SystemExit(main())
