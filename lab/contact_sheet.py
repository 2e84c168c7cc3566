"""An evaluation's pictures side by side, to be looked at: python -m lab.contact_sheet FOLDER OUT.png

FOLDER is an evaluation's. Under the original stands, rate by rate, each codec at the level whose file comes nearest,
with what it took. Frames are those of the report's player, which are coded once more for browsers: for eyes, and for no
measure. The strip at the right is the middle column of pixels over time, where flicker shows as stripes across it.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gnvc_vd.common.files import replacing
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.evaluate.points import Point, read_point
from gnvc_vd.evaluate.run import player_path
from gnvc_vd.video import open_video

SOURCE = "source"  # whose copy for the player stands beside those of codecs
DOTS = 100  # of the picture, an inch


class Row(NamedTuple):
    label: str
    frames: NDArray[np.uint8]  # T H W 3


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("out", type=Path, metavar="OUT.png")
    parser.add_argument("--sequence", help="one of the evaluation's (its first)")
    parser.add_argument("--codecs", nargs="+", metavar="NAME", help="(all of them)")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.006, 0.0125, 0.025], help="bits per pixel")
    parser.add_argument("--frames", type=int, default=4, help="of a video, side by side (4)")
    arguments = parser.parse_args(argv)
    try:
        points = points_of(arguments.folder, arguments.sequence, arguments.codecs)
        draw(rows_of(arguments.folder, points, arguments.rates), arguments.frames, arguments.out)
    except GnvcError as error:
        print(f"contact_sheet: {error}", file=sys.stderr)
        return 1
    print(arguments.out)
    return 0


def points_of(folder: Path, sequence: str | None, codecs: Sequence[str] | None) -> list[Point]:
    """Of one sequence, codec by codec."""
    points = [point for file in sorted((folder / "points").glob("*/*/*.json")) if (point := read_point(file))]
    require(points, f"{folder}: no points of an evaluation there", GnvcError)
    names = sorted({point.sequence for point in points})
    wanted = sequence or names[0]
    require(wanted in names, f"{folder} has no sequence {wanted}; there are {', '.join(names)}", GnvcError)
    strange = set(codecs or ()) - {point.codec for point in points}
    require(not strange, f"{folder} has no codec {', '.join(sorted(strange))}", GnvcError)
    return [point for point in points if point.sequence == wanted and (not codecs or point.codec in codecs)]


def rows_of(folder: Path, points: Sequence[Point], rates: Sequence[float]) -> list[Row]:
    """The original, and for each rate a row for each codec."""
    sequence = points[0].sequence
    rows = [Row("original", _read(player_path(folder, SOURCE, sequence)))]
    for rate in rates:
        for codec, own in groupby(points, lambda point: point.codec):
            point = min(own, key=lambda one: abs(math.log(one.bpp / rate)))
            frames = _read(player_path(folder, codec, sequence, point.level))
            rows.append(Row(f"{codec} {point.level}\n{point.bpp:.4f} bpp", frames))
    return rows


def draw(rows: Sequence[Row], frames: int, out: Path) -> None:
    """A row of pictures for each, one pixel a dot, and its flicker."""
    length, height, width = rows[0].frames.shape[:3]
    places = np.linspace(0, length - 1, min(frames, length)).round().astype(int)
    strip = max(width // 2, length)
    ratios = [*[width] * len(places), strip]
    margin, gap = 1.1, 4 / DOTS
    size = margin + sum(ratios) / DOTS + gap * len(ratios), len(rows) * (height / DOTS + gap)
    figure = Figure(figsize=size)
    grid = figure.add_gridspec(
        len(rows), len(ratios), left=margin / size[0], right=1, bottom=0, top=1, wspace=0.02, hspace=0.02,
        width_ratios=ratios,
    )  # fmt: skip
    for number, row in enumerate(rows):
        column = row.frames[:, :, width // 2].transpose(1, 0, 2)
        for place, picture in enumerate([*row.frames[places], column]):
            axes = figure.add_subplot(grid[number, place])
            axes.imshow(picture, interpolation="nearest", aspect="auto")
            axes.set_xticks([])
            axes.set_yticks([])
            if place == 0:
                axes.set_ylabel(row.label, fontsize=9, rotation=0, ha="right", va="center")
    with replacing(out) as part:
        figure.savefig(part, dpi=DOTS, format="png")


def _read(path: Path) -> NDArray[np.uint8]:
    with open_video(path) as video:
        return np.stack(list(video))


if __name__ == "__main__":
    raise SystemExit(main())
