"""Packages of Debian, of Python and of npm: brought by their ordinary clients, read as plain archives, installed never.

    Package ──client, or a folder──▶ archive ──members──▶ files that are wanted, each compared with its sha256

A Python source package is asked for by the hash of its archive too: pip runs its build to learn what it is called.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Literal

from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.data.manifests import PHOTO_SUFFIXES, relative

Kind = Literal["debian", "wheel", "sdist", "npm"]
ENDINGS = {"debian": ".deb", "wheel": ".whl", "sdist": ".tar.gz", "npm": ".tgz"}
REQUIREMENTS = "requirements.txt"
COMPLAINTS = ("E: ", "ERROR: ", "npm error ", "npm ERR! ")
MAX_MEMBER = 1 << 28  # bytes
JPEG, JPEG_END, RIFF, WEBP = b"\xff\xd8\xff", b"\xff\xd9", b"RIFF", b"WEBP"
MOST_ENDS = 8  # that a JPEG file may hold: its own, and those of small copies inside it


@dataclass(frozen=True)
class Cut:
    """What is taken of a film, which is then written anew as H.264, its short side no longer than SHORT_SIDE."""

    start: int = 0
    frames: int = 0  # at most; 0 is all to the end
    stride: int = 1
    rows: int = 0  # left out at the top and at the bottom
    columns: int = 0  # at the left and at the right
    wider: float = 1.0  # what the width is multiplied by, where pixels are not square
    rate: float = 0.0  # frames a second of what is written; 0 is the film's own

    def __post_init__(self) -> None:
        sizes = min(self.start, self.frames, self.rows, self.columns, self.rate) >= 0
        require(sizes and self.stride >= 1 and self.wider > 0, "a cut has sizes and a stride above 0", ValueError)


@dataclass(frozen=True)
class Material:
    """One file of a package, or several that are frames of a film, and what it is called here."""

    path: str  # in the package; .gz is unpacked, and of a film's frames, in the order of their names, it holds a *
    name: str
    sha256: str  # of the file; of all frames joined; of the picture `inside`
    licence: str | None = None  # where it is not the package's
    credit: str | None = None
    inside: str | None = None  # what a file that holds many pictures calls this one; it is told apart by its sha256
    cut: Cut | None = None  # None: the file as it is, but for its size

    def __post_init__(self) -> None:
        if not relative(self.path) or not relative(self.name) or "/" in self.name:
            raise ValueError(f"{self.name[:80]!r} is not a file name, or its path is not a relative one")
        require(not self.of_frames or self.cut, f"{self.name[:80]!r} is made of frames and has no cut", ValueError)

    @property
    def is_photo(self) -> bool:
        return Path(self.name).suffix in PHOTO_SUFFIXES

    @property
    def of_frames(self) -> bool:
        return "*" in self.path

    def below(self, folder: Path) -> Path:
        return folder / ("photos" if self.is_photo else "clips") / self.name

    def is_at(self, path: str) -> bool:
        return fnmatchcase(path, self.path) if self.of_frames else path == self.path


@dataclass(frozen=True)
class Package:
    """What is used of a package; `version` is the one that the list was made from."""

    package: str
    version: str
    licence: str
    credit: str
    files: tuple[Material, ...]
    kind: Kind = "debian"
    archive: str | None = None  # sha256 of a source package
    held_out: bool = True  # whether a part of it is for validation

    def __post_init__(self) -> None:
        if self.kind == "sdist" and not re.fullmatch("[0-9a-f]{64}", self.archive or ""):
            raise ValueError(f"{self.package}: a source package is known by the sha256 of its archive")

    @property
    def command(self) -> list[str]:
        """What brings the archive to the current folder, where REQUIREMENTS is what `requirements` says."""
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python"]
        exact = f"{self.package}=={self.version}"
        return {
            "debian": ["apt-get", "download", self.package],
            "wheel": [*pip, "--only-binary", ":all:", exact],
            "sdist": [*pip, "--no-binary", self.package, "--require-hashes", "--requirement", REQUIREMENTS],
            "npm": ["npm", "pack", "--ignore-scripts", f"{self.package}@{self.version}"],
        }[self.kind]

    @property
    def requirements(self) -> str:
        return f"{self.package}=={self.version} --hash=sha256:{self.archive}\n"


def found(package: Package, folder: Path | None, beside: Path) -> Path:
    """The package's file: one that was there before, or one that its client brings."""
    if folder is None:
        _bring(package, beside)
    there = sorted((folder or beside).glob(f"*{ENDINGS[package.kind]}"))
    matches = [path for path in there if _plain(_named(path)[0]) == _plain(package.package)]
    if not matches:
        raise GnvcError(f"{folder or beside}: no package {package.package} (*{ENDINGS[package.kind]})")
    exact = [path for path in matches if _named(path)[1] == package.version]
    return (exact or matches)[0]


