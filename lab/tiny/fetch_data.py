"""The material that `tiny` is trained on, out of Debian's packages: python -m lab.tiny.fetch_data FOLDER

Needs a Debian system with network, or --debs with packages that were fetched before; nothing is installed. Which files
of which package are used, under which licence and with which sha256, is in lab/tiny/data.json; others are refused.

    FOLDER/photos/*.jpg, *.png, manifest.jsonl      photographs, the larger ones shrunk to 1920 pixels
    FOLDER/clips/*.avi, *.mp4, manifest.jsonl       videos, whose last 15 % are for validation
    FOLDER/SOURCES.json, SOURCES.md                 what lies there and whose it is

Started again, it goes on with the packages that are missing.
"""

import argparse
import dataclasses
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate
from tqdm import tqdm

from gnvc_vd.common import strict
from gnvc_vd.common.files import file_sha256, replacing
from gnvc_vd.conventions import Frame, GnvcError
from gnvc_vd.data.manifests import PHOTO_SUFFIXES, Entry, relative, scan, write_manifest
from gnvc_vd.video.pictures import read_picture

LIST = Path(__file__).with_name("data.json")
LONGEST_SIDE = 1920
QUALITY = 95  # of JPEG files that are written, without chroma subsampling
MAX_MEMBER = 1 << 28  # bytes
PHOTOS_HELD_OUT = 0.06
CLIPS_HELD_OUT, FEWEST_HELD_OUT = 0.15, 25  # part and frames at the end of each clip


@dataclass(frozen=True)
class Material:
    """One file of a package, and what it is called here."""

    path: str  # in the package; .gz is unpacked
    name: str
    sha256: str
    licence: str | None = None  # where it is not the package's
    credit: str | None = None

    def __post_init__(self) -> None:
        if not relative(self.path) or not relative(self.name) or "/" in self.name:
            raise ValueError(f"{self.name[:80]!r} is not a file name, or its path is not a relative one")

    @property
    def is_photo(self) -> bool:
        return Path(self.name).suffix in PHOTO_SUFFIXES

    def below(self, folder: Path) -> Path:
        return folder / ("photos" if self.is_photo else "clips") / self.name


@dataclass(frozen=True)
class Package:
    """What is used of a Debian package; `version` is the one that the list was made from."""

    package: str
    version: str
    licence: str
    credit: str
    files: tuple[Material, ...]


@dataclass(frozen=True)
class Listed:
    format: int
    packages: tuple[Package, ...]

    def __post_init__(self) -> None:
        names = [file.name for package in self.packages for file in package.files]
        if len(set(names)) < len(names):
            raise ValueError("two files have one name")


@dataclass(frozen=True)
class Made:
    """A file that lies here, and the one that it was made of."""

    source: str  # sha256
    sha256: str


