"""Whole files: output is made beside its place and renamed when it is whole; what a file is, by its hash."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gnvc_vd.conventions import GnvcError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write to; becomes `target` when the block ends well, and vanishes when it does not.

    The block may make a file or a folder. A folder that is replaced is moved aside first, and moved back if the second
    renaming fails.
    """
    if not target.parent.is_dir():
        raise GnvcError(f"cannot write {target}: there is no folder {target.parent}")
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    except OSError as error:
        raise GnvcError(f"cannot write {target}: {error.strerror}") from error
    try:
        part, old = beside / target.name, beside / "replaced"
        yield part
        _as_usual(part, beside / f"{target.name}.usual")
        if part.is_dir() and target.exists():
            target.rename(old)
        try:
            part.replace(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """A whole text file, in a folder that is made where it is not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as part:
        part.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _as_usual(part: Path, example: Path) -> None:
    """Give files the permissions that a new file gets here; safetensors writes its own for their owner alone."""
    example.touch()
    mode = example.stat().st_mode
    for path in (part, *part.rglob("*")):
        if path.is_file() and not path.is_symlink():
            path.chmod(mode)
