"""The refinement bench: what it counts is what a transformer does, and its shares follow from its seconds."""

from functools import partial

import pytest
import torch

from gnvc_vd.bench import refine_speed as refine
from gnvc_vd.presets import preset


def test_operations_grow_with_steps_and_pixels_as_a_transformers_do() -> None:
    small, steps, large = (
        refine.operations(preset("nano"), *case) for case in (((64, 64), 1), ((64, 64), 5), ((128, 64), 1))
    )
    assert steps == 5 * small
    assert 2 * small < large < 4 * small  # products grow with the tokens, attention with their square


@pytest.mark.slow
def test_the_share_is_operations_over_time_over_the_devices_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # without C++
    setting = refine.Setting("nano", "cpu", torch.float32, ((32, 32),), 64)
    report = refine.measure(setting=setting, sizes=((64, 64),), compile=True)
    figures = report.figures
    operations = refine.operations(preset("nano"), (64, 64), 5)
    for how in ("eager", "compiled"):
        expected = operations / figures[f"refine_64p_{how}_5_s"] / (1e12 * figures["matrix_teraops"])
        assert figures[f"refine_64p_{how}_5_share"] == pytest.approx(expected, rel=2e-3)
    assert "attention native" in report.title
