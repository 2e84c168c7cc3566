"""A precision that is measured: once, where there are units for it, and then kept."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gnvc_vd.common import strict
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.procedural import ProceduralClips
from gnvc_vd.train import precision
from gnvc_vd.train.adversary import adversary_state
from gnvc_vd.train.checkpoint import read_state
from gnvc_vd.train.loop import Trainer, train
from gnvc_vd.train.settings import RunSettings, Training
from gnvc_vd.train.setup import build
from tests.backbone.graphics import graphics_card
from tests.train.composing import composed
from tests.train.runs import SETTINGS, clips, equal, newest, training


def told(steps: int = 1) -> Training:
    return training("warmup", steps, frames=5, run=replace(SETTINGS, precision="auto"))


def with_units(monkeypatch: pytest.MonkeyPatch, float32: float, bfloat16: float) -> list[str]:
    """A CPU that takes so long; returns what is measured."""
    measured: list[str] = []

    def seconds(stage: object) -> tuple[float, float]:
        measured.append(type(stage).__name__)
        return float32, bfloat16

    monkeypatch.setattr(precision, "has_units", lambda: True)
    monkeypatch.setattr(precision, "seconds_of_passes", seconds)
    return measured


@pytest.mark.parametrize(("bfloat16", "choice"), [(0.3, "bf16"), (0.89, "bf16"), (0.95, "no"), (2.0, "no")])
def test_what_is_faster_is_chosen(bfloat16: float, choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = with_units(monkeypatch, 1.0, bfloat16)
    assert precision.precision_of(build(told()), None) == choice and measured == ["CodecStage"]


def test_a_cpu_without_units_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = with_units(monkeypatch, 1.0, 0.1)
    monkeypatch.setattr(precision, "has_units", lambda: False)
    assert precision.precision_of(build(told()), None) == "no" and measured == []


@pytest.mark.parametrize(("major", "choice"), [(7, "no"), (8, "bf16")])
def test_a_gpu_that_emulates_bfloat16_trains_in_float32(
    major: int, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphics_card(monkeypatch, major)
    assert precision.fastest_precision(build(told()), torch.device("cuda")) == choice


def test_a_choice_is_kept_and_never_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = with_units(monkeypatch, 1.0, 0.5)
    train(told(), clips, None, tmp_path)
    environment = strict.read_object(tmp_path / "run.json")["environment"]
    assert isinstance(environment, dict) and environment["precision"] == "bf16" and len(measured) == 1
    assert read_state(newest(tmp_path)).precision == "bf16"
    with_units(monkeypatch, 1.0, 2.0)
    trainer = Trainer(told(), tmp_path)
    assert trainer.accelerator.mixed_precision == "bf16" and len(measured) == 1
    same = replace(told(), run=replace(SETTINGS, precision="bf16"))
    assert Trainer(same, tmp_path).accelerator.mixed_precision == "bf16"
    other = replace(told(), run=replace(SETTINGS, precision="no"))
    with pytest.raises(UsageError, match=r"precision=no is given, but this training has run\.precision=bf16: give"):
        Trainer(other, tmp_path)


def test_both_precisions_are_tried_and_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round: the seconds of four passes by a clock that counts its calls."""
    ticks = iter(range(1000))
    monkeypatch.setattr(precision.time, "process_time", lambda: float(next(ticks)))
    stage = build(told())
    seen: list[torch.dtype] = []
    layer = stage.bottleneck.anchor_analysis.enter  # type: ignore[union-attr]
    layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    assert precision.seconds_of_passes(stage) == (1.0, 1.0)
    assert all(torch.equal(value, before[name]) for name, value in stage.state_dict().items())
    assert all(parameter.grad is None for parameter in stage.parameters())
    assert seen == 4 * [torch.float32]  # as a latent codec is in either


def test_a_precision_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no precision 'half'; there are no, bf16, auto"):
        RunSettings(precision="half")


def test_a_run_on_a_cpu_finds_out_and_tests_do_not() -> None:
    config, _ = composed("experiment=tiny_vae", "run=cpu")
    assert config.run.precision == "auto"
    config, _ = composed("experiment=tiny_vae", "model=nano", "data=procedural", "debug=one_batch")
    assert config.run.precision == "no" and RunSettings().precision == "no"


def test_a_trial_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of clips larger than it would take, which a discriminator remembers."""
    monkeypatch.setattr(precision, "SECONDS", 0.0)
    stage = build(training("opposed", 1, frames=5, size=precision.SIZE + 16))
    float32, bfloat16 = precision.seconds_of_passes(stage)
    assert 0 < float32 < math.inf and 0 < bfloat16 < math.inf
    memory = adversary_state(stage)
    assert memory and not any(one.any() for one in memory.values())
    assert all(parameter.grad is None for parameter in stage.parameters())


def test_sums_are_in_one_order_while_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    asked: list[tuple[bool, bool]] = []

    def source(spec: ClipSpec) -> ProceduralClips:
        asked.append((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark))
        return clips(spec)

    for ordered in (False, True):
        train(replace(told(), run=replace(SETTINGS, deterministic=ordered)), source, None, tmp_path / str(ordered))
        assert not torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.benchmark
    assert set(asked[: len(asked) // 2]) == {(False, True)} and set(asked[len(asked) // 2 :]) == {(True, False)}
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"  # the user's
    assert equal(newest(tmp_path / "False"), newest(tmp_path / "True"))  # on a CPU there is one order


def test_a_step_that_has_no_order_is_said_and_another_error_stays_itself() -> None:
    x = torch.zeros(3)
    said = r"^run\.deterministic=true: put_ does not have a deterministic implementation"
    with pytest.raises(GnvcError, match=said), precision.in_one_order(True):
        x.put_(torch.tensor([0, 0]), torch.ones(2))
    with pytest.raises(RuntimeError, match="must match"), precision.in_one_order(True):
        _ = x + torch.zeros(2)
    assert not torch.are_deterministic_algorithms_enabled()
