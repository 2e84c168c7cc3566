"""The picture of the front page: python -m lab.draw_front EVALUATION OUT.jpg [--rate BPP] [--metric NAME]

The original, tiny and x265 in files of about one size, a frame of each from the middle, and the curves that these two
points lie on. Frames are those of the report's player, as in lab/contact_sheet.py.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from gnvc_vd.common.files import replacing
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.report.curves import ALL_METRICS
from gnvc_vd.report.plots import COLOURS, scale_by_rate
from lab.contact_sheet import points_of, rows_of

CODECS = {"gnvc-vd": "tiny", "x265": "x265"}  # by their names in the evaluation, as they are called here


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path, help="its folder")
    parser.add_argument("out", type=Path, help="a .jpg or .png")
    parser.add_argument("--sequence", help="one of the evaluation's (its first)")
    parser.add_argument("--rate", type=float, default=0.007, help="bits per pixel (0.007)")
    parser.add_argument("--metric", default="cvvdp", choices=list(ALL_METRICS), help="(cvvdp)")
    arguments = parser.parse_args(argv)
    try:
        draw(arguments.evaluation, arguments.out, arguments.sequence, arguments.rate, arguments.metric)
    except GnvcError as error:
        print(f"draw_front: {error}", file=sys.stderr)
        return 1
    print(arguments.out)
    return 0


def draw(evaluation: Path, out: Path, sequence: str | None, rate: float, metric: str) -> None:
    points = points_of(evaluation, sequence, list(CODECS))
    require(all(metric in point.asked for point in points), f"{evaluation}: {metric} was not asked for", GnvcError)
    figure = Figure(figsize=(13, 3.9), layout="constrained")
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.25))
    for place, row in zip(axes, rows_of(evaluation, points, [rate]), strict=False):
        place.imshow(row.frames[len(row.frames) // 2], interpolation="lanczos")
        codec, _, rate_of_it = row.label.replace("\n", " ").partition(" ")
        place.set_title(" ".join([CODECS.get(codec, codec), rate_of_it.partition(" ")[2]]), fontsize=11)
        place.set_axis_off()
    curve = axes[-1]
    for (codec, name), colour in zip(CODECS.items(), COLOURS, strict=False):
        own = sorted((point.bpp, point.figures[metric]) for point in points if point.codec == codec)
        curve.plot(*zip(*own, strict=True), marker="o", markersize=4, color=colour, label=name)
    scale_by_rate(curve)
    curve.axvline(rate, color="0.7", linewidth=1, zorder=0)
    curve.set_ylabel(ALL_METRICS[metric].label)
    curve.legend()
    with replacing(out) as part:
        figure.savefig(part, dpi=100, format=out.suffix[1:])


if __name__ == "__main__":
    raise SystemExit(main())
