"""Steps from tensors that stay: the same numbers as steps made anew. A CPU has no graphs; it calls what they hold."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gnvc_vd.conventions import GnvcError
from gnvc_vd.train import capture
from gnvc_vd.train.capture import CapturedSteps
from gnvc_vd.train.log import FIGURES, read_figures
from gnvc_vd.train.loop import Trainer, train
from gnvc_vd.train.settings import Model, Rate, Span, Training
from gnvc_vd.train.setup import build
from gnvc_vd.train.stages.codec_stage import CodecStage
from gnvc_vd.train.stages.stage import StaticNumbers, Step
from tests.train.runs import SETTINGS, clips, equal, stopped_after, training

CAPTURED = replace(SETTINGS, capture=True)
META = torch.device("meta")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were a device that captures: all but the graphs themselves."""
    monkeypatch.setattr(capture, "unsupported_reason", lambda *_: None)


def told(phase: str, steps: int = 4, **options: Any) -> Training:
    """Rotations of two lengths and more, a quality that widens, and two spans of clips."""
    one = training(phase.removeprefix("transform ").removesuffix(" seen"), steps, **options)
    spans = (Span(steps // 2, 5, 32, 2), Span(steps - steps // 2, 9, 32, 2))
    kind = "transform" if phase.startswith("transform") else None
    model = Model("nano", begin="random", bottleneck=kind)
    stage = replace(one.stage, spans=spans)
    if phase.endswith("seen"):
        trains = ("decoder",) if one.stage.phase == "vae" else ("correction", "adaptor")
        stage = replace(stage, trains=trains, weights=replace(stage.weights, lattice=1, adversarial=1))
    return replace(one, model=model, stage=stage, rate=Rate(widening=True))


def captured(one: Training) -> Training:
    return replace(one, run=CAPTURED)


def losses(folder: Path) -> list[dict[str, float]]:
    """Everything that is the same whenever it is run."""
    lines = read_figures(folder / FIGURES)
    return [{name: value for name, value in line.items() if name != "clips_per_second"} for line in lines]


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param(name, marks=() if name in ("prior", "transform warmup") else pytest.mark.slow)
        for name in ("vae", "vae seen", "prior", "warmup", "latent", "pixel", "transform warmup", "transform latent")
    ],
)
def test_captured_steps_are_the_steps_also_after_a_stop(phase: str, tmp_path: Path, on_a_cpu: None) -> None:
    plain = told(phase)
    eager = train(plain, clips, None, tmp_path / "eager")
    whole = train(captured(plain), clips, None, tmp_path / "whole")
    assert equal(whole, eager) and losses(tmp_path / "whole") == losses(tmp_path / "eager")
    stopped_after(captured(plain), 2, tmp_path / "parts")
    assert equal(train(captured(plain), clips, None, tmp_path / "parts"), eager)


def test_a_run_goes_on_either_way(tmp_path: Path, on_a_cpu: None) -> None:
    plain = told("transform warmup")
    eager = train(plain, clips, None, tmp_path / "eager")
    stopped_after(plain, 2, tmp_path / "parts")
    assert equal(train(captured(plain), clips, None, tmp_path / "parts"), eager)


def test_tensors_stay_for_all_steps_of_a_variant_and_variants_are_what_differs_in_shape(
    tmp_path: Path, on_a_cpu: None
) -> None:
    one = told("transform latent", 24)
    one = replace(captured(one), stage=replace(one.stage, spans=(Span(24, 9, 32, 1),), continuation=0.5))
    trainer = Trainer(one, tmp_path)
    steps = trainer.captured
    assert isinstance(steps, CapturedSteps)
    seen: dict[int, set[tuple[int, ...]]] = {}
    original = steps._update

    def update(variant: capture.Variant, step: Step) -> None:
        original(variant, step)
        tensors = [variant.clips, *variant.numbers._tensors]
        seen.setdefault(id(variant), set()).add(tuple(tensor.data_ptr() for tensor in tensors))

    steps._update = update  # type: ignore[method-assign]
    trainer.run(clips, None)
    assert isinstance(trainer.stage, CodecStage)
    clip = torch.zeros(1, 3, 9, 32, 32, dtype=torch.uint8)
    wanted = {trainer.stage.variant(clip, Step(0, number, 24, [number])) for number in range(24)}
    assert len(wanted) > 3 and {rotation for rotation, _ in wanted} >= {2, 3}
    assert {key[2:] for key in steps.variants} == wanted
    assert len(seen) == len(wanted) and all(len(places) == 1 for places in seen.values())


