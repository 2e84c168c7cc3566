"""Budgets of time, by a clock that the tests move: spans, rates, checkpoints and the end."""

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gnvc_vd.common import strict
from gnvc_vd.conventions import UsageError
from gnvc_vd.data.samples import Clips
from gnvc_vd.train.checkpoint import read_state
from gnvc_vd.train.clock import Clock
from gnvc_vd.train.loop import Trainer, identity, train
from gnvc_vd.train.settings import Optimisation, RunSettings, Span, Training, seconds_of
from tests.train.runs import SETTINGS, clips, newest, training

SPANS = (Span(300, 1, 16, 1), Span(100, 5, 16, 2))
RUN = replace(SETTINGS, log_every=0, save_every=0, keep=100)


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def told(budget: str | None = "400s", **run: object) -> Training:
    one = training("warmup", run=replace(RUN, budget=budget, **run))  # type: ignore[arg-type]
    return replace(one, stage=replace(one.stage, spans=SPANS, optimisation=Optimisation(1e-3, "cosine", warmup=40)))


class Blank(Clips):
    """Clips of nothing, in no time."""

    def __getitem__(self, number: int) -> Tensor:
        return torch.zeros(3, 1, 16, 16, dtype=torch.uint8)


class Sitting:
    """A training whose steps cost time and nothing else.

    Args:
        seconds: of each step.
        judged: of a validation.
    """

    def __init__(self, one: Training, folder: Path, seconds: float = 2.0, judged: float = 0.0) -> None:
        self.hands = Hands()
        self.trainer = Trainer(one, folder, self.hands)
        self.steps: list[tuple[Span, float, float, list[int]]] = []  # span, place, rate, samples
        self.scores: list[int] = []  # the steps after which it was judged

        def step(passes: list[tuple[list[int], object]]) -> dict[str, float]:
            trainer = self.trainer
            place = trainer.clock.planned_step(trainer.step)
            rate = one.stage.optimisation.learning_rate_at(place, one.stage.steps)
            self.steps.append((trainer.span, place, rate, passes[0][0]))
            self.hands.time += seconds
            trainer.step += 1
            return {}

        def judge(*_: object) -> float:
            self.hands.time += judged
            self.scores.append(self.trainer.step)
            return 1.0

        self.trainer._step, self.trainer._validate = step, judge  # type: ignore[method-assign, assignment]

    def run(self) -> Path:
        return self.trainer.run(lambda _: Blank(), None)

    def run_until(self, stops: Callable[[], bool]) -> None:
        """Killed before a step."""
        original = self.trainer._step

        def step(passes: object) -> dict[str, float]:
            if stops():
                self.trainer.checkpoints.wait()
                raise KeyboardInterrupt
            return original(passes)  # type: ignore[arg-type]

        self.trainer._step = step  # type: ignore[method-assign, assignment]
        with pytest.raises(KeyboardInterrupt):
            self.run()


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("8min", 480), ("1.5h", 5400), ("0.5s", 0.5)])
def test_a_budget_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds and RunSettings(budget=text).seconds == seconds


@pytest.mark.parametrize("text", ["", "8", "min", "8 min", "-8min", "0s", "8m", "1e3s", "8min30s", "nan s"])
def test_anything_else_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UsageError, match=r"a budget is a positive time such as 90s, 8min or 1\.5h: not"):
        strict.parse(RunSettings, {"budget": text}, "run")


def test_a_planned_step_is_the_step_or_the_share_of_the_time() -> None:
    hands = Hands()
    by_steps, by_time = (Clock(told(one).stage, told(one).run, hands) for one in (None, "200s"))
    hands.time += 50
    assert by_steps.planned_step(7) == 7 and by_time.planned_step(7) == 100 and by_time.seconds == 50
    by_time.spent = 25  # of earlier sittings
    assert by_time.planned_step(7) == 150
    by_time.ending = 50  # what a validation will take
    assert by_time.planned_step(7) == 200
    by_time.ending = 1000  # at most half of it all
    assert by_time.planned_step(7) == 300
    hands.time += 1000
    assert by_time.planned_step(7) == 400


