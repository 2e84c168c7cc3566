"""Where a result comes from: the commit of this repository, and the processor."""

import platform
import re
import subprocess
from functools import cache
from pathlib import Path

MODEL_NAME = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)
# Whoever is named before the host stays out: it may be a secret.
ORIGIN = re.compile(r"(?:(?:https|ssh)://(?:[^@/]*@)?|git@)(?P<host>[\w.-]+\.\w+)[:/](?P<path>[\w.~/-]+?)(?:\.git)?/?")


@cache
def commit() -> str:
    """Of the repository that this package lies in; nothing where it is none."""
    return _git("rev-parse", "HEAD")


def has_changes() -> bool:
    """Whether its files are others than those of the commit."""
    return bool(_git("status", "--porcelain", "--untracked-files=no"))


@cache
def web_address() -> str:
    """Where that repository is read on the web; nothing where it was cloned from no such place."""
    found = ORIGIN.fullmatch(_git("remote", "get-url", "origin"))
    return f"https://{found['host']}/{found['path']}" if found else ""


@cache
def processor() -> str:
    """In its maker's words, where they can be had."""
    try:
        match = MODEL_NAME.search(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()
