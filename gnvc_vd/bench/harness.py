"""What the stages share: a report of rows and figures, time and memory of a piece of work, a made-up clip."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from gnvc_vd.conventions import Colour, Frame, UsageError
from gnvc_vd.video import VideoInfo

PrintLine = Callable[[str], object]  # called with each line of a table
NAME_WIDTH = 34  # characters


def print_nothing(line: str) -> None:
    """For callers that want the figures only."""


@dataclass
class Report:
    """A stage's results: rows of a table, each printed when it is added, and figures."""

    title: str
    print_line: PrintLine = print_nothing
    rows: list[tuple[str, str]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.print_line(self.title)

    def add(self, name: str, text: str, **figures: float) -> None:
        self.rows.append((name, text))
        self.print_line(f"  {name:{NAME_WIDTH}}  {text}")
        self.figures |= {key: float(f"{value:.4g}") for key, value in figures.items()}


@torch.inference_mode()
def best_of(rounds: int, *functions: Callable[[], object], device: str = "cpu") -> list[float]:
    """Best seconds of each function; rounds alternate, so that load from elsewhere hits all of them.

    What a first round prepares (a compiled network, tables, a cache) counts only where it is the one round.
    """
    times = [[_seconds(work, device) for work in functions] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]


def _seconds(work: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def device_name(device: str = "cpu") -> str:
    """Where a stage ran, for its title."""
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"


@dataclass(frozen=True)
class Cost:
    """What a piece of work took."""

    seconds: float
    peak_bytes: int  # resident memory at its highest, beyond what the process held before

    @property
    def peak_mib(self) -> float:
        return self.peak_bytes / 2**20


def cost(work: Callable[..., object], *arguments: object) -> Cost:
    """Run `work(*arguments)` in a fresh process, so that peaks do not mix; it must be importable by name."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, work, arguments).result()


def _measure(work: Callable[..., object], arguments: tuple[object, ...]) -> Cost:
    before = _memory("VmRSS")
    start = time.perf_counter()
    work(*arguments)
    return Cost(time.perf_counter() - start, _memory("VmHWM") - before)


def _memory(field_name: str) -> int:
    """VmRSS (now) or VmHWM (peak of this program alone; getrusage's peak survives an exec) in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise UsageError("memory can be measured on Linux only")
    line = next(line for line in status.read_text().splitlines() if line.startswith(field_name))
    return int(line.split()[1]) * 1024


def waves(side: int, frames: int) -> list[Frame]:
    """A made-up clip: soft grey waves that move."""
    y, x = np.mgrid[:side, :side]
    grey = [128 + 60 * np.sin(x / 17 + 0.2 * t) * np.cos(y / 23) for t in range(frames)]
    return [np.stack([np.rint(wave)] * 3, axis=-1).astype(np.uint8) for wave in grey]


def square_info(side: int) -> VideoInfo:
    """What a made-up clip says of itself."""
    return VideoInfo(side, side, Fraction(25), None, Colour("bt709", "limited"), "", "")
