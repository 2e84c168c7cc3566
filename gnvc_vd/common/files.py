"""Atomic output: files are written beside their target and renamed when complete; also a file's SHA-256."""

import errno
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # not on Windows: what a killed process leaves there stays
    flock = None  # type: ignore[assignment]

OLD = "replaced"  # a folder that is moved aside
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def input_stream(source: str) -> AbstractContextManager[BinaryIO]:
    """A file to read, or standard input by the name -."""
    require(source != "-" or sys.stdin is not None, "standard input is closed")
    require("\0" not in source, "a file name cannot hold a NUL")
    return nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write to; renamed to `target` if the block succeeds, deleted if it raises.

    The block may make a file or a folder. A folder that is replaced is moved aside first, and moved back if the second
    renaming fails. Leftovers of killed processes for `target` are deleted. A link stays, and what it leads to is
    replaced; a pipe or a device is never replaced: it is written itself.
    """
    target = Path(os.path.realpath(target))
    special = target.exists() and not target.is_file() and not target.is_dir()
    try:
        with nullcontext(target) if special else _rename_when_done(target) as part:
            yield part
    except OSError as error:
        if error.errno in FULL:
            raise GnvcError(f"cannot write {target}: {os.strerror(error.errno)}") from error
        raise


@contextmanager
def _rename_when_done(target: Path) -> Iterator[Path]:
    require(target.parent.is_dir(), f"cannot write {target}: there is no folder {target.parent}", GnvcError)
    try:
        with suppress(OSError):  # the folder may be writable but not readable
            _remove_leftovers(target)
        beside, lock = _place_beside(target)
    except OSError as error:
        raise GnvcError(f"cannot write {target}: {error.strerror}") from error
    try:
        part, old = beside / target.name, beside / OLD
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
        os.close(lock)


def _place_beside(target: Path) -> tuple[Path, int]:
    """A temporary folder beside the target, and its lock file, which this process holds until it ends."""
    while True:
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        path = beside / f"{target.name}.lock"
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        if flock is not None:
            with suppress(OSError):  # a file system without locks: nothing is cleared there either
                flock(lock, LOCK_EX)
        if path.exists():  # else another process took it for dead before it was locked
            return beside, lock
        os.close(lock)


def _remove_leftovers(target: Path) -> None:
    """Remove killed processes' unfinished output for `target`; restore a folder that they moved aside."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}\.part")
    for beside in [path for path in target.parent.iterdir() if name.fullmatch(path.name)]:
        if flock is None or beside.is_symlink():
            continue
        with suppress(OSError):  # it is alive, has no lock, or is not ours to touch
            lock = os.open(beside / f"{target.name}.lock", os.O_RDWR)
            try:
                flock(lock, LOCK_EX | LOCK_NB)
                if (beside / OLD).exists() and not target.exists():
                    (beside / OLD).rename(target)
                shutil.rmtree(beside, ignore_errors=True)
            finally:
                os.close(lock)


def write_text(target: Path, text: str) -> None:
    """A whole text file, in a folder that is made where it is not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as part:
        part.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _as_usual(part: Path, example: Path) -> None:
    """Give files the usual permissions of a new file here; safetensors makes files that only the owner reads."""
    example.touch()
    mode = example.stat().st_mode
    for path in (part, *part.rglob("*")):
        if path.is_file() and not path.is_symlink():
            path.chmod(mode)
