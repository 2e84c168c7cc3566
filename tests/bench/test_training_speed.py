"""The training bench: it takes the steps that it times, and its ratios follow from its rates."""

import pytest
import torch
from torch import nn

from gnvc_vd.bench import training_speed
from gnvc_vd.bench.harness import Report
from gnvc_vd.entropy.integer import IntegerConv
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.presets import preset

NANO = preset("nano").contextual


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_speed, "SIDE", 8)


def test_each_model_has_a_rate_and_a_ratio_to_the_first() -> None:
    report, models = Report("training"), [("one", Contextual(NANO)), ("another, slower", Contextual(NANO))]
    training_speed.add_rows(report, models, clips=2)
    figures = report.figures
    assert set(figures) == {
        f"training_{name}_{figure}" for name in ("one", "another_slower") for figure in ("clips_per_second", "ratio")
    }
    ratio = figures["training_another_slower_clips_per_second"] / figures["training_one_clips_per_second"]
    assert figures["training_one_ratio"] == 1 and figures["training_another_slower_ratio"] == pytest.approx(ratio, 2e-3)
    assert "×" not in report.rows[0][1] and "× the clips a second" in report.rows[1][1]
    for _, model in models:
        assert any(one.grad is not None and one.grad.abs().sum() > 0 for one in model.parameters())


@torch.inference_mode()
def test_a_step_has_gradients_where_its_caller_follows_none() -> None:
    with torch.inference_mode(False):
        model, latents = Contextual(NANO).train(), torch.randn(2, 16, 3, 8, 8)
    training_speed.train(model, latents)
    assert all(one.grad is not None for one in model.parameters())


@pytest.mark.parametrize(("kind", "times"), [(Contextual, 1), (training_speed.QuantiseEveryCall, 3)])
def test_the_stock_way_quantises_for_every_latent(
    kind: type[Contextual], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls, quantise = kind(NANO), list[nn.Module](), IntegerConv._quantise
    monkeypatch.setattr(IntegerConv, "_quantise", lambda layer: calls.append(layer) or quantise(layer))
    training_speed.train(model.train(), torch.randn(2, 16, 4, 8, 8))
    assert calls.count(model.entropy.enter) == times
