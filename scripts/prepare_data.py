"""Make a manifest of a folder of videos or photographs: python scripts/prepare_data.py FOLDER

Writes FOLDER/manifest.jsonl, which training reads (docs/data.md). Broken files are printed and left out. A file's split
(training or validation) depends on its name alone, so it stays when files are added.

python scripts/prepare_data.py --check-set uvg FOLDER    checks the files of a test set, and writes nothing
"""

import argparse
import sys
from pathlib import Path

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

from tqdm import tqdm

from gnvc_vd.common.files import file_sha256
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.data.manifests import Entry, candidates, inside, scan, write_manifest
from gnvc_vd.evaluate.test_sets import Manifest, Sequence
from gnvc_vd.evaluate.test_sets import read_manifest as read_test_set
from gnvc_vd.video import open_video


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=["videos", "photos"], default="videos", help="kind of files (videos)")
    parser.add_argument(
        "--validation", type=float, default=0.02, metavar="PART", help="share of files for validation (0.02)"
    )
    parser.add_argument("--scenes", action="store_true", help="make an entry for each scene; decodes all files")
    parser.add_argument("--check", action="store_true", help="decode all files, to find any damage")
    parser.add_argument("--hash", action="store_true", help="store the sha256 of every file")
    parser.add_argument("--name", default="manifest.jsonl", help="file name of the manifest in the folder")
    parser.add_argument("--check-set", metavar="SET", help="a test set's name or manifest: only check its files")
    arguments = parser.parse_args()
    if not 0 <= arguments.validation < 1:
        parser.error("--validation is a share, from 0 to below 1")
    if Path(arguments.name).name != arguments.name:
        parser.error("--name is a file name; paths in a manifest are relative to where it lies")
    try:
        if arguments.check_set is not None:
            return check_set(read_test_set(arguments.check_set), arguments.folder, arguments.hash)
        entries, broken = scan_files(arguments)
        if not entries:
            raise GnvcError(f"{arguments.folder}: no {arguments.kind} that can be read")
        write_manifest(arguments.folder / arguments.name, arguments.kind, entries)
    except GnvcError as error:
        print(f"prepare_data: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    kept = sum(entry.split == "validation" for entry in entries)
    written = arguments.folder / arguments.name
    print(f"{written}: {len(entries)} entries, {kept} of them for validation; {broken} files left out")
    return 0


def scan_files(arguments: argparse.Namespace) -> tuple[list[Entry], int]:
    entries: list[Entry] = []
    broken = 0
    for path in tqdm(candidates(arguments.folder, arguments.kind), desc="scanning", unit="file", disable=None):
        try:
            what = (arguments.folder, path, arguments.kind, arguments.validation)
            entries += scan(*what, arguments.hash, arguments.scenes, arguments.check)
        except GnvcError as error:
            broken += 1
            tqdm.write(f"left out: {error}", file=sys.stderr)
    return entries, broken


def check_set(test_set: Manifest, folder: Path, with_hash: bool) -> int:
    """Print a line for each sequence; return 1 if one is missing or not as the manifest says."""
    require(folder.is_dir(), f"{folder}: no such folder", GnvcError)
    print(
        f"{test_set.title} ({test_set.home}): {len(test_set.sequences)} sequences, the first {test_set.frames} frames"
    )
    problems = 0
    for one in test_set.sequences:
        problem = problem_of(one, folder, test_set.frames)
        problems += problem is not None
        digest = f"  sha256 {file_sha256(folder / one.file)}" if with_hash and problem is None else ""
        print(f"  {one.name:16} {one.file}: {problem or 'ok'}{digest}")
    if test_set.checksums:
        print(f"checksums: {test_set.checksums}")
    print(f"{problems} of {len(test_set.sequences)} sequences lack" if problems else "nothing lacks")
    return 1 if problems else 0


def problem_of(sequence: Sequence, root: Path, frames: int) -> str | None:
    """A problem of a sequence's file for an evaluation of this many frames, in words; None if none is found."""
    path = inside(root, sequence.file)
    if not path.is_file():
        near = sorted(one.relative_to(root) for one in root.rglob("*") if sequence.name.lower() in one.name.lower())
        return f"missing{f'; there is {near[0]}: unpack it, or rename it' if near else ''}"
    if sequence.sha256 not in (None, file_sha256(path)):
        return "another file: its sha256 is not the manifest's"
    if sequence.raw is None:
        with open_video(path) as video:
            size = video.info.width, video.info.height
        if size != (sequence.width, sequence.height):
            return f"{size[0]}×{size[1]}, but the manifest says {sequence.width}×{sequence.height}"
        return None
    held, rest = divmod(path.stat().st_size, sequence.raw.frame_bytes())
    of = f"{sequence.width}×{sequence.height} {sequence.pixel_format}"
    if rest or held < min(frames, sequence.frames):
        return f"{path.stat().st_size} bytes: {held} frames of {of} and {rest} bytes; cut short, or of another format"
    return None if held >= sequence.frames else f"{held} frames of {of}, but the manifest says {sequence.frames}"


raise SystemExit(main())
