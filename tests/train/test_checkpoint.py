"""Checkpoints are whole or not there; the last few and the best stay."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from gnvc_vd.conventions import GnvcError
from gnvc_vd.train import checkpoint
from gnvc_vd.train.checkpoint import EMA, MEMORY, OPTIMISER, STATE, WEIGHTS, Checkpoints, State, restore, snapshot
from gnvc_vd.train.ema import Ema


def parts() -> tuple[nn.Module, torch.optim.Optimizer, Ema]:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    return module, torch.optim.AdamW([module.weight], lr=0.1), Ema(module, 0.9)


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer, Ema]:
    module, optimiser, ema = parts()
    for step in range(steps):
        module(torch.full((1, 3), float(step))).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        ema.update()
    return module, optimiser, ema


def taken(step: int, score: float | None = None) -> tuple[State, dict[str, dict[str, Any]]]:
    return State(step, "this", 2, score), snapshot(*trained(2)[1:])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_average_begins_fast_and_then_keeps_its_decay() -> None:
    module, _, ema = parts()
    values = [module.weight.detach().clone()]
    wanted = values[0].clone()
    for updates in range(30):
        with torch.no_grad():
            module.weight.add_(1.0)
        ema.update()
        decay = min(0.9, (1 + updates) / (10 + updates))
        wanted = decay * wanted + (1 - decay) * module.weight.detach()
    assert torch.allclose(ema.average["weight"], wanted) and set(ema.average) == {"weight"}
    live, average = module.weight.detach().clone(), ema.average["weight"].clone()
    with ema.average_parameters():
        assert torch.equal(module.weight, average) and not torch.equal(average, live)
    assert torch.equal(module.weight, live) and torch.equal(ema.average["weight"], average)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    module, optimiser, ema = trained(3)
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(State(3, "this", 3, 0.5), snapshot(optimiser, ema))
    with torch.no_grad():
        module.weight.zero_()  # what is written is the moment of the snapshot
    checkpoints.wait()
    latest = checkpoints.latest()
    assert latest is not None
    other, other_optimiser, other_ema = parts()
    assert restore(other_optimiser, other_ema, latest, "this") == State(3, "this", 3, 0.5)
    expected, expected_optimiser, expected_ema = trained(3)
    assert torch.equal(other.weight, expected.weight)
    assert torch.equal(other_ema.average["weight"], expected_ema.average["weight"]) and other_ema.updates == 3
    for key, value in expected_optimiser.state[expected.weight].items():
        assert torch.equal(other_optimiser.state[other.weight][key], value)


def test_who_keeps_no_snapshot_holds_nothing_of_it() -> None:
    none = snapshot(*trained(2)[1:], kept=False)
    found = [*none[WEIGHTS].values(), *none[EMA].values(), *none[OPTIMISER]["weight"].values()]
    assert len(found) == 5 and sum(one.numel() for one in found) == 0


def test_what_is_remembered_comes_back_to_each_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As two processes would gather it; a third, if there are more now, takes the first one's."""
    monkeypatch.setattr(checkpoint, "gather", lambda value: torch.cat([value, value + 10]))
    _, optimiser, ema = trained(1)
    files = snapshot(optimiser, ema, memory={"past": torch.arange(6.0).view(2, 3), "count": torch.tensor(4)})
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(State(1, "this", 1), files)
    checkpoints.wait()
    latest = checkpoints.latest()
    assert latest is not None and (latest / MEMORY).is_file()
    for rank, count in ((0, 4), (1, 14), (2, 4)):
        monkeypatch.setattr(checkpoint, "PartialState", lambda rank=rank: SimpleNamespace(process_index=rank))
        memory = {"past": torch.zeros(2, 3), "count": torch.tensor(0)}
        restore(*parts()[1:], latest, "this", memory)
        assert int(memory["count"]) == count and memory["past"][1, 2] == count + 1
    with pytest.raises(GnvcError, match=r"memory\.safetensors"):
        restore(*parts()[1:], latest, "this", {"past": torch.zeros(3, 3), "count": torch.tensor(0)})


def test_going_on_takes_no_memory_beside_what_is_kept(tmp_path: Path) -> None:
    """Of four tensors of one size weight and average are there, and two moments are made; no file is read whole."""
    module = nn.Linear(1000, 1000, bias=False)
    optimiser, ema = torch.optim.AdamW(module.parameters()), Ema(module, 0.9)
    module(torch.ones(1, 1000)).sum().backward()
    optimiser.step()
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(State(1, "this", 1), snapshot(optimiser, ema))
    latest = checkpoints.latest() if checkpoints.wait() is None else None
    assert latest is not None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        restore(torch.optim.AdamW(module.parameters()), ema, latest, "this")
    taken = [one.nbytes() for one in seen.profiler.kineto_results.events() if one.name() == "[memory]"]
    assert taken.count(4 * 1000 * 1000) == 2


def test_another_trainings_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(*taken(1))
    checkpoints.wait()
    latest = checkpoints.latest()
    assert latest is not None
    with pytest.raises(GnvcError, match="another training"):
        restore(*parts()[1:], latest, "that")
    wider = nn.Linear(3, 2)
    with pytest.raises(GnvcError, match="do not fit the parameters that train"):
        restore(torch.optim.AdamW(wider.parameters()), Ema(wider, 0.9), latest, "this")


def test_the_last_few_and_the_best_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, score in enumerate([3.0, 1.0, None, 2.0, 4.0, 5.0], 1):
        checkpoints.save(*taken(step, score))
    checkpoints.wait()
    assert names(tmp_path) == ["step-00000002", "step-00000005", "step-00000006"]


def test_what_a_killed_process_left_is_cleared_and_never_read(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(*taken(1))
    checkpoints.wait()
    half = tmp_path / ".step-00000002.abc.part" / "step-00000002"
    half.mkdir(parents=True)
    (half / STATE).write_text(json.dumps({"step": 2}))
    again = Checkpoints(tmp_path, keep=2)
    assert again.latest() == tmp_path / "step-00000001" and half.is_dir()  # it may be another's, who still writes it
    again.clear()
    assert again.latest() == tmp_path / "step-00000001" and names(tmp_path) == ["step-00000001"]


def test_a_save_that_fails_is_heard_of(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    checkpoints = Checkpoints(tmp_path / "taken", keep=2)
    checkpoints.save(*taken(1))
    with pytest.raises(OSError, match="taken"):
        checkpoints.wait()


def test_a_pickled_optimiser_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(*taken(1))
    checkpoints.wait()
    latest = checkpoints.latest()
    assert latest is not None
    torch.save({"weight": print}, latest / "optimiser.pt")
    with pytest.raises(GnvcError, match=r"optimiser\.pt"):
        restore(*parts()[1:], latest, "this")
