"""The loop: exact to the bit after any stop, the same for any number of processes, and honest about what breaks."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gnvc_vd.backbone.dit import build_dit
from gnvc_vd.backbone.weights import Options, new_vae, random_backbone, save_backbone
from gnvc_vd.conventions import GnvcError
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.device import Bank, DeviceClips
from gnvc_vd.data.material import Material
from gnvc_vd.presets import RANDOM_SEED, preset
from gnvc_vd.train import loop
from gnvc_vd.train.checkpoint import EMA, MEMORY, WEIGHTS
from gnvc_vd.train.log import FIGURES, read_figures
from gnvc_vd.train.loop import Trainer, train
from gnvc_vd.train.stages.codec_stage import CodecStage
from gnvc_vd.train.stages.stage import Validation
from tests.train.runs import (
    ENVIRONMENT,
    PHASES,
    SETTINGS,
    clips,
    equal,
    newest,
    stopped_after,
    tensors,
    torchrun,
    training,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "loss_curve.json"
REFRESH = "GNVC_VD_REFRESH_GOLDEN"
TOLERANCE = 1e-3  # of a loss, from one CPU's rounding to another's, over 20 steps


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


QUICK = ("prior", "warmup", "opposed")


@pytest.mark.parametrize(
    "phase", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in PHASES]
)
def test_two_steps_a_stop_and_two_more_are_four(phase: str, tmp_path: Path) -> None:
    told = training(phase, 4)
    whole = train(told, clips, None, tmp_path / "whole")
    stopped_after(told, 2, tmp_path / "parts")
    assert equal(train(told, clips, None, tmp_path / "parts"), whole)
    curves = [read_figures(tmp_path / name / FIGURES) for name in ("whole", "parts")]
    losses = [[(line["step"], line["loss"]) for line in curve] for curve in curves]
    assert losses[0] == losses[1] and [step for step, _ in losses[0]] == [1, 2, 3, 4]


def test_a_training_on_banked_clips_resumes_in_the_middle_of_a_bank(tmp_path: Path) -> None:
    """And with every clip of a bank shown once it learns what it learns without a bank."""

    def banked(uses: int) -> Callable[[ClipSpec], DeviceClips]:
        return lambda spec: DeviceClips(clips(spec), spec, Bank(3, uses), Material())

    told = training("warmup", 4)
    whole = train(told, banked(2), None, tmp_path / "whole")
    stopped_after(told, 2, tmp_path / "parts", banked(2))
    assert equal(train(told, banked(2), None, tmp_path / "parts"), whole)
    once, usual = (train(told, source, None, tmp_path / name) for name, source in (("1", banked(1)), ("0", clips)))
    assert equal(once, usual) and not equal(once, whole)


@pytest.mark.slow
def test_a_light_vae_trains_without_diffusers(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["diffusers"] = None
from pathlib import Path
from dataclasses import replace
from gnvc_vd.train.settings import Model
from gnvc_vd.train.loop import train
from tests.train.runs import clips, training
told = replace(training("vae", 1, frames=5), model=Model("tiny"))
train(told, clips, clips, Path({str(tmp_path)!r}))
"""
    subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, check=True, timeout=120)
    assert "validation_psnr" in read_figures(tmp_path / FIGURES)[-1]


def test_passes_of_a_batch_are_the_batch(tmp_path: Path) -> None:
    told = training("latent", 2)
    one = tensors(train(told, clips, None, tmp_path / "one"))
    two = replace(told, run=replace(SETTINGS, accumulate=2))
    other = tensors(train(two, clips, None, tmp_path / "two"))
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=1e-3, atol=2e-5), name


@pytest.mark.slow
def test_two_processes_do_what_one_does_and_resume_exactly(tmp_path: Path) -> None:
    torchrun("tests.train.runs", "latent", 4, 2, tmp_path / "two")
    one = tensors(train(training("latent", 4), clips, None, tmp_path / "one"))
    for name, value in tensors(newest(tmp_path / "two")).items():
        assert torch.allclose(value, one[name], rtol=2e-3, atol=1e-4), name
    # Stopped in the middle: the checkpoint of step 2 alone is left, and two processes go on from it.
    before = newest(tmp_path / "two")
    kept = before.rename(tmp_path / "four")
    torchrun("tests.train.runs", "latent", 4, 2, tmp_path / "two")
    assert equal(newest(tmp_path / "two"), kept)
    # Another number of processes goes on too, equal but for rounding.
    newest(tmp_path / "two").rename(tmp_path / "again")
    third = tensors(train(training("latent", 4), clips, None, tmp_path / "two"))
    for name, value in tensors(kept).items():
        assert torch.allclose(value, third[name], rtol=2e-3, atol=1e-4), name