def test_figures_are_asked_for_where_they_are_logged_alone(
    tmp_path: Path, on_a_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    original = CapturedSteps.figures
    monkeypatch.setattr(CapturedSteps, "figures", lambda self: asked.append(0) or original(self))
    one = training("warmup", 9, frames=5, run=replace(CAPTURED, log_every=4))
    train(one, clips, None, tmp_path)
    assert [line["step"] for line in losses(tmp_path)] == [1, 4, 8, 9] and len(asked) == 4


@pytest.mark.parametrize(("save_every", "taken"), [(0, 5), (4, 4)])
def test_weights_stand_still_from_the_first_loss_that_is_not_finite(
    save_every: int, taken: int, tmp_path: Path, on_a_cpu: None
) -> None:
    """Noticed when figures are asked for, or before a checkpoint would count the steps that were none."""
    one = training("prior", 8, frames=5, run=replace(CAPTURED, log_every=5, save_every=save_every))
    trainer = Trainer(one, tmp_path)
    steps, live, rows = trainer.captured, trainer.ema.live, []
    assert steps is not None
    original = steps._update

    def update(variant: capture.Variant, step: Step) -> None:
        if step.number == 2:  # of this step's noise alone
            variant.numbers._tensors[-1].fill_(float("nan"))
        original(variant, step)
        rows.append([value.detach().clone() for value in live.values()])

    steps._update = update  # type: ignore[method-assign]
    with pytest.raises(GnvcError, match=r"step 2: .*not finite; samples \[4, 5\]; no weight was changed"):
        trainer.run(clips, None)
    same = [all(map(torch.equal, rows[step], rows[step + 1])) for step in range(taken - 1)]
    assert (
        same == [False, True, True, True][: taken - 1] and len(rows) == taken and trainer.checkpoints.latest() is None
    )
    assert all(one.isfinite().all() for one in rows[-1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "no CUDA device"),
        ({"accumulate": 2}, "no CUDA device"),
    ],
)
def test_where_there_is_nothing_to_capture_one_sentence_says_so(
    change: dict[str, int], sentence: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = training("warmup", 1, frames=5, run=replace(CAPTURED, **change))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "gnvc_vd"):
        trainer = Trainer(one, tmp_path)
    assert trainer.captured is None and [record.message for record in caplog.records] == [
        f"steps are not captured: there is {sentence}"
    ]


def test_each_obstacle_has_its_reason() -> None:
    class Elsewhere:
        device, num_processes = torch.device("cuda"), 1

    def reason(one: Training, processes: int = 1) -> str | None:
        place = Elsewhere()
        place.num_processes = processes
        return capture.unsupported_reason(one, place)  # type: ignore[arg-type]

    plain = captured(training("pixel"))
    assert reason(plain) is None
    assert reason(plain, processes=2) == "several processes take part"
    assert "passes" in str(reason(replace(plain, run=replace(CAPTURED, accumulate=2))))
    assert "compiled" in str(reason(replace(plain, run=replace(CAPTURED, compile=True))))
    assert "checkpointing" in str(reason(replace(plain, model=replace(plain.model, checkpointing=True))))


class OnOneDevice(TorchDispatchMode):
    """Fails where the device is given a tensor of the host; single numbers go with a kernel, but are not copied."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        if any(isinstance(one, Tensor) and one.device == META for one in tree_leaves((args, kwargs, made))):
            copied = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
            away = [tuple(one.shape) for one in given if one.device != META and (one.ndim or copied)]
            assert not away, f"{func} takes a tensor of the host, of shape {away[0]}"
        return made


@pytest.fixture
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which a device without data does not have."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


@contextmanager
def nothing_is_made_of_lists(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.tensor(…, device=…) copies from the host, which no dispatch sees where the device holds no data."""

    def checked(make: Callable[..., Tensor], data: object, **options: Any) -> Tensor:
        away = options.get("device") not in (None, torch.device("cpu")) and not isinstance(data, Tensor)
        assert not away, f"a tensor is made of the host's {data}"
        return make(data, **options)

    with monkeypatch.context() as patched:
        for make in (torch.tensor, torch.as_tensor):
            patched.setattr(torch, make.__name__, partial(checked, make))
        yield


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param(name, marks=() if name in ("vae seen", "prior", "transform latent") else pytest.mark.slow)
        for name in (
            "vae",
            "vae seen",
            "prior",
            "warmup",
            "latent",
            "pixel",
            "transform latent",
            "transform pixel seen",
        )
    ],
)
def test_no_step_waits_for_its_device_or_copies_from_the_host(
    phase: str, monkeypatch: pytest.MonkeyPatch, no_autocast: None
) -> None:
    """On a device without data, waiting fails and copies from elsewhere are seen; a second step has all its numbers."""
    one = told(phase)
    one = replace(one, stage=replace(one.stage, coarsest=1.5 if phase == "vae" else 0.0), rate=Rate(thrift=0.1))
    stage = build(one).to(META)
    batch, kept = torch.zeros(2, 3, 9, 32, 32, dtype=torch.uint8, device=META), StaticNumbers(META)
    step = Step(0, 3, 4, [6, 7])
    stage(batch, kept.fill(step)).total.backward()
    step = kept.fill(step)
    with nothing_is_made_of_lists(monkeypatch), OnOneDevice():
        loss = stage(batch, step)
        loss.total.backward()
    assert loss.total.device == META and any(parameter.grad is not None for parameter in stage.parameters())
