"""What several tests share."""

import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess, run
from sys import executable

import numpy as np
import pytest

import gnvc_vd.common.compat  # noqa: F401 - before any test imports diffusers or compressai
from gnvc_vd.conventions import Frame

Cli = Callable[..., "CompletedProcess[bytes]"]
Script = Callable[..., object]
SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def cli() -> Cli:
    """The command line in a process of its own: bytes in, bytes out."""

    def call(*arguments: object, stdin: bytes = b"") -> "CompletedProcess[bytes]":
        command = [executable, "-m", "gnvc_vd", *map(str, arguments)]
        return run(command, input=stdin, capture_output=True, timeout=600, check=False)

    return call


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """A script called in this process; gives its exit code."""

    def call(name: str, *arguments: object) -> object:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            runpy.run_path(str(SCRIPTS / name))
        return exited.value.code

    return call


@pytest.fixture
def steady_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Big blocks of the processes that follow go back to the system when they are freed.

    glibc would keep ever bigger ones, in an order of its own: up to 15 % of noise on top of what a program holds.
    """
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(1 << 20))


def smooth_clip(height: int, width: int, frames: int, seed: int = 0) -> list[Frame]:
    """Soft moving colour waves: what 4:2:0 can carry."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    clip = []
    phase = rng.uniform(0, 2 * np.pi, 3)
    for t in range(frames):
        waves = [np.sin(x / 17 + 0.2 * t + phase[c]) + np.cos(y / 13 - 0.1 * t + phase[c]) for c in range(3)]
        clip.append(np.stack([np.rint(128 + 45 * wave) for wave in waves], axis=-1).astype(np.uint8))
    return clip


def noise_clip(height: int, width: int, frames: int, seed: int = 0) -> list[Frame]:
    return list(np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8))


def largest_difference(first: Sequence[Frame], second: Sequence[Frame]) -> int:
    assert len(first) == len(second)
    return max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(first, second, strict=True))


def names_beside(folder: Path) -> list[str]:
    """Everything in a folder, hidden names too: nothing half-written may stay."""
    return sorted(path.name for path in folder.iterdir())
