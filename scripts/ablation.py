"""A multirun of evaluations or trainings as a table and a plot with BD-rates between its variants.

python scripts/evaluate.py -m experiment=steps codecs.gnvc-vd.ours.decode.steps=1,2,5
python scripts/ablation.py outputs/evaluate/steps --anchor 5
python scripts/train.py -m experiment=adaptor_depth adaptor.every=6,2
python scripts/ablation.py outputs/train/adaptor_depth-* --anchor 2
"""

import argparse
import sys
from pathlib import Path

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.report.ablation import study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a multirun's folder, or its runs")
    parser.add_argument("--codec", help="which of an evaluation's codecs varies (needed where it has several)")
    parser.add_argument("--anchor", help="the variant that BD-rates are against (default: the first)")
    parser.add_argument("--out", type=Path, help="where to write (default: FOLDER/ablation of the first)")
    arguments = parser.parse_args()
    out = arguments.out or arguments.folders[0] / "ablation"
    try:
        text = study(arguments.folders, out, arguments.codec, arguments.anchor)
    except GnvcError as error:
        print(f"ablation: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    print(text.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
