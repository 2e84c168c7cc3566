"""Checks of the input and output files of a call, made before anything heavy is imported."""

import argparse
import errno
import os
from pathlib import Path

from gnvc_vd.conventions import GnvcError, UsageError

STREAMS, VIDEOS = ("decode", "verify", "info"), ("encode", "compare")  # commands that read streams, and videos
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".y4m", ".yuv", ".raw", ".gif", ".png")
)


def check_files(arguments: argparse.Namespace) -> None:
    """Raise an error if an input does not exist or an output would replace it."""
    inputs = [getattr(arguments, name, None) for name in ("source", "file", "reference")]
    inputs += getattr(arguments, "tests", [])
    for path in (path for path in inputs if path not in (None, "-")):
        if "\0" in path:
            raise UsageError("a file name cannot hold a NUL")
        if arguments.command in VIDEOS and not Path(path).exists():
            raise GnvcError(f"{path}: no such file or folder")
        if arguments.command in STREAMS:
            Path(path).stat()  # raises OSError if it is missing; not opened, since it may be a pipe
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
        raise UsageError(f"{target} has a video's suffix, but a stream is written: name it .gnvc")


def _check_comparison(arguments: argparse.Namespace) -> None:
    several = arguments.html is not None or len(arguments.tests) > 1
    if several and "-" in (arguments.reference, *arguments.tests):
        raise UsageError("standard input can be read once: with several videos or --html, all must be files")
    if arguments.html is not None and Path(arguments.html).exists() and not Path(arguments.html).is_dir():
        raise UsageError(f"{arguments.html} is a file: --html takes a folder")
