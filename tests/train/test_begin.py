"""How a latent codec begins: measured on the first clips, the same every time, kept with the run."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gnvc_vd.conventions import GnvcError
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.procedural import ProceduralClips
from gnvc_vd.presets import BottleneckKind
from gnvc_vd.train.export import export, load_run
from gnvc_vd.train.log import FIGURES, read_figures
from gnvc_vd.train.loop import Trainer, train
from gnvc_vd.train.settings import Model, Training
from gnvc_vd.train.stages.codec_stage import ROTATIONS, START, CodecStage
from gnvc_vd.train.stages.stage import Step
from tests.train.runs import SETTINGS, clips, equal, stopped_after, training

KINDS: tuple[BottleneckKind, ...] = ("contextual", "transform")


def measured(kind: BottleneckKind, steps: int = 2, begin: str | None = None) -> Training:
    told = training("warmup", steps, frames=9, run=replace(SETTINGS, save_every=1, qualities=(0, 63), clips=1))
    return replace(told, model=Model("nano", bottleneck=kind, begin=begin))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_after_the_start_changes_nothing(kind: BottleneckKind, tmp_path: Path) -> None:
    whole = train(measured(kind, 3), clips, None, tmp_path / "whole")
    stopped_after(measured(kind, 3), 2, tmp_path / "stopped")
    assert equal(whole, train(measured(kind, 3), clips, None, tmp_path / "stopped"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_run_measured_another_begins_with(kind: BottleneckKind, tmp_path: Path) -> None:
    own = train(measured(kind), clips, None, tmp_path / "own")
    again = train(measured(kind, begin=str(tmp_path / "own" / START)), clips, None, tmp_path / "again")
    assert equal(own, again)


def test_the_points_of_step_0_are_of_the_measured_codec(tmp_path: Path) -> None:
    """Before anything is trained its bytes are counted, and quality means what it will."""
    train(measured("transform", 1), clips, clips, tmp_path)
    first = read_figures(tmp_path / FIGURES)[0]
    assert first["step"] == 0 and first["validation_bpp_63"] > 1.2 * first["validation_bpp_0"] > 0


def test_it_is_measured_on_the_clips_of_the_first_steps(tmp_path: Path) -> None:
    train(measured("transform", 2), clips, None, tmp_path)
    stage, _ = load_run(tmp_path, which="live")
    source = ProceduralClips(ClipSpec(9, 32, 32, seed=0))
    seen = torch.cat([stage.vae.encode(source[number][None].float() / 127.5 - 1) for number in range(4)])
    mean = load_file(tmp_path / START)["rotation.mean"]
    assert torch.allclose(mean, seen.mean((0, 2, 3, 4)), atol=2e-3)


def test_an_export_has_the_start_in_it(tmp_path: Path) -> None:
    from gnvc_vd import load

    train(measured("transform"), clips, None, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "model")
    codec, start = load(tmp_path / "model").bottleneck, load_file(tmp_path / "run" / START)
    assert codec.preset.kind == "transform"
    for name, value in start.items():
        if name != "rotation.carry":  # it trains
            assert torch.equal(codec.state_dict()[name], value)


def test_a_file_of_another_codec_s_statistics_is_refused(tmp_path: Path) -> None:
    train(measured("contextual"), clips, None, tmp_path / "other")
    with pytest.raises(GnvcError, match="do not fit"):
        train(measured("transform", begin=str(tmp_path / "other" / START)), clips, None, tmp_path / "run")


def test_every_length_of_rotation_is_drawn_and_the_usual_one_most_often() -> None:
    stage = Trainer(measured("transform"), Path("/nowhere")).stage
    assert isinstance(stage, CodecStage)
    drawn = Counter(stage._rotation(Step(0, number, 500, [0]), 9) for number in range(500))
    assert set(drawn) == set(range(1, 10)) and drawn.most_common(1)[0][0] == 7
    assert abs(drawn[7] / 500 - ROTATIONS.count(7) / len(ROTATIONS)) < 0.06
    assert {stage._rotation(Step(0, number, 500, [0]), 3) for number in range(100)} == {1, 2, 3}
