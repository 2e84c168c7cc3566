"""Published figures of papers, as data beside our own figures, and never mixed with them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from gnvc_vd.common.strict import parse, read_object, require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.evaluate.test_sets import ASSETS
from gnvc_vd.report.curves import mean_of_all
from gnvc_vd.report.tables import Table

FOLDER = ASSETS / "published"
PAPERS = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
DCVC_FIGURES = {"psnr_yuv": "ave_all_frame_psnr", "ms_ssim_yuv": "ave_all_frame_msssim"}


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

    @property
    def label(self) -> str:
        return f"{self.codec} (published)"


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
    require(name in PAPERS, f"no published figures are called {name!r}; there are {', '.join(PAPERS)}")
    return parse(Paper, read_object(FOLDER / f"{name}.json"), name)


def published_tables(paper: Paper) -> list[Table]:
    """A paper's own; each says where it comes from, the last what must be known of all."""
    source = f"Printed in {paper.source}; not measured here."
    notes = [(*one.notes, source) for one in paper.tables]
    notes[-1:] = [(*one, *paper.notes) for one in notes[-1:]]
    return [
        replace(one, title=f"{paper.title}, published: {one.title}", notes=said, group=f"{paper.title}, published")
        for one, said in zip(paper.tables, notes, strict=True)
    ]


def points_of(file: Path, title: str, width: int, height: int) -> list[PublishedPoint]:
    """The points in a file as microsoft/DCVC publishes VTM's: data set → sequence → point → figures.

    Sets get the names of our manifests. Its PSNR on YUV weighs 6:1:1 as ours does; its MS-SSIM is of Y, U and V with
    these weights, under another name.
    """

    def point_of(data_set: str, sequence: str, key: str, told: Mapping[str, Any]) -> PublishedPoint:
        figures = {ours: float(told[theirs]) for ours, theirs in DCVC_FIGURES.items() if told.get(theirs)}
        bpp = float(told["ave_all_frame_bpp"])
        require(bpp > 0 and all(map(math.isfinite, (bpp, *figures.values()))), f"{sequence} {key}", ValueError)
        ours = data_set.lower().replace("_", "-"), Path(sequence).stem.split("_")[0]
        return PublishedPoint(title, *ours, width, height, bpp, figures, level=int(told.get("qp", key)))

    try:
        return [
            point_of(data_set, sequence, key, point)
            for data_set, sequences in cast(Mapping[str, Any], read_object(file)).items()
            for sequence, points in sequences.items()
            for key, point in points.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise GnvcError(f"{file}: no rate points as data set → sequence → point ({error!r})") from error


def mean_points(points: Sequence[PublishedPoint], sequences: Sequence[str], name: str) -> list[PublishedPoint]:
    """Under that name, the means over these sequences; of codecs and levels that have a point for every one."""
    settings = dict.fromkeys((one.codec, one.level) for one in points)
    groups = [[one for one in points if (one.codec, one.level) == setting] for setting in settings]
    return [_mean(own, name) for own in groups if sorted(one.sequence for one in own) == sorted(sequences)]


def _mean(own: Sequence[PublishedPoint], name: str) -> PublishedPoint:
    shared = [key for key in own[0].figures if all(key in one.figures for one in own)]
    return replace(
        own[0],
        sequence=name,
        bpp=fmean(one.bpp for one in own),
        figures={key: fmean(one.figures[key] for one in own) for key in shared},
        bpp_printed=mean_of_all(one.bpp_printed for one in own),
    )
