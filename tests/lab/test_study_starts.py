"""The study of starts, end to end at a small size, and the parts of study_transform.py that it shares."""

import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gnvc_vd
from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.latents import LatentIndex, encoder_identity, precompute
from gnvc_vd.data.procedural import ProceduralClips
from gnvc_vd.learned.bottleneck.contextual import BottleneckOutput
from lab import study_starts, study_transform
from lab.study_transform import BATCH, Budget, Codec, Point, Rated, at_rates, mean_at_rates, train

VIDEO = str(Path(gnvc_vd.__file__).parent / "assets" / "clips" / "city.mp4")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("stored") / "latents"
    vae, spec = load_backbone("nano").vae, ClipSpec(frames=25, height=32, width=32)
    precompute(ProceduralClips(spec), vae, folder, LatentIndex(encoder_identity(vae), spec, "made up", 3, True, 3))
    return str(folder)


def table(printed: str) -> dict[str, list[str]]:
    rows = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_each_start_is_a_row_and_alone_it_is_the_same_row(
    stored: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_transform, "LEVELS", (0, 63))
    monkeypatch.setattr(study_transform, "RATES", (0.02, 0.03))
    monkeypatch.setattr(study_starts, "RATES", (0.02, 0.03))
    monkeypatch.setattr(
        study_starts, "_decibels", "{:.6f}".format
    )  # two steps do little, and nano's pictures are noise
    command = ["nano", VIDEO, "--size", "64", "--latents", stored, "--steps", "2", "--symbols", "16"]
    assert study_starts.main(command) == 0
    rows = table(capsys.readouterr().out)
    assert list(rows) == ["codec", "contextual-random", "contextual-measured", "transform"]
    assert rows["codec"] == ["M parameters", "learning rate", "steps", "0.02", "0.03"]
    random, measured, transform = (rows[name] for name in study_starts.STARTS)
    assert random[0] == measured[0] != transform[0]  # one structure, two starts
    assert [row[1] for row in (random, measured, transform)] == [
        "0.001",
        "0.004, transforms 0.001",
        "0.004",
    ]
    assert random[2] == measured[2] == transform[2] == "2"
    for row in (random, measured, transform):
        before, after = zip(*(map(float, cell.split(" → ")) for cell in row[3:]), strict=True)
        assert all(5 < one < 15 for one in (*before, *after)) and before != after
    assert study_starts.main([*command, "--only", "contextual-measured"]) == 0
    assert table(capsys.readouterr().out) == {"codec": rows["codec"], "contextual-measured": measured}


def test_all_parameters_train_at_one_rate_or_the_other() -> None:
    latents = torch.randn(4, 16, 3, 4, 4)
    for make in study_starts.STARTS.values():
        start = make(latents, 16)
        rated = [id(parameter) for one in start.rated for parameter in one.parameters]
        wanted = [id(parameter) for parameter in start.codec.parameters() if parameter.requires_grad]
        assert sorted(rated) == sorted(wanted)


def test_a_training_is_as_long_as_its_budget() -> None:
    assert [Budget(4).part(step, 1e9) for step in (0, 2, 4)] == [0, 0.5, 1]
    assert [Budget(seconds=10).part(10**6, seconds) for seconds in (0, 5, 10)] == [0, 0.5, 1]
    assert Budget(0).part(0, 0) == 1


def test_between_two_points_psnr_is_linear_in_the_logarithm_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_transform, "RATES", (0.01, 0.02, 0.04, 0.16))
    frames = np.zeros((1, 1, 1, 3), np.uint8)
    points = [Point(0.08, 32.0, frames), Point(0.01, 20.0, frames)]  # in no order
    found = at_rates(points)
    assert found[:3] == pytest.approx([20, 24, 28]) and math.isnan(found[3])  # nothing was coded there
    lower = [Point(0.08, 30.0, frames), Point(0.01, 18.0, frames)]
    assert mean_at_rates([points, lower])[:3] == pytest.approx([19, 23, 27])


class Failing(nn.Module):
    """Its second step has no finite gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.ones(())), 0

    def forward(self, latents: Tensor, quality: Tensor) -> BottleneckOutput:
        assert quality.shape == (BATCH, 3)
        self.calls += 1
        broken = math.nan if self.calls == 2 else 1.0
        return BottleneckOutput(self.weight * latents, latents, self.weight * broken * torch.ones(BATCH, 3))


def test_a_step_without_a_finite_gradient_moves_nothing_and_is_counted() -> None:
    model = Failing()
    taken = train(cast(Codec, model), torch.randn(4, 16, 3, 4, 4), Budget(3), [Rated([model.weight], 1e-2)])
    assert taken == (2, 1) and model.calls == 3
    assert model.weight.isfinite() and model.weight < 1
