"""What papers printed, as data to be set beside our own figures; never mixed with them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from gnvc_vd.baselines.external import read_points
from gnvc_vd.common import strict
from gnvc_vd.conventions import UsageError
from gnvc_vd.evaluate.test_sets import ASSETS

FOLDER = ASSETS / "published"
PAPERS = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


@dataclass(frozen=True)
class Table:
    """A table as its paper has it; every row has a cell for each column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row of {self.title!r} has not {len(self.columns)} cells")


@dataclass(frozen=True)
class PublishedPoint:
    """A rate point; `bpp_printed` is the paper's own figure where it counts otherwise.

    Points of one codec at one level are of one setting; None is a level of its own.
    """

    codec: str
    set: str
    sequence: str
    width: int
    height: int
    bpp: float
    figures: dict[str, float]
    bpp_printed: float | None = None
    level: int | None = None


@dataclass(frozen=True)
class Paper:
    """A paper's figures, and what one must know of them."""

    format: int
    title: str
    source: str
    notes: tuple[str, ...]
    tables: tuple[Table, ...]
    points: tuple[PublishedPoint, ...]


def read_paper(name: str) -> Paper:
    if name not in PAPERS:
        raise UsageError(f"no published figures are called {name!r}; there are {', '.join(PAPERS)}")
    return strict.parse(Paper, strict.read_object(FOLDER / f"{name}.json"), name)


def points_of(file: Path, title: str, width: int, height: int) -> list[PublishedPoint]:
    """A file of rate points that somebody published, named after the file; its sets by the names of our manifests."""
    return [
        PublishedPoint(
            title,
            _as_ours(name),
            point.sequence.split("_")[0],
            width,
            height,
            point.bpp,
            point.figures,
            level=point.level,
        )
        for name, points in read_points(file).items()
        for point in points
    ]


def mean_points(points: Sequence[PublishedPoint], sequences: Sequence[str], name: str) -> list[PublishedPoint]:
    """Under that name, the means over these sequences; of codecs and levels that have a point for every one."""
    settings = dict.fromkeys((one.codec, one.level) for one in points)
    groups = [[one for one in points if (one.codec, one.level) == setting] for setting in settings]
    return [_mean(own, name) for own in groups if sorted(one.sequence for one in own) == sorted(sequences)]


def _mean(own: Sequence[PublishedPoint], name: str) -> PublishedPoint:
    shared = [key for key in own[0].figures if all(key in one.figures for one in own)]
    printed = [one.bpp_printed for one in own if one.bpp_printed is not None]
    return replace(
        own[0],
        sequence=name,
        bpp=fmean(one.bpp for one in own),
        figures={key: fmean(one.figures[key] for one in own) for key in shared},
        bpp_printed=fmean(printed) if len(printed) == len(own) else None,
    )


def _as_ours(name: str) -> str:
    return name.lower().replace("_", "-")
