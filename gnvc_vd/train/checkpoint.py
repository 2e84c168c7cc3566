"""Checkpoints, from which a training resumes: complete folders named `step-00001000`.

    step-00001000/
      weights.safetensors    the trained parameters
      ema.safetensors        their moving averages
      optimiser.pt           AdamW's moments by parameter name; read with weights_only
      memory.safetensors     past decodes that the discriminator, if there is one, keeps in each process
      state.json             step, score and a hash of the training's settings

There is no random state: a step's random numbers depend on the seed and its sample numbers only. Tensors are copied
first and then written by a thread while training goes on; a complete folder is renamed into place. Files are read by
memory mapping, so that a process reads only its part of sharded tensors.
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
from accelerate import PartialState
from accelerate.utils import gather
from safetensors.torch import save_file
from torch import Tensor

from gnvc_vd.backbone.sources import read_tensors
from gnvc_vd.common import strict
from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import GnvcError
from gnvc_vd.train.ema import Ema, gather_to_cpu, scatter_into

WEIGHTS, EMA, OPTIMISER, STATE = "weights.safetensors", "ema.safetensors", "optimiser.pt", "state.json"
MEMORY = "memory.safetensors"


@dataclass(frozen=True)
class State:
    """A checkpoint's state beside its tensors."""

    step: int  # number of steps done
    training: str  # hash of its settings; checkpoints of other trainings are refused
    updates: int  # number of updates of the averages
    score: float | None = None  # of the last validation; lower is better
    seconds: float = 0.0  # time spent, in all sessions, of the run's budget
    ending: float = 0.0  # seconds reserved for the last validation and checkpoint
    precision: str | None = None  # of the training: no or bf16


def snapshot(
    optimiser: torch.optim.Optimizer, ema: Ema, kept: bool = True, memory: Mapping[str, Tensor] | None = None
) -> dict[str, dict[str, Any]]:
    """Copy all tensors of a checkpoint to the CPU, gathered from shards.

    All processes must call this; those without `kept` get empty tensors.
    """

    def taken(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: gather_to_cpu(value, kept) for name, value in tensors.items()}

    moments = {name: taken(optimiser.state[one]) for name, one in ema.live.items() if one in optimiser.state}
    files: dict[str, dict[str, Any]] = {WEIGHTS: taken(ema.live), EMA: taken(ema.average), OPTIMISER: moments}
    if memory:
        files[MEMORY] = taken({name: gather(value[None]) for name, value in memory.items()})  # of every process
    return files


def restore(
    optimiser: torch.optim.Optimizer, ema: Ema, folder: Path, training: str, memory: Mapping[str, Tensor] | None = None
) -> State:
    """Load a checkpoint into optimiser, averages and, with `memory`, the discriminator's memory."""
    state = read_state(folder)
    if state.training != training:
        raise GnvcError(f"{folder}: a checkpoint of another training; its configuration or data differ from this one's")
    fill(ema.live, folder / WEIGHTS)
    fill(ema.average, folder / EMA)
    try:
        moments = torch.load(folder / OPTIMISER, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise GnvcError(f"{folder / OPTIMISER}: refused, not a plain file of tensors") from error
    for name, parameter in ema.live.items():
        if name in moments:
            fused = bool(optimiser.defaults.get("fused"))
            optimiser.state[parameter] = {key: _like(value, parameter, fused) for key, value in moments[name].items()}
    if memory:
        _remember(memory, folder / MEMORY)
    ema.updates = state.updates
    return state


def read_state(folder: Path) -> State:
    return strict.parse(State, strict.read_object(folder / STATE), str(folder / STATE))


@torch.no_grad()
def _remember(memory: Mapping[str, Tensor], file: Path) -> None:
    """Load this process's memory; with more processes than before, some share one."""
    tensors, rank = read_tensors([file]), PartialState().process_index
    if {name: value.shape[1:] for name, value in tensors.items()} != {name: one.shape for name, one in memory.items()}:
        raise GnvcError(f"{file}: its tensors do not fit this training's discriminator")
    for name, place in memory.items():
        place.copy_(tensors[name][rank % len(tensors[name])])


@torch.no_grad()
def fill(places: Mapping[str, Tensor], file: Path) -> None:
    """Load a checkpoint's file into parameters or averages of the same names."""
    tensors = read_tensors([file])
    wrong = {(name, one.shape) for name, one in places.items()} ^ {(name, one.shape) for name, one in tensors.items()}
    if wrong:
        raise GnvcError(f"{file}: its tensors do not fit the parameters that train (for one {min(wrong)[0]!r})")
    for name, place in places.items():
        scatter_into(place, tensors[name])


class Checkpoints:
    """A run's checkpoints: the last `keep`, and the best."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        return max(self._all(), default=None)

    def clear(self) -> None:
        """Remove what killed processes left half written; only for the training that writes here."""
        for part in self.folder.glob(".*.part"):
            shutil.rmtree(part, ignore_errors=True)

    def save(self, state: State, files: Mapping[str, dict[str, Any]]) -> None:
        """Start to write a checkpoint, after the one before, whose error is raised here."""
        self.wait()
        self._pending = self._writer.submit(self._write, state, files)

    def wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _write(self, state: State, files: Mapping[str, dict[str, Any]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / f"step-{state.step:08}") as part:
            part.mkdir()
            save_file(files[WEIGHTS], part / WEIGHTS)
            save_file(files[EMA], part / EMA)
            torch.save(files[OPTIMISER], part / OPTIMISER)
            if MEMORY in files:
                save_file(files[MEMORY], part / MEMORY)
            (part / STATE).write_text(json.dumps(dataclasses.asdict(state)) + "\n", encoding="utf-8")
        steps = sorted(self._all())
        scores = {path: strict.read_object(path / STATE).get("score") for path in steps}
        best = sorted((score, path) for path, score in scores.items() if isinstance(score, float))[:1]
        for old in set(steps[: -self.keep]) - {path for _, path in best}:
            shutil.rmtree(old)

    def _all(self) -> list[Path]:
        return list(self.folder.glob("step-????????"))


def _like(value: Tensor, parameter: Tensor, fused: bool) -> Tensor:
    """Shard and place a moment as its parameter is; a step count goes to the optimiser's device."""
    if value.shape == parameter.shape and value.ndim:
        return scatter_into(torch.zeros_like(parameter, dtype=value.dtype), value)
    return value.to(parameter.device if fused else value.device, copy=True)  # a copy, not mapped to the file
