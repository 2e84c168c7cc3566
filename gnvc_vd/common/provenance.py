"""Where a result comes from: the commit of this repository, and the processor."""

import platform
import re
import subprocess
from functools import cache
from pathlib import Path

MODEL_NAME = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


@cache
def commit() -> str:
    """Of the repository that this package lies in; nothing where it is none."""
    return _git("rev-parse", "HEAD")


def has_changes() -> bool:
    """Whether its files are others than those of the commit."""
    return bool(_git("status", "--porcelain", "--untracked-files=no"))


@cache
def processor() -> str:
    """In its maker's words, where they can be had."""
    try:
        found = MODEL_NAME.search(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()
