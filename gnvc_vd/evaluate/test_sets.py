"""Test sets: manifests of sequences, the number of frames to use, and the formats of raw files."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast, get_args

from gnvc_vd.baselines.commands import Clip
from gnvc_vd.bitstream.gop import check_gop
from gnvc_vd.common.files import file_sha256
from gnvc_vd.common.strict import parse, read_object, require
from gnvc_vd.conventions import Colour, ColourRange, GnvcError, Matrix
from gnvc_vd.data.manifests import inside
from gnvc_vd.video import RawVideo
from gnvc_vd.video.reader import RawFormat, is_raw

ASSETS = Path(__file__).parents[1] / "assets"
SHIPPED = tuple(sorted(path.stem for path in (ASSETS / "manifests").glob("*.json")))
CLIPS = ASSETS / "clips"  # where the manifest "small" has its files
FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Sequence:
    """One video of a test set; `frames` is the number of frames in its file."""

    name: str
    file: str
    width: int
    height: int
    rate: str
    frames: int
    pixel_format: str = "yuv420p"
    matrix: str = "bt709"
    range: str = "limited"
    sha256: str | None = None

    def __post_init__(self) -> None:
        for value, kind in ((self.pixel_format, RawFormat), (self.matrix, Matrix), (self.range, ColourRange)):
            require(value in get_args(kind), f"{value!r} is none of {', '.join(get_args(kind))}", ValueError)
        positive = Fraction(self.rate) > 0 and min(self.width, self.height, self.frames) > 0
        require(positive, f"{self.name}: sizes, rate and frames are positive", ValueError)

    @property
    def colour(self) -> Colour:
        return Colour(cast(Matrix, self.matrix), cast(ColourRange, self.range))

    @property
    def raw(self) -> RawVideo | None:
        """Size, rate and format of a raw file; None for files with a header."""
        return self.clip(self.frames).raw if is_raw(self.file) else None

    def clip(self, frames: int) -> Clip:
        frames = min(frames, self.frames)
        return Clip(self.width, self.height, frames, Fraction(self.rate), self.colour, self.pixel_format)


@dataclass(frozen=True)
class Manifest:
    """A test set and its protocol: the first `frames` of each sequence, in GOPs of `gop`."""

    format: int
    title: str
    home: str
    licence: str
    frames: int
    gop: int
    sequences: tuple[Sequence, ...]
    checksums: str = ""  # where the owners publish checksums, or who was asked for them

    def __post_init__(self) -> None:
        require(self.format == FORMAT, f"format {self.format} is not {FORMAT}", ValueError)
        check_gop(self.gop)
        names = [one.name for one in self.sequences]
        require(names and len(set(names)) == len(names), "every sequence has a name of its own", ValueError)
        require("mean" not in names, "no sequence is called mean, which is the name of the average", ValueError)
        rule = "names of sequences are letters, digits, - and _, as they name files and folders"
        require(all(map(NAME.fullmatch, names)), rule, ValueError)


def read_manifest(name: str) -> Manifest:
    """Read a manifest of the package by its name, or any manifest by its path."""
    path = ASSETS / "manifests" / f"{name}.json" if name in SHIPPED else Path(name)
    there = f"there are {', '.join(SHIPPED)}, or the path of a .json file"
    require(path.is_file(), f"there is no manifest {name!r}; {there}", GnvcError)
    return parse(Manifest, read_object(path), str(path))


def path_of_film(sequence: Sequence, root: Path) -> Path:
    """Path of a sequence's file, which must exist."""
    path = inside(root, sequence.file)
    require(path.is_file(), f"{path}: missing; give the folder that holds it with root=FOLDER", GnvcError)
    return path


def film_of(sequence: Sequence, root: Path) -> tuple[Path, str]:
    """Path of a sequence's file and its sha256, which must be the manifest's, if that has one."""
    path = path_of_film(sequence, root)
    digest = file_sha256(path)
    if sequence.sha256 not in (None, digest):
        raise GnvcError(f"{path} is not the manifest's file: its sha256 begins with {digest[:12]}")
    return path, digest
