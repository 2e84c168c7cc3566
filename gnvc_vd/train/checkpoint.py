"""What a training needs to go on: folders `step-00001000` that are whole or not there.

    step-00001000/
      weights.safetensors    what trains, as it is
      ema.safetensors        and averaged
      optimiser.pt           AdamW's moments by parameter name, and its groups: local, read with weights_only
      memory.safetensors     the past decodes that a discriminator remembers in each process, where there is one
      state.json             step, score, who it belongs to

No random state is among it: a step's random numbers follow from the seed and the numbers of its samples. Tensors are
copied first and written by a thread, so that training goes on; a folder is renamed into place when it is whole. Files
are mapped into memory when they are read: a process reads what it keeps, and of a sharded tensor that is a part.
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
    """Beside the tensors."""

    step: int  # steps done
    training: str  # a hash of what is trained on what: another training's checkpoint is refused
    updates: int  # of the average
    score: float | None = None  # of the last validation; lower is better
    seconds: float = 0.0  # spent of the run's budget, over all sittings
    ending: float = 0.0  # seconds kept back for the last validation and checkpoint
    precision: str | None = None  # of the training: no or bf16


def snapshot(
    optimiser: torch.optim.Optimizer, ema: Ema, kept: bool = True, memory: Mapping[str, Tensor] | None = None
) -> dict[str, dict[str, Any]]:
    """A checkpoint's files of one moment: whole tensors on the CPU.

    All processes of a sharded model, or of one that remembers, take part, also those that keep nothing of it.
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
    """Put a checkpoint's tensors where they belong."""
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
    """This process's own of all processes' memories; in more processes than there were, another's."""
    tensors, rank = read_tensors([file]), PartialState().process_index
    if {name: value.shape[1:] for name, value in tensors.items()} != {name: one.shape for name, one in memory.items()}:
        raise GnvcError(f"{file}: not what the discriminator of this training remembers")
    for name, place in memory.items():
        place.copy_(tensors[name][rank % len(tensors[name])])


@torch.no_grad()
def fill(places: Mapping[str, Tensor], file: Path) -> None:
    """The tensors of a checkpoint's file into parameters, or averages, of the same names."""
    tensors = read_tensors([file])
    wrong = {(name, one.shape) for name, one in places.items()} ^ {(name, one.shape) for name, one in tensors.items()}
    if wrong:
        raise GnvcError(f"{file}: its tensors do not fit the parameters that train (for one {min(wrong)[0]!r})")
    for name, place in places.items():
        scatter_into(place, tensors[name])


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

    def save(self, state: State, files: Mapping[str, dict[str, Any]]) -> None:
        """Begin to write; waits for the one before, whose failure is raised here."""
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
    """A moment, sharded and placed as its parameter is; a count of steps where the optimiser counts them."""
    if value.shape == parameter.shape and value.ndim:
        return scatter_into(torch.zeros_like(parameter, dtype=value.dtype), value)
    return value.to(parameter.device if fused else value.device, copy=True)  # nothing stays in the file