@dataclass(frozen=True)
class State:
    """SOURCES.json."""

    made: dict[str, Made]  # by name


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--debs", type=Path, metavar="FOLDER", help="of packages that are there already")
    parser.add_argument("--list", type=Path, default=LIST, metavar="FILE", help="another list of the same form")
    arguments = parser.parse_args(argv)
    try:
        packages = strict.parse(Listed, strict.read_object(arguments.list), arguments.list.name).packages
        rebuild(packages, arguments.folder, arguments.debs)
        photos, clips = write_manifests(arguments.folder, [file for one in packages for file in one.files])
    except GnvcError as error:
        print(f"fetch_data: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"fetch_data: {error.filename or arguments.folder}: {error.strerror}", file=sys.stderr)
        return 1
    pixels = sum(entry.width * entry.height for entry in photos) / 1e6
    print(f"{arguments.folder}: {len(photos)} photographs of {pixels:.0f} megapixels together, {len(clips) // 2} clips")
    return 0


def rebuild(packages: tuple[Package, ...], folder: Path, debs: Path | None) -> None:
    """Bring every file that is not here yet."""
    for part in ("photos", "clips"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    known = folder / "SOURCES.json"
    made = dict(strict.parse(State, strict.read_object(known), "SOURCES.json").made) if known.exists() else {}
    made = {name: one for name, one in made.items() if _is_whole(name, one, packages, folder)}
    with tqdm(total=sum(len(one.files) for one in packages), desc="files", unit="file", disable=None) as progress:
        for package in packages:
            wanted = [file for file in package.files if file.name not in made]
            progress.update(len(package.files) - len(wanted))
            if wanted:
                with tempfile.TemporaryDirectory() as beside:
                    for file, data in contents(found(package, debs, Path(beside)), package, wanted):
                        made[file.name] = keep(file, data, folder)
                        progress.update()
                with replacing(known) as part_path:
                    part_path.write_text(json.dumps(dataclasses.asdict(State(made)), indent=1), encoding="utf-8")
    with replacing(folder / "SOURCES.md") as part_path:
        part_path.write_text(credits_of(packages), encoding="utf-8")


def _is_whole(name: str, one: Made, packages: tuple[Package, ...], folder: Path) -> bool:
    file = next((file for package in packages for file in package.files if file.name == name), None)
    if file is None or file.sha256 != one.source or not file.below(folder).is_file():
        return False
    return file_sha256(file.below(folder)) == one.sha256


def found(package: Package, debs: Path | None, beside: Path) -> Path:
    """The package's file: one that was there before, or one that apt-get brings."""
    if debs is None:
        if shutil.which("apt-get") is None:
            raise GnvcError("there is no apt-get: fetch the packages on a Debian system and name their folder (--debs)")
        asked = subprocess.run(
            ["apt-get", "download", package.package], cwd=beside, capture_output=True, text=True, check=False
        )
        if asked.returncode:
            said = ([line for line in asked.stderr.splitlines() if line.startswith("E: ")] or ["no reason given"])[-1]
            raise GnvcError(
                f"apt-get cannot download {package.package} ({said.removeprefix('E: ')}); apt-get update may help"
            )
    matches = sorted((debs or beside).glob(f"{package.package}_*.deb"))
    if not matches:
        raise GnvcError(f"{debs or beside}: no package {package.package}_*.deb")
    exact = [path for path in matches if _version(path) == package.version]
    return (exact or matches)[0]


def contents(deb: Path, package: Package, wanted: list[Material]) -> Iterator[tuple[Material, bytes]]:
    """The files that are wanted, each compared with the list."""
    missing = {file.path: file for file in wanted}
    differs = f"{package.package} {_version(deb)}; the list is of version {package.version}"
    try:
        with deb.open("rb") as stream:
            _seek_data(stream, deb)
            with tarfile.open(fileobj=stream, mode="r|*") as archive:
                for member in archive:
                    file = missing.get(member.name.removeprefix("./"))
                    if file is None or not member.isfile() or member.size > MAX_MEMBER:
                        continue
                    reader = archive.extractfile(member)
                    assert reader is not None
                    data = reader.read()
                    if hashlib.sha256(data).hexdigest() != file.sha256:
                        raise GnvcError(f"{file.path} has another sha256 in {differs}")
                    del missing[file.path]
                    yield file, data
    except tarfile.TarError as error:
        raise GnvcError(f"{deb}: damaged or cut") from error
    if missing:
        raise GnvcError(f"{next(iter(missing))} is not in {differs}")


def _version(deb: Path) -> str:
    parts = deb.name.split("_")
    return parts[1].replace("%3a", ":") if len(parts) > 2 else "of an unknown version"


def _seek_data(stream: BinaryIO, deb: Path) -> None:
    """To data.tar in a package, which is an ar archive: 60-byte headers, each before its file, padded to even."""
    if stream.read(8) != b"!<arch>\n":
        raise GnvcError(f"{deb}: not a Debian package")
    while len(header := stream.read(60)) == 60:
        size = header[48:58].strip()
        if header[58:] != b"`\n" or not size.isdigit():
            break
        if header.startswith(b"data.tar"):
            return
        stream.seek(int(size) + int(size) % 2, 1)
    raise GnvcError(f"{deb}: damaged, or no data.tar in it")


def keep(file: Material, data: bytes, folder: Path) -> Made:
    """Write a file as training reads it."""
    target = file.below(folder)
    with replacing(target) as part:
        part.write_bytes(gzip.decompress(data) if file.path.endswith(".gz") else data)
        if file.is_photo:
            picture = read_picture(part)
            if max(picture.shape) > LONGEST_SIDE:
                part.write_bytes(_encoded(shrunk(picture), target.suffix))
        digest = file_sha256(part)
    return Made(file.sha256, digest)


def shrunk(picture: Frame) -> Frame:
    """H W 3 to a longest side of LONGEST_SIDE, each pixel a weighted average: what an earlier JPEG left goes too."""
    scale = LONGEST_SIDE / max(picture.shape)
    size = [round(side * scale) for side in picture.shape[:2]]
    planes = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    small = interpolate(planes, size, mode="bicubic", antialias=True)[0].round().clamp(0, 255)
    return np.ascontiguousarray(small.permute(1, 2, 0).byte().numpy())


def _encoded(picture: Frame, suffix: str) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(suffix, picture[..., ::-1], options)
    if not done:
        raise GnvcError(f"a picture could not be written as {suffix}")
    return data.tobytes()


def write_manifests(folder: Path, files: list[Material]) -> tuple[list[Entry], list[Entry]]:
    """Photographs are held out by their names, clips by their last frames."""
    photos: list[Entry] = []
    clips: list[Entry] = []
    for file in sorted(files, key=lambda file: file.name):
        if file.is_photo:
            photos += scan(folder / "photos", file.name, "photos", PHOTOS_HELD_OUT, with_hash=True)
        else:
            clips += held_out_at_its_end(scan(folder / "clips", file.name, "videos", 0, with_hash=True)[0])
    write_manifest(folder / "photos" / "manifest.jsonl", "photos", photos)
    write_manifest(folder / "clips" / "manifest.jsonl", "videos", clips)
    return photos, clips


def held_out_at_its_end(clip: Entry) -> list[Entry]:
    last = max(FEWEST_HELD_OUT, round(CLIPS_HELD_OUT * clip.frames))
    if last >= clip.frames:
        raise GnvcError(f"{clip.path}: {clip.frames} frames, of which {last} would be for validation")
    return [
        dataclasses.replace(clip, frames=clip.frames - last),
        dataclasses.replace(clip, start=clip.frames - last, frames=last, split="validation"),
    ]


def credits_of(packages: tuple[Package, ...]) -> str:
    """Whose work it is, for people: SOURCES.md."""
    lines = [
        "# Sources",
        "",
        "Files of Debian packages, larger photographs shrunk. Licences are as the packages state them.",
    ]
    for package in packages:
        lines += ["", f"## {package.package} {package.version}", "", f"{package.licence}; {package.credit}", ""]
        for file in package.files:
            own = "; ".join(said for said in (file.licence, file.credit) if said)
            lines.append(f"- {file.name}{f' ({own})' if own else ''}: {file.path}, sha256 {file.sha256}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
