"""Which samples a step takes, at what rate, and with which random numbers."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import Tensor

from gnvc_vd.common.strict import without_defaults
from gnvc_vd.conventions import UsageError
from gnvc_vd.data.samples import Clips, Draws, LoaderOptions
from gnvc_vd.train.loop import identity
from gnvc_vd.train.plan import LOSS, STEP, BatchDraws, Share, endless_batches, seeds
from gnvc_vd.train.settings import Model, Optimisation, Rate, RunSettings, Span, Stage, Training, Weights

SPANS = (Span(3, 5, 32, 4), Span(2, 9, 32, 8))
STAGE = Stage("codec", ("codec",), SPANS, Weights(decoded=1))
CPU = torch.device("cpu")
HERE = LoaderOptions()


def test_spans_follow_one_another_and_samples_are_numbered_through() -> None:
    assert STAGE.steps == 5 and STAGE.spans_in_time() == [(SPANS[0], 0, 3), (SPANS[1], 3, 5)]
    assert [STAGE.span_at(step).frames for step in range(5)] == [5, 5, 5, 9, 9]
    assert [STAGE.first_sample(step) for step in range(6)] == [0, 4, 8, 12, 20, 28]


@pytest.mark.parametrize(("processes", "passes"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)])
def test_a_step_is_the_same_samples_for_any_processes_and_passes(processes: int, passes: int) -> None:
    for step in range(5):
        parts = [Share(STAGE, rank, processes, passes).numbers(step) for rank in range(processes)]
        numbers = [number for rank in parts for one in rank for number in one]
        assert numbers == list(range(STAGE.first_sample(step), STAGE.first_sample(step + 1)))
        assert len({len(one) for rank in parts for one in rank}) == 1


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    two = replace(STAGE, spans=(Span(3, 5, 32, 2),))
    with pytest.raises(UsageError) as error:
        Share(two, 0, 8, 1)
    assert str(error.value) == (
        "a batch of 2 clips cannot be divided over 8 processes × 1 passes: 2 processes train one rate, so train 4 "
        "rates beside one another (rate=…), or give a batch that they divide (stage.spans.0.batch=8)"
    )
    with pytest.raises(UsageError, match=r"passes: give a batch that they divide \(stage.spans.0.batch=6\)$"):
        Share(STAGE, 0, 2, 3)
    with pytest.raises(UsageError, match="3 processes"):
        Share(STAGE, 0, 3, 1)


def test_draws_follow_from_seed_and_number_alone() -> None:
    together, alone = BatchDraws(1, [4, 5, 6], CPU), BatchDraws(1, [5], CPU)
    assert torch.equal(together.uniform(3)[1:2], alone.uniform(3))
    assert torch.equal(together.normal(2, 2)[1:2], alone.normal(2, 2))
    other = BatchDraws(2, [5], CPU)
    assert not torch.equal(other.uniform(3), BatchDraws(1, [5], CPU).uniform(3))
    many = BatchDraws(0, range(200), CPU)
    uniform, normal = many.uniform(50), many.normal(50)
    assert uniform.min() >= 0 and uniform.max() < 1 and uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert normal.mean().item() == pytest.approx(0, abs=0.03) and normal.std().item() == pytest.approx(1, abs=0.03)
    assert torch.unique(uniform[:, 0]).numel() == 200
    shared = [Draws(0, step, STEP).uniform() for step in (3, 3, 4)]
    assert shared[0] == shared[1] != shared[2]


def test_seeds_are_drawn_together_as_one_by_one() -> None:
    numbers = [0, 7, 1 << 20, 1 << 33]
    for seed in (0, 5, 1 << 40):
        assert seeds(seed, numbers) == [Draws(seed, one, LOSS).generator().initial_seed() for one in numbers]


def test_steps_without_an_end_take_numbers_that_no_other_step_has() -> None:
    """Spans of 4 and of 8 clips, whichever step a clock ends the first after."""

    class Numbers(Clips):
        def __getitem__(self, number: int) -> Tensor:
            return torch.tensor(number)

    share = Share(STAGE, 1, 2, 1)
    first = [numbers for numbers, _ in islice(endless_batches(Numbers(), share, SPANS[0], 0, HERE), 3)]
    second = [numbers for numbers, _ in islice(endless_batches(Numbers(), share, SPANS[1], 3, HERE), 2)]
    assert first == [[2, 3], [10, 11], [18, 19]] and second == [[28, 29, 30, 31], [36, 37, 38, 39]]
    few = Share(replace(STAGE, samples=5), 0, 1, 1)
    assert next(endless_batches(Numbers(), few, SPANS[0], 1, HERE))[1].tolist() == [3, 4, 0, 1]  # 8 … 11 of five


def test_a_training_is_known_by_what_is_not_as_by_default() -> None:
    """So that a field which comes later leaves checkpoints what they were."""
    told = Training("one", Model("nano"), STAGE)
    assert without_defaults(STAGE.spans[0]) == {"steps": 3, "frames": 5, "size": 32, "batch": 4}
    assert without_defaults(told)["model"] == {"name": "nano"} and "rate" not in without_defaults(told)
    for same in (replace(told, name="other"), replace(told, run=RunSettings(workers=3)), replace(told, rate=Rate())):
        assert identity(same) == identity(told)
    others = [
        replace(told, seed=1),
        replace(told, rate=Rate(smallest=0.1)),
        replace(told, stage=replace(STAGE, optimisation=Optimisation(rate=2e-4))),
        replace(told, stage=replace(STAGE, spans=SPANS[::-1])),
    ]
    assert len({identity(one) for one in [told, *others]}) == 5


def test_rates_go_as_they_say() -> None:
    cosine = Optimisation(rate=2.0, schedule="cosine", warmup=10, final=0.1)
    assert [cosine.learning_rate_at(step, 110) for step in (0, 4, 9)] == pytest.approx([0.2, 1.0, 2.0])
    assert cosine.learning_rate_at(60, 110) == pytest.approx(2 * (0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2))
    assert cosine.learning_rate_at(110, 110) == pytest.approx(0.2)
    steps = Optimisation(rate=5e-5, schedule="steps", final=0.2, drops=(0.5, 0.75))
    found = [steps.learning_rate_at(step, 100) for step in (0, 49, 50, 74, 75, 99)]
    assert found == pytest.approx([5e-5, 5e-5, 5e-5 * 0.2**0.5, 5e-5 * 0.2**0.5, 1e-5, 1e-5])
    assert Optimisation(rate=3.0).learning_rate_at(77, 100) == 3.0


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ({"phase": "nap"}, "no phase 'nap'"),
        ({"trains": ("codec", "cat")}, "trains takes some of"),
        ({"trains": ()}, "trains takes some of"),
        ({"perceptual": "taste"}, "no perceptual loss"),
        ({"conditions": (0.5, 0.2, 0.2)}, "three shares"),
    ],
)
def test_an_impossible_stage_is_refused(field: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Stage(**{**vars(STAGE), **field})  # type: ignore[arg-type]
