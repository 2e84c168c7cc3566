"""Time and memory of one piece of work, each in a process of its own so that peaks do not mix."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from gnvc_vd.conventions import UsageError


@dataclass(frozen=True)
class Cost:
    """What a piece of work took."""

    seconds: float
    peak_bytes: int  # resident memory at its highest, beyond what the process held before


@dataclass
class Report:
    """A stage's outcome: rows for people, figures for programs."""

    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, text: str, **figures: float) -> None:
        self.rows.append((name, text))
        self.figures |= {key: float(f"{value:.4g}") for key, value in figures.items()}

    def table(self) -> list[str]:
        width = max(len(name) for name, _ in self.rows)
        return [self.title, *(f"  {name:{width}}  {text}" for name, text in self.rows), ""]


def cost(work: Callable[..., object], *arguments: object) -> Cost:
    """Run `work(*arguments)` in a fresh process; it must be importable by name."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, work, arguments).result()


def best_of(rounds: int, *works: tuple[Callable[..., object], tuple[object, ...]]) -> list[Cost]:
    """The cheapest of several rounds for each work, taken in turn, so that a busy moment strikes all of them."""
    costs = [[cost(work, *arguments) for work, arguments in works] for _ in range(rounds)]
    return [min(column, key=lambda one: one.seconds) for column in zip(*costs, strict=True)]


def _measured(work: Callable[..., object], arguments: tuple[object, ...]) -> Cost:
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