@pytest.mark.slow
def test_two_processes_each_go_on_with_what_their_discriminator_remembers(tmp_path: Path) -> None:
    torchrun("tests.train.runs", "opposed", 4, 2, tmp_path / "two")
    kept = newest(tmp_path / "two").rename(tmp_path / "four")
    one, other = load_file(kept / MEMORY)["frames"]
    assert one[:4].any() and not torch.equal(one, other)
    torchrun("tests.train.runs", "opposed", 4, 2, tmp_path / "two")  # from step 2
    assert equal(newest(tmp_path / "two"), kept)


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    """AdamW's first moment after one step is a tenth of the gradient."""
    torchrun("tests.train.runs", "latent", 1, 2, tmp_path / "two")
    one = tensors(train(training("latent", 1), clips, None, tmp_path / "one"))
    two = tensors(newest(tmp_path / "two"))
    moments = [name for name in one if name.endswith("exp_avg")]
    assert len(moments) > 50
    for name in moments:
        assert (one[name] - two[name]).abs().max() <= 1e-4 * one[name].abs().max() + 1e-9, name


@pytest.mark.slow
def test_a_training_killed_at_random_moments_ends_with_the_same_weights(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.train.runs", "warmup", "40", "2", str(tmp_path / "killed")]
    whole = train(training("warmup", 40), clips, None, tmp_path / "whole")
    generator, kills = random.Random(0), 0
    while True:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        checkpoints = tmp_path / "killed" / "checkpoints"
        begun = time.monotonic()
        while process.poll() is None and not list(checkpoints.glob(".*.part")) and time.monotonic() < begun + 120:
            time.sleep(0.001)  # until it saves: some are killed inside a save, the others a while after
        if kills < 10 and process.poll() is None:
            time.sleep(generator.choice([0.0, 0.002, 0.01, 0.3]))
            process.send_signal(signal.SIGKILL)
            kills += 1
            process.wait()
            continue
        assert process.wait() == 0
        break
    assert kills == 10
    assert equal(newest(tmp_path / "killed"), whole)


@pytest.mark.slow
def test_compiled_blocks_learn_the_same_under_the_same_names(tmp_path: Path) -> None:
    """Both phases that stand on a transformer; a compiled run may go on as an eager one."""
    for phase in ("prior", "latent"):
        eager, told = training(phase, 4), training(phase, 4, run=replace(SETTINGS, compile=True))
        assert loop.identity(told) == loop.identity(eager)
        trainers = [Trainer(eager, tmp_path / phase / "eager"), Trainer(told, tmp_path / phase / "compiled")]
        for trainer in trainers:
            trainer.run(clips, None)
        modules = dict(trainers[1].stage.named_modules())
        compiled = [name for name, module in modules.items() if "forward" in vars(module)]
        assert len(compiled) == {"prior": 2, "latent": 3}[phase]
        assert all("dit.model." in name and name[:-1].endswith("blocks.") for name in compiled)
        states = [load_file(newest(trainer.folder) / WEIGHTS) for trainer in trainers]
        assert states[0].keys() == states[1].keys()
        curves = [[row["loss"] for row in read_figures(trainer.folder / FIGURES)] for trainer in trainers]
        assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_a_loss_that_is_not_finite_is_reported_with_its_batch(tmp_path: Path) -> None:
    trainer = Trainer(training("warmup", 3), tmp_path)
    weight = trainer.stage.bottleneck.anchor_analysis.enter.weight  # type: ignore[union-attr]
    with torch.no_grad():
        weight[0, 0, 0, 0] = float("nan")
    before = {name: one.detach().clone() for name, one in trainer.stage.named_parameters()}
    with pytest.raises(GnvcError, match=r"step 0: .*not finite; .*samples \[0, 1\]"):
        trainer.run(clips, None)
    for name, parameter in trainer.stage.named_parameters():
        assert torch.equal(parameter, before[name]) or name.endswith("anchor_analysis.enter.weight"), name


def first_nano(folder: Path) -> Path:
    """The backbone that the golden curve began with: its transformer was drawn from the VAE's seed, after the VAE."""
    backbone = random_backbone(preset("nano"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        new_vae(backbone.vae_preset, Options())
        backbone.dit.model.load_state_dict(build_dit(backbone.dit_preset).state_dict())
    save_backbone(backbone, folder, "first nano")
    return folder


def test_the_loss_goes_the_way_it_went(tmp_path: Path) -> None:
    """A change of results must be meant: refreshing the curve takes an explicit switch."""
    told = training("latent", 20, batch=1, frames=5)
    told = replace(told, model=replace(told.model, start=str(first_nano(tmp_path / "start"))))
    train(told, clips, None, tmp_path / "run")
    found = [line["loss"] for line in read_figures(tmp_path / "run" / FIGURES)]
    if os.environ.get(REFRESH):
        GOLDEN.write_text(json.dumps(found) + "\n")
    wanted = json.loads(GOLDEN.read_text())
    assert len(found) == 20 and found == pytest.approx(wanted, rel=TOLERANCE)
    assert np.mean(found[-5:]) < np.mean(found[:5])


def test_validation_codes_real_bytes_and_leaves_pictures(tmp_path: Path) -> None:
    told = replace(training("pixel", 1), run=replace(SETTINGS, qualities=(0, 63), clips=2))
    train(told, clips, clips, tmp_path)
    line = read_figures(tmp_path / FIGURES)[-1]
    assert 0 < line["validation_bpp_0"] < line["validation_bpp_63"] and line["validation_psnr_63"] > 0
    # A whole stream is counted: header, unit and closing unit take 50 bytes and more beside the payload.
    assert line["validation_bpp_0"] * 9 * 32 * 32 / 8 > 50
    assert (line["validation_bpp_0"] * 9 * 32 * 32 * 2 / 8) % 1 == pytest.approx(0, abs=1e-6)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "00000001-flicker.png",
        "00000001-frames.png",
    ]


def test_the_average_is_validated_and_training_goes_on_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def judge(stage: CodecStage, _: object) -> Validation:
        assert not stage.training
        seen.append({name: one.clone() for name, one in stage.named_parameters() if one.requires_grad})
        return Validation(0.0, {}, {})

    monkeypatch.setattr(CodecStage, "validate", judge)
    told = training("warmup", 2, frames=5, run=replace(SETTINGS, validate_every=1))
    last = train(told, clips, clips, tmp_path / "judged")
    average, live = load_file(last / EMA), load_file(last / WEIGHTS)
    assert len(seen) == 2 and all(torch.equal(seen[1][name], value) for name, value in average.items())
    assert any(not torch.equal(live[name], value) for name, value in average.items())
    assert equal(last, train(told, clips, None, tmp_path / "not"))


def test_a_run_says_what_it_was(tmp_path: Path) -> None:
    train(training("warmup", 1), clips, None, tmp_path)
    said = json.loads((tmp_path / "run.json").read_text())
    assert said["training"]["stage"]["optimisation"]["rate"] == 1e-3 and said["training"]["model"]["name"] == "nano"
    assert said["environment"]["packages"]["torch"] == torch.__version__ and said["environment"]["processes"] == 1


def test_another_training_does_not_go_on_in_the_same_folder(tmp_path: Path) -> None:
    train(training("warmup", 2), clips, None, tmp_path)
    with pytest.raises(GnvcError, match="another training"):
        train(replace(training("warmup", 2), seed=1), clips, None, tmp_path)


@pytest.mark.slow
def test_the_overfit_experiment_drives_its_error_down_thirty_times(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "train.py"
    command = [sys.executable, str(script), "experiment=debug_overfit", f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(command, env=ENVIRONMENT, check=False, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    found = [line["decoded"] for line in read_figures(tmp_path / FIGURES) if "loss" in line]
    assert found[-1] < found[0] / 30
