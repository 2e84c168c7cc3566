"""What a training needs to go on: folders `step-00001000` that are whole or not there.

    step-00001000/
      weights.safetensors    what trains, as it is
      ema.safetensors        and averaged
      optimiser.pt           AdamW's moments by parameter name, and its groups: local, read with weights_only
      state.json             step, score, who it belongs to

No random state is among it: a step's random numbers follow from the seed and the numbers of its samples. Tensors are
copied first and written by a thread, so that training goes on; a folder is renamed into place when it is whole.
"""

import dataclasses
import json
import pickle
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gnvc_vd.backbone.sources import read_tensors
from gnvc_vd.common import strict
from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import GnvcError
from gnvc_vd.train.ema import Ema, put, trained, whole

WEIGHTS, EMA, OPTIMISER, STATE = "weights.safetensors", "ema.safetensors", "optimiser.pt", "state.json"


@dataclass(frozen=True)
class State:
    """Beside the tensors."""

    step: int  # steps done
    training: str  # a hash of what is trained on what: another training's checkpoint is refused
    updates: int  # of the average
    score: float | None = None  # of the last validation; lower is better


@dataclass(frozen=True)
class Snapshot:
    """Whole tensors on the CPU, of one moment."""

    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]
    state: State


def snapshot(
    module: nn.Module, optimiser: torch.optim.Optimizer, ema: Ema, state: State, kept: bool = True
) -> Snapshot:
    """What a checkpoint holds; all processes of a sharded model take part, also those that keep nothing of it."""

    def taken(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: whole(value, kept) for name, value in tensors.items()}

    parameters = trained(module)
    moments = {name: taken(optimiser.state[one]) for name, one in parameters.items() if one in optimiser.state}
    return Snapshot(taken(parameters), taken(ema.average), moments, state)


def restore(module: nn.Module, optimiser: torch.optim.Optimizer, ema: Ema, folder: Path, training: str) -> State:
    """Put a checkpoint's tensors where they belong."""
    state = strict.parse(State, strict.read_object(folder / STATE), STATE)
    if state.training != training:
        raise GnvcError(f"{folder}: a checkpoint of another training; its configuration or data differ from this one's")
    parameters = trained(module)
    fill(parameters, folder / WEIGHTS)
    fill(ema.average, folder / EMA)
    try:
        moments = torch.load(folder / OPTIMISER, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise GnvcError(f"{folder / OPTIMISER}: refused, not a plain file of tensors") from error
    for name, parameter in parameters.items():
        if name in moments:
            optimiser.state[parameter] = {key: _like(value, parameter) for key, value in moments[name].items()}
    ema.updates = state.updates
    return state


@torch.no_grad()
def fill(places: Mapping[str, Tensor], file: Path) -> None:
    """The tensors of a checkpoint's file into parameters, or averages, of the same names."""
    tensors = read_tensors([file])
    wrong = {(name, one.shape) for name, one in places.items()} ^ {(name, one.shape) for name, one in tensors.items()}
    if wrong:
        raise GnvcError(f"{file}: its tensors do not fit the parameters that train (for one {min(wrong)[0]!r})")
    for name, place in places.items():
        put(place, tensors[name])


class Checkpoints:
    """A run's folder of checkpoints: the last few, and the best."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def latest(self) -> Path | None:
        """The newest whole one; what a killed process left half-written is removed."""
        for part in self.folder.glob(".*.part"):
            shutil.rmtree(part, ignore_errors=True)
        return max(self._all(), default=None)

    def save(self, taken: Snapshot) -> None:
        """Begin to write; waits for the one before, whose failure is raised here."""
        self.wait()
        self._pending = self._writer.submit(self._write, taken)

    def wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _write(self, taken: Snapshot) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / f"step-{taken.state.step:08}") as part:
            part.mkdir()
            save_file(dict(taken.weights), part / WEIGHTS)
            save_file(dict(taken.average), part / EMA)
            torch.save(dict(taken.optimiser), part / OPTIMISER)
            (part / STATE).write_text(json.dumps(dataclasses.asdict(taken.state)) + "\n", encoding="utf-8")
        kept = set(sorted(self._all())[-self.keep :]) | {self._best()}
        for old in set(self._all()) - kept:
            shutil.rmtree(old)

    def _best(self) -> Path | None:
        scores = {path: strict.read_object(path / STATE).get("score") for path in self._all()}
        known = {path: score for path, score in scores.items() if isinstance(score, float)}
        return min(known, key=lambda path: (known[path], path), default=None)

    def _all(self) -> list[Path]:
        return list(self.folder.glob("step-????????"))


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A moment, sharded and placed as its parameter is; the count of steps stays what it is."""
    if value.shape != parameter.shape:
        return value
    place = torch.zeros_like(parameter, dtype=value.dtype)
    put(place, value)
    return place