def originals(archive: Path, package: Package, wanted: list[Material]) -> Iterator[tuple[Material, list[bytes]]]:
    """The files that are wanted, each compared with the list: one, or all frames of a film."""
    differs = f"{package.package} {_named(archive)[1]}; the list is of version {package.version}"
    missing = {file.name: file for file in wanted}
    frames: dict[str, dict[str, bytes]] = {file.name: {} for file in wanted if file.of_frames}
    for path, data in _members(archive, package.kind, lambda path: any(file.is_at(path) for file in wanted)):
        for file in [file for file in missing.values() if file.is_at(path)]:
            if file.of_frames:
                frames[file.name][path] = data
                continue
            del missing[file.name]
            yield file, [_check(file, data, differs)]
    for name, parts in frames.items():
        if parts:
            joined = [data for _, data in sorted(parts.items())]
            _check(missing[name], b"".join(joined), differs)
            yield missing.pop(name), joined
    if missing:
        raise GnvcError(f"{next(iter(missing.values())).path} is not in {differs}")


def _bring(package: Package, beside: Path) -> None:
    client = "pip" if package.command[0] == sys.executable else package.command[0]
    if shutil.which(package.command[0]) is None:
        raise GnvcError(
            f"there is no {client}: fetch the packages where there is one and name their folder (--packages)"
        )
    if package.archive:
        (beside / REQUIREMENTS).write_text(package.requirements, encoding="utf-8")
    asked = subprocess.run(package.command, cwd=beside, capture_output=True, text=True, check=False)
    if asked.returncode:
        lines = [line for line in asked.stderr.splitlines() if line.startswith(COMPLAINTS)]
        reason = next((lines[-1].removeprefix(one) for one in COMPLAINTS if lines and lines[-1].startswith(one)), None)
        advice = "; apt-get update may help" if package.kind == "debian" else ""
        raise GnvcError(f"{client} cannot download {package.package} ({reason or 'no reason given'}){advice}")


def _named(archive: Path) -> tuple[str, str]:
    """The name and the version that a package's file states."""
    name = next(archive.name.removesuffix(end) for end in ENDINGS.values() if archive.name.endswith(end))
    parts = name.split("_") if archive.suffix == ".deb" else name.rsplit("-", 1)
    if archive.suffix == ".whl":
        parts = name.split("-")
    return parts[0], parts[1].replace("%3a", ":") if len(parts) > 1 else "of an unknown version"


def _plain(name: str) -> str:
    """Without what registries write one way or another."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _members(archive: Path, kind: Kind, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Paths and contents of the regular files that are wanted, none of them larger than MAX_MEMBER."""
    try:
        if kind == "wheel":
            with zipfile.ZipFile(archive) as packed:
                for info in packed.infolist():
                    if wanted(info.filename) and info.file_size <= MAX_MEMBER:
                        yield info.filename, packed.read(info)
            return
        with archive.open("rb") as stream:
            if kind == "debian":
                _seek_data(stream, archive)
            with tarfile.open(fileobj=stream, mode="r|*") as files:
                for member in files:
                    path = member.name.removeprefix("./")
                    if wanted(path) and member.isfile() and member.size <= MAX_MEMBER:
                        reader = files.extractfile(member)
                        assert reader is not None
                        yield path, reader.read()
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise GnvcError(f"{archive}: damaged or cut") from error


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


def _check(file: Material, data: bytes, differs: str) -> bytes:
    """The file, or the picture inside it, if it is the one that the list means."""
    for candidate in [data] if file.inside is None else _pictures_in(data):
        if hashlib.sha256(candidate).hexdigest() == file.sha256:
            return candidate
    if file.inside is None:
        raise GnvcError(f"{file.path} has another sha256 in {differs}")
    raise GnvcError(f"no picture in {file.path} has the sha256 of {file.inside} in {differs}")


def _pictures_in(data: bytes) -> Iterator[bytes]:
    """Whatever looks like a JPEG or WebP file in a file of another form (Qt's .rcc, Enlightenment's .edj).

    A JPEG file's data hold no marker of a beginning or an end but those of the copies of itself that it may contain.
    """
    for match in re.finditer(re.escape(RIFF) + b"(....)" + WEBP, data, re.DOTALL):
        yield data[match.start() : match.start() + 8 + int.from_bytes(match[1], "little")]
    for match in re.finditer(re.escape(JPEG), data):
        end = match.start()
        for _ in range(MOST_ENDS):
            end = data.find(JPEG_END, end) + len(JPEG_END)
            if end < len(JPEG_END):
                break
            yield data[match.start() : end]
