"""The rate–distortion points of a release as data, and the tables and pictures that the docs show of them.

    python -m lab.results add EVALUATION NAME     an evaluation's points ─▶ NAME.csv in the version's folder; of an
                                                  ablation's OUT/evaluations, those of all variants and seeds
    python -m lab.results draw                    ─▶ NAME-METRIC.png beside it, and marked tables in README.md, docs
                                                     and the models' cards

A table stands between two comments, of which the first says what it holds:

    <!-- rates NAME SEQUENCE METRIC,… CODEC,… -->          every point of these codecs; SEQUENCE may be mean
    <!-- differences NAME ANCHOR METRIC,… CODEC,… -->      BD-rates, the mean of the sequences' own
    <!-- spread NAME SEQUENCE ANCHOR METRIC,… -->         an ablation's variants, with their spread over seeds
    <!-- at NAME SEQUENCE ANCHOR MOST METRIC,… CODEC -->   a codec at each of the anchor's rates up to MOST
    <!-- end -->

docs/results/README.md describes the columns. Files of others with these columns are drawn alike: they lie beside ours.
"""

import argparse
import csv
import inspect
import io
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gnvc_vd import __version__
from gnvc_vd.common.files import write_text
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.evaluate.points import Point, read_point
from gnvc_vd.report import tables
from gnvc_vd.report.ablation import SEED, Variant, mean_of_runs, spread_tables
from gnvc_vd.report.curves import ALL_METRICS, OF_SEQUENCES, Row, differences, with_means
from gnvc_vd.report.plots import plot_metrics
from gnvc_vd.report.tables import Table

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "results"
PAGES = (
    "README.md",
    "docs/results.md",
    "gnvc_vd/assets/tiny/MODEL_CARD.md",
    "gnvc_vd/assets/tiny-contextual/MODEL_CARD.md",
)
OURS = ("tiny", "gvc", "gnvc-vd")  # what our codecs' names begin with
COLUMNS = ("codec", "sequence", "frames", "width", "height", "level", "bytes", "bpp", "kbps")
TIMES = ("encode_seconds", "decode_seconds", "commit", "machine")
BLOCK = re.compile(r"(<!-- (?!end)(\w+) ([^\n]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
OVERLAP = 0.1  # of a range, that two curves must both cover


@dataclass(frozen=True)
class Release:
    """The points of one file."""

    name: str
    rows: list[Row]
    metrics: tuple[str, ...]

    def of(self, codecs: Sequence[str]) -> list[Row]:
        names = list(dict.fromkeys(row.codec for row in self.rows))
        strange = set(codecs) - set(names)
        require(not strange, f"{self.name}.csv has no {', '.join(sorted(strange))}; it has {', '.join(names)}")
        return [row for row in self.rows if row.codec in codecs]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    add_parser = verbs.add_parser("add", help="keep an evaluation's points")
    add_parser.add_argument("evaluation", type=Path, help="its folder")
    add_parser.add_argument("name", help="of the file")
    verbs.add_parser("draw", help="write the docs' tables and pictures anew")
    arguments = parser.parse_args(argv)
    try:
        if arguments.verb == "add":
            print(add(arguments.evaluation, arguments.name))
        else:
            for path in draw():
                print(path)
    except GnvcError as error:
        print(f"results: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def add(evaluation: Path, name: str, folder: Path = FOLDER / __version__) -> Path:
    points = _points(evaluation)
    for run in sorted(evaluation.glob(f"*/{SEED}*")):
        points += [replace(one, codec=f"{run.parent.name}/{run.name}") for one in _points(run)]
    require(bool(points), f"{evaluation}: no points there")
    write_text(folder / f"{name}.csv", as_csv(points))
    return folder / f"{name}.csv"


def _points(evaluation: Path) -> list[Point]:
    each = [read_point(path) for path in sorted(evaluation.glob("points/*/*/*.json"))]
    return [point for point in each if point is not None]


def as_csv(points: Sequence[Point]) -> str:
    """Metrics that all points have, unrounded; seconds to 1 ms."""
    metrics = [name for name in ALL_METRICS if all(name in point.asked for point in points)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *metrics, *TIMES])
    for point in points:
        seconds = f"{point.encode_seconds:.3f}", f"{point.decode_seconds:.3f}"
        where = point.environment.get("commit", ""), point.environment.get("processor", "")
        measured = [point.figures[name] for name in metrics]
        writer.writerow([*(getattr(point, name) for name in COLUMNS), *measured, *seconds, *where])
    return out.getvalue()


def read(path: Path) -> Release:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        metrics = tuple(name for name in lines[0] if name in ALL_METRICS)
        rows = [_row(line, metrics) for line in lines]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise GnvcError(f"{path}: not a file of rate–distortion points ({error!r})") from error
    return Release(path.stem, with_means(rows), metrics)


def _row(line: Mapping[str, str], metrics: Sequence[str]) -> Row:
    figures = {name: float(line[name]) if line[name] else None for name in metrics}
    size, rate = (int(line["level"]), int(line["bytes"])), (float(line["bpp"]), float(line["kbps"]))
    return Row(line["codec"], line["sequence"], *size, *rate, figures)


def draw(folder: Path = FOLDER / __version__) -> list[Path]:
    """Every page with marked tables, and the pictures that a page shows of a file's measures; what was written."""
    releases = {path.stem: read(path) for path in sorted(folder.glob("*.csv"))}
    pages = [ROOT / name for name in PAGES if (ROOT / name).is_file()]
    for page in pages:
        write_text(page, redrawn(page.read_text(encoding="utf-8"), releases))
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    pictures = []
    for name, release in releases.items():
        ours = [codec for codec in dict.fromkeys(row.codec for row in release.rows) if codec.startswith(OURS)]
        metrics = [metric for metric in release.metrics if f"/{name}-{metric}.png)" in text]
        plot_metrics(release.rows, metrics, name, ours, folder, prefix=f"{name}-", suffixes=("png",))
        pictures += [folder / f"{name}-{metric}.png" for metric in metrics]
    return pages + pictures


def redrawn(text: str, releases: dict[str, Release]) -> str:
    """A page with its marked tables anew."""

    def block(match: re.Match[str]) -> str:
        kind, words = match[2], match[3].split()
        require(kind in TABLES, f"there is no table {kind!r}; there are {', '.join(TABLES)}")
        require(bool(words) and words[0] in releases, f"{match[1].strip()}: no such file of points")
        wanted = [name.upper() for name in list(inspect.signature(TABLES[kind]).parameters)[1:]]
        said = f"{match[1].strip()}: {kind} NAME is followed by {' '.join(wanted)}"
        require(len(words) == 1 + len(wanted), said)
        table = TABLES[kind](releases[words[0]], *words[1:])
        return f"{match[1]}{_lines(table)}\n{match[4]}" if table.rows else f"{match[1]}{match[4]}"

    return BLOCK.sub(block, text)


def rates(release: Release, sequence: str, metrics: str, codecs: str) -> Table:
    return tables.rate_table(release.of(codecs.split(",")), sequence, metrics.split(","))


def rate_differences(release: Release, anchor: str, metrics: str, codecs: str) -> Table:
    names = metrics.split(",")
    bd_rates = differences(release.of([anchor, *codecs.split(",")]), anchor, names, OVERLAP)
    return tables.difference_tables(bd_rates, anchor, OF_SEQUENCES, names)[0]


def at_rates(release: Release, sequence: str, anchor: str, most: str, metrics: str, codec: str) -> Table:
    names = metrics.split(",")
    own = [row for row in release.of([codec]) if row.sequence == sequence]
    lowest, highest = (choose(row.bpp for row in own) for choose in (min, max))
    cells = []
    for row in sorted(release.of([anchor]), key=lambda row: row.bpp):
        if row.sequence != sequence or row.bpp > float(most) or not lowest <= row.bpp <= highest:
            continue
        pairs = []
        for name in names:
            theirs, mine = row.figures[name], figure_at(own, row.bpp, name)
            assert theirs is not None
            ahead = (mine > theirs) != ALL_METRICS[name].lower_is_better
            pairs.append(f"{'**' if ahead else ''}{mine:.4g}{'**' if ahead else ''} / {theirs:.4g}")
        cells.append((f"{row.bpp:.5f}", *pairs))
    return Table(
        f"{codec} / {anchor} at equal rate", ("bpp", *(ALL_METRICS[name].label for name in names)), tuple(cells)
    )


def figure_at(rows: Sequence[Row], bpp: float, metric: str) -> float:
    """A curve's figure at a rate: linear in the logarithm of the rate between its two nearest points."""
    ordered = sorted(rows, key=lambda row: row.bpp)
    values = [row.figures[metric] for row in ordered]
    assert None not in values
    return float(np.interp(math.log(bpp), [math.log(row.bpp) for row in ordered], values))  # type: ignore[arg-type]


def spread(release: Release, sequence: str, anchor: str, metrics: str) -> Table:
    runs: dict[str, list[tuple[Row, ...]]] = {}
    for name in dict.fromkeys(row.codec for row in release.rows):
        runs.setdefault(name.partition("/")[0], []).append(tuple(release.of([name])))
    require(anchor in runs, f"{release.name}.csv has no {anchor}; it has {', '.join(runs)}")
    alike = {name: [tuple(replace(row, codec=name) for row in run) for run in own] for name, own in runs.items()}
    variants = [Variant(name, mean_of_runs(own), frozenset(), tuple(own)) for name, own in alike.items()]
    (table,) = spread_tables(variants, anchor, sequence, metrics.split(","))
    return table


TABLES: dict[str, Callable[..., Table]] = {
    "rates": rates,
    "differences": rate_differences,
    "at": at_rates,
    "spread": spread,
}


def _lines(table: Table) -> str:
    """Without its title, which the page has in its own words."""
    return tables.as_markdown([table]).partition("\n\n")[2].rstrip("\n")


if __name__ == "__main__":
    raise SystemExit(main())
