"""What papers printed, as data to be set beside our own figures; never mixed with them."""

from dataclasses import dataclass
from pathlib import Path

from gnvc_vd import strict
from gnvc_vd.baselines.external import read_points
from gnvc_vd.conventions import UsageError
from gnvc_vd.evaluate.manifests import ASSETS

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
    """A rate point; `bpp_printed` is the paper's own figure where it counts otherwise."""

    codec: str
    set: str
    sequence: str
    width: int
    height: int
    bpp: float
    figures: dict[str, float]
    bpp_printed: float | None = None


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
        PublishedPoint(title, _as_ours(name), point.sequence.split("_")[0], width, height, point.bpp, point.figures)
        for name, points in read_points(file).items()
        for point in points
    ]


def _as_ours(name: str) -> str:
    return name.lower().replace("_", "-")
