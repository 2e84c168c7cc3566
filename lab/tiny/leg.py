"""A leg of training and how its time is spent, kept in OUT/record.json: the request, and what each part took.

A part gets its share of what is left when it begins, and keeps that. So later parts
make up for one that takes too long, and a stopped leg resumes with what is left of its time.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from gnvc_vd.common import strict
from gnvc_vd.common.files import replacing
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.train.settings import seconds_of
from lab.tiny.phases import Device

RECORD = "record.json"
FORMAT = 1


@dataclass(frozen=True)
class Part:
    """Of a leg: a phase, or what lies between phases."""

    budget: float  # seconds
    seconds: float = 0.0  # taken so far
    ended: bool = False
    steps: int = 0


@dataclass(frozen=True)
class Point:
    """Of a codec's curve."""

    quality: int
    bpp: float
    psnr: float


@dataclass(frozen=True)
class Record:
    """What a leg was asked for, and what it did."""

    budget: str
    device: Device
    start: str  # a model, or "nothing"
    shares: dict[str, float]
    settings: tuple[str, ...] = ()  # that were given beside
    parts: dict[str, Part] = field(default_factory=dict)
    hardware: str = ""
    git: str = ""
    curve: tuple[Point, ...] = ()
    format: int = FORMAT

    @property
    def total(self) -> float:
        return seconds_of(self.budget)


class Leg:
    """A new or resumed leg: the record in its folder, and the clock.

    Args:
        request: the settings; those of a resumed leg must match its record, except for the budget.
        order: groups of parts, one after another; the parts of a group run in parallel.
    """

    def __init__(
        self, out: Path, request: Record, order: Sequence[tuple[str, ...]], now: Callable[[], float] = time.monotonic
    ) -> None:
        _ = request.total  # raises on a malformed budget
        self.out, self.order, self.now, self.record = out, order, now, request
        if (out / RECORD).is_file():
            self.record = replace(_check_request(out / RECORD, request), budget=request.budget)
        else:
            empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
            require(empty, f"{out} holds other things than a leg of training; give another folder")
            out.mkdir(parents=True, exist_ok=True)
        self._write()

    def is_done(self, name: str) -> bool:
        return name in self.record.parts and self.record.parts[name].ended

    def begin(self, name: str) -> float:
        """The seconds that a part has; it has them from the first time on."""
        if name not in self.record.parts:
            turn = next(turn for turn in self.order if name in turn)
            waiting = [one for one in self.order if one == turn or not self._is_begun(one)]
            taken = sum(self._seconds(one) for one in self.order if one != turn)
            left = max(1.0, self.record.total - taken)
            whole = sum(map(self._share, waiting)) or 1.0
            self._keep(name, Part(left * self.record.shares[name] / whole))
        return self.record.parts[name].budget

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """A sitting of a part, however it ends."""
        begun = self.now()
        try:
            yield
        finally:
            part = self.record.parts[name]
            self._keep(name, replace(part, seconds=part.seconds + self.now() - begun))

    def raise_seconds(self, name: str, seconds: float) -> None:
        """Raise a part's seconds to its checkpoint's, in case it was killed."""
        if name in self.record.parts:
            part = self.record.parts[name]
            self._keep(name, replace(part, seconds=max(part.seconds, seconds)))

    def end(self, name: str, steps: int = 0) -> None:
        self._keep(name, replace(self.record.parts[name], ended=True, steps=steps))

    def note(self, **values: object) -> None:
        self.record = replace(self.record, **values)  # type: ignore[arg-type]
        self._write()

    def _share(self, turn: tuple[str, ...]) -> float:
        return max(self.record.shares[name] for name in turn)

    def _seconds(self, turn: tuple[str, ...]) -> float:
        return max((self.record.parts[name].seconds for name in turn if name in self.record.parts), default=0.0)

    def _is_begun(self, turn: tuple[str, ...]) -> bool:
        return any(name in self.record.parts for name in turn)

    def _keep(self, name: str, part: Part) -> None:
        self.note(parts=self.record.parts | {name: part})

    def _write(self) -> None:
        with replacing(self.out / RECORD) as part:
            part.write_text(json.dumps(dataclasses.asdict(self.record), indent=2) + "\n", encoding="utf-8")


def read_record(path: Path) -> Record:
    record = strict.parse(Record, strict.read_object(path), str(path))
    require(record.format == FORMAT, f"{path}: format {record.format}; this program reads format {FORMAT}", GnvcError)
    return record


def _check_request(path: Path, request: Record) -> Record:
    """The record there, if it is of the leg that is wanted."""
    there = read_record(path)
    for name in ("device", "start", "shares", "settings"):
        actual, wanted = getattr(there, name), getattr(request, name)
        require(actual == wanted, f"{path.parent} is a leg with another {name}: {actual}, not {wanted}")
    return there
