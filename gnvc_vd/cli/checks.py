"""What is wrong with a call's files, found out before anything heavy is imported."""

import argparse
import errno
import os
from pathlib import Path

from gnvc_vd.conventions import GnvcError, UsageError

STREAMS, VIDEOS = ("decode", "verify", "info"), ("encode", "compare")  # what a command reads
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".y4m", ".yuv", ".raw", ".gif", ".png")
)


def check_files(arguments: argparse.Namespace) -> None:
    """Inputs are there, and no output replaces one."""
    inputs = [getattr(arguments, name, None) for name in ("source", "file", "reference")]
    inputs += getattr(arguments, "tests", [])
    for path in (path for path in inputs if path not in (None, "-")):
        if "\0" in path:
            raise UsageError("a file name cannot hold a NUL")
        if arguments.command in VIDEOS and not Path(path).exists():
            raise GnvcError(f"{path}: no such file or folder")
        if arguments.command in STREAMS:
            Path(path).stat()  # its failure says what is wrong; a pipe must not be opened twice
            if Path(path).is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if arguments.command == "compare":
        _check_comparison(arguments)
    if arguments.command not in ("encode", "decode") or arguments.target == "-":
        return
    source, target = Path(arguments.source), Path(arguments.target)
    if arguments.source != "-" and target.exists() and target.samefile(source):
        raise UsageError(f"{target} is the input itself: name another file to write")
    if arguments.command == "encode" and target.suffix.lower() in VIDEO_SUFFIXES:
        raise UsageError(f"{target} has a video's suffix, and a stream is written: name it .gnvc")


def _check_comparison(arguments: argparse.Namespace) -> None:
    several = arguments.html is not None or len(arguments.tests) > 1
    if several and "-" in (arguments.reference, *arguments.tests):
        raise UsageError("standard input can be read once: with several videos or --html, all must be files")
    if arguments.html is not None and Path(arguments.html).exists() and not Path(arguments.html).is_dir():
        raise UsageError(f"{arguments.html} is a file: --html takes a folder")
