"""The curves of one or more runs as a picture: python scripts/plot_run.py RUN… OUT.png

A run is a folder of scripts/train.py. Each has a row: terms of its loss over steps, and what its validations found, for
a codec the rate–distortion curve of every validation, from pale (first) to dark (last).
"""

import argparse
import sys
from pathlib import Path

from gnvc_vd.conventions import GnvcError
from gnvc_vd.report.plots import plot_runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("out", type=Path, help="a .png")
    arguments = parser.parse_args()
    try:
        plot_runs(arguments.runs, arguments.out)
    except GnvcError as error:
        print(f"plot_run: {error}", file=sys.stderr)
        return 1
    print(arguments.out)
    return 0


raise SystemExit(main())