@pytest.mark.parametrize("seconds", [4.0, 10.0])
def test_spans_take_their_shares_of_the_time_and_rates_follow_it(seconds: float, tmp_path: Path) -> None:
    """400 steps planned, 400 seconds given: so many steps as fit, in the same course."""
    sitting = Sitting(told(), tmp_path, seconds)
    sitting.run()
    assert [(span, len(list(steps))) for span, steps in groupby(one[0] for one in sitting.steps)] == [
        (SPANS[0], 300 / seconds),
        (SPANS[1], 100 / seconds),
    ]
    places = [place for _, place, _, _ in sitting.steps]
    assert places == pytest.approx([seconds * step for step in range(int(400 / seconds))])
    rates = [rate for _, _, rate, _ in sitting.steps]
    assert rates[0] == 1e-3 / 40 and max(rates) == rates[round(40 / seconds)] == pytest.approx(1e-3)
    assert rates[-1] < 2e-5
    numbers = [number for *_, samples in sitting.steps for number in samples]
    assert len(set(numbers)) == len(numbers)  # no clip twice


@pytest.mark.parametrize("kept_going", [30, 130])
def test_sittings_share_a_budget(kept_going: int, tmp_path: Path) -> None:
    """Stopped twice: a checkpoint says what was spent, what came after it is done again by nobody's clock."""
    first = Sitting(told(), tmp_path)
    first.run_until(lambda: len(first.steps) == kept_going)
    saved = read_state(newest(tmp_path))
    assert saved.seconds == 2 * saved.step <= 2 * kept_going
    second = Sitting(told(), tmp_path)
    assert second.trainer.step == saved.step and second.trainer.clock.planned_step(saved.step) == saved.seconds
    second.run_until(lambda: len(second.steps) == 10)
    third = Sitting(told(), tmp_path)
    done = third.trainer.step
    third.run()
    assert done + len(third.steps) == 200 == read_state(newest(tmp_path)).step
    assert read_state(newest(tmp_path)).seconds == 400


def test_a_kill_loses_a_minute_at_most(tmp_path: Path) -> None:
    """At every step: the newest checkpoint is not older than a minute, however long a validation takes."""
    sitting = Sitting(told("1500s", validate_every=37), tmp_path, seconds=9.0, judged=30.0)
    lost = []
    original = sitting.trainer._step

    def step(passes: object) -> dict[str, float]:
        sitting.trainer.checkpoints.wait()
        lost.append(sitting.trainer.clock.seconds - read_state(newest(tmp_path)).seconds)
        return original(passes)  # type: ignore[arg-type]

    sitting.trainer._step = step  # type: ignore[method-assign, assignment]
    sitting.run()
    assert len(lost) > 90 and 30 < max(lost) <= 60


def test_the_end_is_in_the_budget(tmp_path: Path) -> None:
    """What a validation takes is measured before the first step, and left for the last one."""
    sitting = Sitting(told(), tmp_path, judged=50.0)
    begun = sitting.hands.time
    last = sitting.run()
    assert 400 <= sitting.hands.time - begun <= 402  # and what is left of a step
    steps = sitting.trainer.step
    assert sitting.scores == [0, steps] and steps == (400 - 100) / 2
    state = read_state(last)
    assert state.step == steps and state.score == 1.0 and state.ending == 50


def test_a_training_whose_time_is_over_ends_at_once(tmp_path: Path) -> None:
    sitting = Sitting(told(), tmp_path, seconds=10.0)
    sitting.run()
    again = Sitting(told(), tmp_path, seconds=10.0)
    again.run()
    assert again.steps == [] and again.scores == []
    longer = Sitting(told("600s"), tmp_path, seconds=10.0)
    longer.run()
    assert longer.trainer.step == 60


def test_there_is_one_step_at_least(tmp_path: Path) -> None:
    sitting = Sitting(told("10s"), tmp_path, seconds=30.0, judged=20.0)
    assert read_state(sitting.run()).step >= 1


def test_a_budget_is_no_other_training_and_true_steps_are_made(tmp_path: Path) -> None:
    """With steps that compute: half a second by our clock for each."""
    hands, one = Hands(), training("warmup", 4, frames=5, run=replace(SETTINGS, budget="4s", validate_every=0))
    assert identity(one) == identity(replace(one, run=SETTINGS))
    trainer = Trainer(one, tmp_path, hands)
    original = trainer._step

    def step(passes: object) -> dict[str, float]:
        hands.time += 0.5
        return original(passes)  # type: ignore[arg-type]

    trainer._step = step  # type: ignore[method-assign, assignment]
    trainer.run(clips, clips)
    assert read_state(newest(tmp_path)).step == 8 and read_state(newest(tmp_path)).score is not None
    by_steps = train(training("warmup", 4, frames=5), clips, None, tmp_path / "by steps")
    assert read_state(by_steps).seconds == 0
