"""Manifests, which list a folder's training material in JSON lines, parsed strictly.

    {"format": 1, "kind": "videos"}
    {"path": "a/film.mp4", "start": 0, "frames": 240, "width": 1280, "height": 720, "fps": 25.0, "split": "train"}
    …

Paths are relative to the manifest's own folder and never lead out of it. An entry is a whole film, a run of its frames
(a scene), or a photograph.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Literal

from gnvc_vd.common import strict
from gnvc_vd.common.files import file_sha256, replacing
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import MAX_SIDE, GnvcError, UsageError
from gnvc_vd.video import VideoError, open_video
from gnvc_vd.video.pictures import read_picture
from gnvc_vd.video.scenes import scenes
from gnvc_vd.video.seeking import index_film

Kind = Literal["videos", "photos"]
FORMAT = 1
MAX_MANIFEST = 1 << 30  # bytes
MAX_LINE = 1 << 13
SPLITS = ("train", "validation")
SHORTEST_SCENE = 9  # frames; shorter scenes are left out
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".y4m"})
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True)
class Header:
    """A manifest's first line."""

    format: int
    kind: str


@dataclass(frozen=True)
class Entry:
    """One film, scene or photograph; sizes are 0 if they are not known."""

    path: str
    start: int = 0
    frames: int = 0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    split: str = "train"
    sha256: str | None = None

    def __post_init__(self) -> None:
        require(relative(self.path), f"path {self.path[:80]!r} is not a relative path inside the folder", ValueError)
        if min(self.start, self.frames, self.width, self.height, self.fps) < 0:
            raise ValueError("a size or count is negative")
        if max(self.width, self.height) > MAX_SIDE:
            raise ValueError(f"{self.width}×{self.height}: a side is more than {MAX_SIDE} pixels")
        require(self.split in SPLITS, f"split {self.split[:20]!r} is neither of {', '.join(SPLITS)}", ValueError)
        if self.sha256 is not None and (len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef")):
            raise ValueError("sha256 is not 64 lower-case hexadecimal digits")

    @property
    def name(self) -> str:
        """A unique name of the entry."""
        return f"{self.path}[{self.start}:{self.start + self.frames}]" if self.start else self.path


def relative(path: str) -> bool:
    """Whether a path is relative and has no part that leads out of its folder."""
    pure = PurePosixPath(path)
    drive = bool(pure.parts) and ":" in pure.parts[0]
    inward = bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts
    return inward and not drive and "\\" not in path and path.isprintable()


def inside(root: Path, path: str) -> Path:
    """The path of a file in the folder `root`; raises VideoError if it lies outside, links followed."""
    if not relative(path) or not (root / path).resolve().is_relative_to(root.resolve()):
        raise VideoError(f"{path[:80]!r} lies outside {root}")
    return root / path


def read_manifest(path: Path, kind: Kind, split: str | None = None) -> list[Entry]:
    """Read the entries of a manifest, of one split or of all."""
    header, lines = open_manifest(path)
    if header.format != FORMAT or header.kind != kind:
        raise GnvcError(f"{path}: format {header.format} of {header.kind!r}, not format {FORMAT} of {kind!r}")
    entries = [strict.parse(Entry, data, f"{path} line {number}") for number, data in enumerate(lines, 2)]
    return [entry for entry in entries if split is None or entry.split == split]


def entries_of(source: Path, kind: Kind, split: str | None) -> tuple[Path, list[Entry]]:
    """The root and the entries of a manifest or a folder; all files of a folder are of the split "train"."""
    if source.is_dir():
        if split not in (None, "train"):
            raise UsageError(f"{source}: a folder has no split {split!r}; make a manifest (scripts/prepare_data.py)")
        root, entries = source, [Entry(path) for path in candidates(source, kind) if relative(path)]
    else:
        root, entries = source.parent, read_manifest(source, kind, split)
    require(entries, f"{source}: no {kind} there" + ("" if split is None else f" for the split {split!r}"), GnvcError)
    return root, entries


def write_manifest(path: Path, kind: Kind, entries: Iterable[Entry]) -> None:
    with replacing(path) as part, part.open("w", encoding="utf-8") as out:
        out.write(json.dumps(dataclasses.asdict(Header(FORMAT, kind))) + "\n")
        for entry in entries:
            plain = {name: value for name, value in dataclasses.asdict(entry).items() if value is not None}
            out.write(json.dumps(plain, ensure_ascii=False) + "\n")


def split_of(path: str, validation: float) -> str:
    """The split of a file, by its path alone, so that it stays when files are added and is the same for all scenes."""
    part = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8]) / 2**64
    return "validation" if part < validation else "train"


def candidates(folder: Path, kind: Kind) -> list[str]:
    """The files of a kind in a folder, searched recursively, sorted by name."""
    require(folder.is_dir(), f"{folder}: no such folder", GnvcError)
    suffixes = VIDEO_SUFFIXES if kind == "videos" else PHOTO_SUFFIXES
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def scan(
    root: Path, path: str, kind: Kind, validation: float,
    with_hash: bool = False, by_scene: bool = False, whole: bool = False,
) -> list[Entry]:  # fmt: skip
    """Make the entry of a file, or one for each scene of a film.

    Args:
        whole: decode a film completely, to find any damage; implied by `by_scene`. Photographs are always decoded.
    """
    file = inside(root, path)
    if kind == "photos":
        height, width = read_picture(file).shape[:2]
        rate, runs = 0.0, [(0, 1)]
    else:
        index = index_film(file)
        height, width, rate, runs = index.height, index.width, index.rate, [(0, index.frames)]
        if by_scene or whole:
            with open_video(file) as video:
                lengths = [sum(1 for _ in scene) for scene in (scenes(video) if by_scene else [iter(video)])]
            runs = list(zip(accumulate([0, *lengths]), lengths, strict=False))
        if by_scene:
            runs = [(start, frames) for start, frames in runs if frames >= SHORTEST_SCENE]
    digest, split = file_sha256(file) if with_hash else None, split_of(path, validation)
    return [Entry(path, start, frames, width, height, round(rate, 6), split, digest) for start, frames in runs]


def open_manifest(path: Path) -> tuple[Header, Iterator[object]]:
    """Open a manifest: its header, and an iterator over the entries as plain data."""
    require(path.is_file(), f"{path}: missing", GnvcError)
    require(path.stat().st_size <= MAX_MANIFEST, f"{path}: too large to be a manifest", GnvcError)
    lines = _lines(path)
    return strict.parse(Header, next(lines, None), f"{path} line 1"), lines


def _lines(path: Path) -> Iterator[object]:
    with path.open("rb") as stream:
        for number, line in enumerate(iter(partial(stream.readline, MAX_LINE + 1), b""), 1):
            require(len(line) <= MAX_LINE, f"{path} line {number}: too long for an entry", GnvcError)
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise GnvcError(f"{path} line {number}: not JSON ({error})") from error
