"""Every experiment composes to what it says; in the slow tier each runs two steps at nano size."""

import importlib.util
import math
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig
from hydra.errors import MissingConfigException
from hydra.utils import get_object
from omegaconf import OmegaConf

from gnvc_vd.backbone.weights import random_backbone
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.data.clips import ClipSpec, Mixture
from gnvc_vd.data.device import Bank, DeviceClips
from gnvc_vd.data.latents import LatentIndex, encoder_identity, precompute
from gnvc_vd.data.manifests import Entry, write_manifest
from gnvc_vd.data.procedural import ProceduralClips
from gnvc_vd.evaluate.variants import read_ablation
from gnvc_vd.presets import AdaptorPreset, preset
from gnvc_vd.train.compose import sources_of, training_of
from gnvc_vd.train.experiments import check_start, first_sentence
from gnvc_vd.train.log import read_figures
from gnvc_vd.train.loop import identity, train
from gnvc_vd.train.settings import Training
from tests.train.composing import CONFIGS, EVALUATIONS, EXPERIMENTS, TRY, choices, composed

TINY = [f"tiny_{phase}" for phase in ("vae", "prior", "decoder", "warmup", "latent", "pixel")]
PAPER_SPANS = [(40000, 5, 256), (30000, 9, 256), (30000, 13, 256)]
DEPTHS = {
    "none": 0,
    "every-6": 5,
    "every-5": 6,
    "every-3": 10,
    "every-2": 15,
    "every-1": 30,
}  # layers that take a hint, of 30


def training(*overrides: str) -> Training:
    return training_of(composed(*overrides)[0])


@pytest.mark.parametrize(("script", "names"), [("train", EXPERIMENTS), ("evaluate", EVALUATIONS)])
def test_a_script_alone_lists_its_experiments_and_starts_none(script: str, names: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(CONFIGS.parent / "scripts" / f"{script}.py")]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    heading, *lines = done.stdout.splitlines()
    assert f"scripts/{script}.py experiment=NAME" in heading and [line.split()[0] for line in lines] == names
    assert all(line.endswith(".") and len(line.split()) > 4 for line in lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        ("train", ["experiment=none_such"], f"there is no experiment 'none_such'; there are {', '.join(EXPERIMENTS)}"),
        (
            "evaluate",
            ["experiment=none_such"],
            f"there is no experiment 'none_such'; there are {', '.join(EVALUATIONS)}",
        ),
        ("train", ["model=none_such"], f"there is no model 'none_such'; there are {', '.join(choices('model'))}"),
        ("evaluate", ["experiment=small", "speed=1"], "there is no key 'speed': `python scripts/evaluate.py "),
        ("train", ["stage.speed=1"], "there is no key 'stage.speed': `python scripts/train.py "),
        ("train", ["debug_overfit"], "Error parsing override 'debug_overfit' missing EQUAL at '<EOF>'"),
        ("evaluate", ["experiment=small", "folder=file/out"], "cannot write file/out: Not a directory; folder=FOLDER "),
        ("train", ["hydra.run.dir=file/out"], "cannot write file/out: Not a directory; hydra.run.dir=FOLDER "),
        (
            "evaluate",
            ["experiment=uvg"],
            "codecs.gnvc-vd.ours.model has no value: give codecs.gnvc-vd.ours.model=VALUE",
        ),
        ("train", ["experiment=paper_stage2"], "trains it, and `python scripts/export.py outputs/train/paper_stage1 "),
    ],
)
def test_a_wrong_call_of_a_script_is_one_sentence(
    script: str,
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    path = str(CONFIGS.parent / "scripts" / f"{script}.py")
    monkeypatch.setattr(sys, "argv", [path, *arguments, "hydra/job_logging=none", "hydra/hydra_logging=none"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(path, run_name="__main__")
    out, messages = capfd.readouterr()
    assert end.value.code in (1, 2) and out == ""
    assert messages.startswith(f"{script}: ") and sentence in messages and messages.count("\n") == 1


@pytest.mark.parametrize(
    "name", [name for name in EXPERIMENTS if "/" in str(training(f"experiment={name}").model.start)]
)
def test_a_start_that_was_not_exported_is_said_with_the_commands_that_make_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = training(f"experiment={name}").model.start
    with pytest.raises(GnvcError, match=rf"initial model {model} does not exist: `python scripts/train\.py") as refused:
        check_start(model, CONFIGS)
    before = re.search("experiment=([a-z0-9_]+)`", str(refused.value))
    assert before and f"export.py {composed(f'experiment={before[1]}')[1].hydra.run.dir} {model}`" in str(refused.value)
    Path(model or "").mkdir(parents=True)
    check_start(model, CONFIGS)


def test_what_an_experiment_says_first_is_listed() -> None:
    assert first_sentence("# @package _global_\n# One. Two.\nkey: 1 # three\n") == "One."
    assert first_sentence("# On two\n# lines:\n#   a command\n# More.\nkey: 1\n") == "On two lines."


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_is_called_as_its_file(name: str) -> None:
    whole = training(f"experiment={name}")
    assert whole.name.startswith(name) and whole.stage.steps >= 60


def test_a_light_decoder_of_wan_learns_alone_from_wans_own() -> None:
    one = training("experiment=wan_light")
    assert (one.model.name, one.model.start, one.model.teacher) == ("wan2.1-1.3b", None, "wan2.1-1.3b")
    assert one.model.light_decoder == 128 and one.stage.trains == ("decoder",) and one.stage.perceptual == "lpips_vgg"
    weights = one.stage.weights
    assert all((weights.absolute, weights.perceptual, weights.features, weights.temporal))
    assert not any((weights.squared, weights.divergence, weights.adversarial, one.stage.coarsest))
    assert training("experiment=wan_light", "stage.weights.adversarial=0.5").stage.weights.adversarial == 0.5
    small = training("experiment=wan_light", *TRY)
    assert small.model == replace(one.model, name="nano", teacher="nano", bfloat16=False, checkpointing=False)


def test_any_experiment_can_be_tried_without_files() -> None:
    whole, small = training("experiment=paper_stage2"), training("experiment=paper_stage2", *TRY)
    assert small.model.name == "nano" and small.model.start is None and small.stage.steps == 2
    assert small.stage.weights == whole.stage.weights and small.stage.trains == whole.stage.trains


def test_the_papers_first_stage_is_the_papers() -> None:
    one = training("experiment=paper_stage1")
    assert [(span.steps, span.frames, span.size) for span in one.stage.spans] == PAPER_SPANS
    assert one.stage.steps == 100_000 and {span.batch for span in one.stage.spans} == {8}
    assert [span.short_side for span in one.stage.spans] == [None, 512, 512]
    assert (one.rate.smallest, one.rate.largest) == (0.5, 0.5) and one.rate.quality is not None
    assert {one.stage.optimisation.learning_rate_at(step, 100_000) for step in (0, 50_000, 99_999)} == {1e-4}
    weights = one.stage.weights
    assert (weights.refined, weights.cfm, weights.pixel, weights.perceptual) == (1, 1, 0, 0)
    assert one.stage.sigma_0 == pytest.approx(1 - 0.7) and one.stage.unrolled == 5 and one.stage.continuation == 0
    assert one.model.name == "wan2.1-1.3b" and one.adaptor is None
    assert preset("wan2.1-1.3b").adaptor.layers == tuple(range(0, 30, 2))


def test_what_is_ours_before_and_in_the_papers_first_stage_can_be_left_out() -> None:
    one, warmup = training("experiment=paper_stage1"), training("experiment=paper_warmup")
    assert warmup.stage.trains == ("codec",) and warmup.model == one.model and warmup.rate == one.rate
    assert (one.model.start, one.model.begin, one.stage.cfm_detached) == (None, "random", True)
    after = training("experiment=paper_stage1", f"model.start=outputs/models/{warmup.name}", "model.begin=null")
    assert replace(after, model=one.model) == one
    published = ["adaptor.sees_latents=false", "stage.cfm_detached=false", "stage.weights.decoded=0"]
    bare = training("experiment=paper_stage1", *published)
    assert bare.adaptor == replace(preset("wan2.1-1.3b").adaptor, sees_latents=False)
    assert bare.stage == replace(one.stage, cfm_detached=False, weights=replace(one.stage.weights, decoded=0.0))


@pytest.mark.parametrize("point", [0.05, 0.1, 0.25, 0.5])
def test_the_papers_second_stage_is_the_papers_at_each_rate(point: float) -> None:
    config, whole = composed("experiment=paper_stage2", f"rate=lambda-{point}")
    two = training_of(config)
    assert (two.rate.smallest, two.rate.largest) == (point, point) and two.name == f"paper_stage2-{point}"
    assert two.stage.steps == 100_000 and two.stage.spans[0].batch == 2
    optimisation, weights = two.stage.optimisation, two.stage.weights
    assert optimisation.learning_rate_at(0, 100_000) == 5e-5 and optimisation.learning_rate_at(
        99_999, 100_000
    ) == pytest.approx(1e-5)
    assert (weights.pixel, weights.perceptual, weights.decoded, weights.refined, weights.cfm) == (1, 1, 1, 1, 0)
    assert two.stage.perceptual == "lpips_vgg" and two.model.start == "outputs/models/paper_stage1"
    assert f"{whole.hydra.sweep.dir}/{whole.hydra.sweep.subdir}" == f"outputs/train/paper_stage2-{point}"


def test_ablations_leave_out_what_they_say_and_keep_the_rest() -> None:
    one, two = training("experiment=paper_stage1"), training("experiment=paper_stage2")
    bare = [training(f"experiment=ablation_no_refinement_stage{number}") for number in (1, 2)]
    for ablation, whole in zip(bare, (one, two), strict=True):
        assert ablation.stage.unrolled == 0 and ablation.stage.trains == ("codec",)
        assert ablation.stage.spans == whole.stage.spans and ablation.rate == whole.rate
        assert ablation.stage.weights == replace(whole.stage.weights, refined=0.0, cfm=0.0)
    no_first, no_second = training("experiment=ablation_no_stage1"), training("experiment=ablation_no_stage2")
    assert no_first.stage.weights == two.stage.weights and no_first.model.start is None
    assert no_first.stage.steps == one.stage.steps + two.stage.steps
    assert no_second.stage.weights == one.stage.weights and no_second.stage.spans == two.stage.spans
    assert no_second.model.start == two.model.start


def test_the_ablation_of_depth_is_of_these_layers() -> None:
    ablation = read_ablation(CONFIGS / "ablate" / "depth.yaml")
    for name, variant in ablation.variants.items():
        for phase in ("stage1", "stage2"):
            one = training(f"experiment={ablation.phases[phase].experiment}", *variant.settings).adaptor
            every = name.removeprefix("every-")
            layers = tuple(range(0, 30, int(every))) if every != "none" else ()
            assert one == AdaptorPreset(layers) and len(layers) == DEPTHS[name]


def test_an_adaptor_is_the_presets_but_for_what_is_given() -> None:
    own = preset("tiny").adaptor
    assert training("model=tiny").adaptor is None  # the preset's, whatever becomes of it
    assert training("model=tiny", "adaptor=none").adaptor == replace(own, layers=())
    assert training("model=tiny", "adaptor.layers=[1,5]").adaptor == replace(own, layers=(1, 5))
    assert training("model=tiny", "adaptor.every=4").adaptor == replace(own, layers=(0, 4))
    assert training("model=tiny", "adaptor.lora_rank=2").adaptor == replace(own, lora_rank=2)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["adaptor.every=2", "adaptor.layers=[0]"], "give one of them"),
        (["adaptor=none", "adaptor.every=2"], "give one of them"),
        (["adaptor.every=0"], "at least 1: not 0"),
        (["adaptor.every=1.5"], "whole number"),
        (["adaptor.layers=half"], "adaptor.layers should be"),
    ],
)
def test_an_adaptor_that_cannot_be_meant_is_refused(given: list[str], sentence: str) -> None:
    with pytest.raises(GnvcError, match=sentence):
        training(*given)


def test_one_model_for_all_rates_widens_in_its_warm_up_and_goes_on_from_there() -> None:
    phases = [training(f"experiment=variable_rate_{phase}") for phase in ("warmup", "stage1", "stage2")]
    assert [one.model.start for one in phases] == [None, *(f"outputs/models/{one.name}" for one in phases[:2])]
    assert [one.rate.widening for one in phases] == [True, False, False]
    assert all(one.rate.quality is None and (one.rate.smallest, one.rate.largest) == (0.02, 2.0) for one in phases)
    assert [one.stage.continuation > 0 for one in phases] == [False, True, True]
    assert phases[1].stage.spans == training("experiment=paper_stage1").stage.spans


def test_the_transform_codecs_phases_go_on_from_its_measured_start_and_end_on_its_usual_rotation() -> None:
    phases = [training(f"experiment=transform_{phase}") for phase in ("warmup", "stage1", "stage2")]
    others = [training(f"experiment=variable_rate_{phase}") for phase in ("warmup", "stage1", "stage2")]
    assert [one.model.start for one in phases] == [None, *(f"outputs/models/{one.name}" for one in phases[:2])]
    assert [one.model.begin for one in phases] == ["measured", None, None]
    assert {one.model.bottleneck for one in phases} == {"transform"}
    assert {one.model.bottleneck for one in others} == {None} and preset("wan2.1-1.3b").kind == "contextual"
    assert len({one.rate for one in phases}) == 1  # a quality means the same λ, and an encoder rounds the same way
    rate = phases[0].rate
    assert (rate.smallest, rate.largest, rate.thrift, rate.quality, rate.widening) == (0.005, 12.0, 0.08, None, False)
    small = training("experiment=tiny_warmup")
    assert phases[0].stage.optimisation == small.stage.optimisation and rate == small.rate
    peaks = [one.stage.optimisation.rate for one in phases]
    assert peaks == sorted(peaks, reverse=True) and peaks[1] == others[1].stage.optimisation.rate
    for one, other in zip(phases, others, strict=True):
        assert one.stage.spans[-1].frames == 25 and one.stage.optimisation.weight_decay == 0
        assert (one.data, one.run, one.stage.weights) == (other.data, other.run, other.stage.weights)
        assert one.stage.steps == other.stage.steps and {span.batch for span in one.stage.spans} == {
            span.batch for span in other.stage.spans
        }
    assert phases[0].stage.spans[0].frames == 33  # all nine latents of the longest rotation are measured


def test_all_of_a_long_configuration_of_data_counts() -> None:
    """Beyond what a run's record shows of it."""
    part = "{weight: %s, source: {_target_: gnvc_vd.data.procedural.ProceduralClips}}"

    def told(last: int) -> Training:
        parts = [part % 1] * 19 + [part % last]
        return training("experiment=tiny_vae", "data=procedural", f"data.train.parts=[{','.join(parts)}]")

    assert told(1).data[:900] == told(2).data[:900]
    assert identity(told(1)) == identity(told(1)) != identity(told(2))


def test_tinys_phases_start_from_one_another_and_its_codec_from_the_model_that_ships() -> None:
    phases = [training(f"experiment={name}") for name in TINY]
    before = [None, "outputs/models/tiny_vae", "outputs/models/tiny_prior", "tiny"]
    assert [one.model.start for one in phases] == [*before, "outputs/models/tiny_warmup", "outputs/models/tiny_latent"]
    codec = ("codec", "adaptor")
    trained = [("encoder", "decoder"), ("dit",), ("decoder",), ("codec",), codec, codec]
    assert [one.stage.trains for one in phases] == trained
    assert all(one.run.cpu and one.model.name == "tiny" for one in phases)
    warmup, latent, pixel = (one.rate for one in phases[3:])
    assert warmup == latent == pixel  # a quality means the same λ, and an encoder rounds the same way
    assert {one.model.bottleneck for one in phases} == {None} and preset("tiny").kind == "transform"
    assert [one.model.begin for one in phases] == [None] * 3 + ["measured", None, None]
    frames = {span.frames for span in phases[3].stage.spans}
    assert frames == {25, 33}  # the usual rotation of 7 latents, and the longest of 9


@pytest.mark.parametrize("name", choices("data"))
def test_data_names_classes_that_there_are(name: str) -> None:
    data = composed(f"data={name}")[0].data
    for part in [*data.train.parts, *(data.validation.parts if data.validation else [])]:
        assert callable(get_object(part.source["_target_"]))
    assert sources_of(data.train) is not None


def test_parts_of_the_data_are_there_for_the_clips_they_have(tmp_path: Path) -> None:
    (tmp_path / "sep_trainlist.txt").write_text("00001/0001\n")
    whole = composed("data=vimeo", f"data.septuplets={tmp_path}")[0].data.train
    short, long = whole.parts
    assert (short.longest, long.shortest) == (5, 9)
    sources = sources_of(whole)
    assert sources is not None
    assert type(sources(ClipSpec(5, 256, 256))).__name__ == "SeptupletClips"
    with pytest.raises(GnvcError, match=r"manifest\.jsonl: missing"):  # the films, then
        sources(ClipSpec(9, 256, 256))
    none = sources_of(OmegaConf.create({"parts": [dict(short)]}))
    assert none is not None
    with pytest.raises(UsageError, match="no part of the data has clips of 9 frames"):
        none(ClipSpec(9, 256, 256))


def test_photographs_are_mixed_with_made_up_clips_by_their_share(tmp_path: Path) -> None:
    made_up = {"weight": 0.25, "source": {"_target_": "gnvc_vd.data.procedural.ProceduralClips"}}
    sources = sources_of(OmegaConf.create({"parts": [made_up | {"weight": 1.0}, made_up]}))
    assert sources is not None
    mixture = sources(ClipSpec(5, 32, 32))
    assert isinstance(mixture, Mixture)
    owners = [mixture.source_of(number)[0] for number in range(1024)]
    assert sum(owners) == pytest.approx(1024 / 5, abs=1)
    photos = composed("data=photos")[0].data.train
    assert [part.weight for part in photos.parts] == [1.0, 0.25]


def test_a_bank_of_the_data_is_made_of_the_mixture_without_it(tmp_path: Path) -> None:
    """`tiny_device` with tiny's shares: the same clips by number, in a bank with the settings that it states."""
    for name, kind in (("photos", "photos"), ("clips", "videos")):
        (tmp_path / name).mkdir()
        write_manifest(tmp_path / name / "manifest.jsonl", kind, [Entry("one.png")])  # type: ignore[arg-type]
    folder, shares = f"data.folder={tmp_path}", "data.shares={photos: 0.84, clips: 0.06, made_up: 0.1}"
    spec = ClipSpec(5, 32, 32)
    usual, banked = (
        sources_of(composed(folder, *told)[0].data.train) for told in (["data=tiny"], ["data=tiny_device", shares])
    )
    assert usual is not None and banked is not None
    plain, made = usual(spec), banked(spec)
    assert isinstance(plain, Mixture) and isinstance(made, DeviceClips) and isinstance(made.source, Mixture)
    assert made.bank == Bank(clips=2048, uses=4) and made.material is banked(ClipSpec(9, 48, 48)).material  # type: ignore[attr-defined]
    assert [made.source.source_of(n) for n in range(2048)] == [plain.source_of(n) for n in range(2048)]
    with pytest.raises(GnvcError, match=r"data\.bank.*turns"):
        sources_of(OmegaConf.create({"parts": [{"source": {"_target_": "gnvc_vd.data."}}], "bank": {"turns": 3}}))


def test_a_configuration_calls_nothing_but_sources_of_clips() -> None:
    strange = OmegaConf.create({"parts": [{"weight": 1.0, "source": {"_target_": "os.system", "command": "true"}}]})
    with pytest.raises(UsageError, match=r"os\.system"):
        sources_of(strange)
    misspelt = {"_target_": "gnvc_vd.data.procedural.ProceduralClips", "speck": 1}
    sources = sources_of(OmegaConf.create({"parts": [{"weight": 1.0, "source": misspelt}]}))
    assert sources is not None
    with pytest.raises(UsageError, match="speck"):
        sources(ClipSpec(5, 32, 32))


def test_stored_latents_must_be_of_the_vae_and_the_clips_of_the_training(tmp_path: Path) -> None:
    vae, spec = random_backbone(preset("nano")).vae, ClipSpec(5, 32, 32)
    index = LatentIndex(encoder_identity(vae), spec, "made up", 2, half=False)
    precompute(ProceduralClips(spec), vae, tmp_path / "latents", index)
    source = {
        "_target_": "gnvc_vd.train.compose.stored_latents",
        "folder": str(tmp_path / "latents"),
        "name": "nano",
        "start": None,
    }
    parts = {"parts": [{"weight": 1.0, "source": source}]}
    right = sources_of(OmegaConf.create(parts))
    assert right is not None
    assert right(spec)[0].shape == (16, 2, 4, 4)
    with pytest.raises(GnvcError, match="9 frames"):
        right(ClipSpec(9, 32, 32))
    other = sources_of(OmegaConf.create({"parts": [{"weight": 1.0, "source": source | {"name": "tiny"}}]}))
    assert other is not None
    with pytest.raises(GnvcError, match="compute them again"):
        other(spec)


@pytest.mark.parametrize(
    ("name", "machines", "processes", "kind"),
    [("gpu_1", 1, 1, "NO"), ("gpu_2", 1, 2, "MULTI_GPU"), ("gpu_8", 1, 8, "MULTI_GPU"), ("gpu_16", 2, 16, "MULTI_GPU")],
)
def test_accelerates_own_classes_take_the_launch_files(name: str, machines: int, processes: int, kind: str) -> None:
    file = CONFIGS / "accelerate" / f"{name}.yaml"
    found = ClusterConfig.from_yaml_file(str(file))  # refuses keys that it does not know
    assert (found.num_machines, found.num_processes, found.distributed_type.value) == (machines, processes, kind)


def test_all_launch_files_are_tested() -> None:
    assert choices("accelerate") == ["gpu_1", "gpu_16", "gpu_2", "gpu_8"]
    assert choices("run") == ["cpu", *choices("accelerate"), "slurm"]  # how to run what each launches


def test_a_run_is_set_by_name_and_any_experiment_takes_another() -> None:
    cpu, one, eight = (training("experiment=paper_stage1", f"run={name}").run for name in ("cpu", "gpu_1", "gpu_8"))
    assert (cpu.cpu, cpu.precision) == (True, "auto") and (one.cpu, one.precision) == (False, "bf16")
    two, sixteen = (training("experiment=paper_stage1", f"run=gpu_{count}").run for count in (2, 16))
    assert two == one and sixteen == replace(eight, replicas=2)
    assert replace(eight, workers=one.workers) == one and training("experiment=paper_stage1").run == eight
    assert training("experiment=paper_stage2").run == one and training("experiment=tiny_vae").run.cpu
    assert training("experiment=tiny_vae", "run=gpu_1").run.validate_every == 1000  # the experiment's own
    with pytest.raises(GnvcError, match="unknown key 'haste'"):
        training("+run.haste=true")
    with pytest.raises(UsageError, match="unknown keys: haste"):
        training("+haste=true")


@pytest.mark.parametrize("choice", ["run=slurm", "launcher=slurm"])
def test_slurm_needs_its_plugin_and_nothing_else_does(choice: str) -> None:
    plugins = importlib.util.find_spec("hydra_plugins")  # a namespace, there only if some plugin is
    if plugins is None or importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        with pytest.raises(MissingConfigException, match="submitit_slurm"):
            composed(choice)
        return
    launcher = composed("experiment=paper_stage2", choice)[1].hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher") and launcher.gpus_per_node == launcher.tasks_per_node == 1
    launcher = composed("experiment=paper_stage2", choice, "hydra.launcher.gpus_per_node=8")[1].hydra.launcher
    assert launcher.tasks_per_node == 8  # a process for each


def test_loggers_say_what_they_track() -> None:
    trackers = {name: training(f"logger={name}").run.trackers for name in choices("logger")}
    assert trackers == {"files": (), "tensorboard": ("tensorboard",), "wandb": ("wandb",)}
    assert composed("logger=wandb")[1].hydra.job.env_set.WANDB_MODE == "offline"


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_two_steps_at_nano_size(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config, _ = composed(f"experiment={name}", *TRY)
    sources = sources_of(config.data.train)
    assert sources is not None
    last = train(training_of(config), sources, sources_of(config.data.validation), tmp_path)
    assert last.name == "step-00000002"
    lines = read_figures(tmp_path / "figures.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [1, 2]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert any(key.startswith("validation_") for line in lines for key in line)


@pytest.mark.slow
def test_a_multirun_over_rates_leaves_a_folder_for_each(tmp_path: Path) -> None:
    command = [sys.executable, str(CONFIGS.parent / "scripts" / "train.py"), "-m", "experiment=paper_stage2"]
    words = ("rate=lambda-0.05,lambda-0.5", "model.start=null", *TRY)
    subprocess.run([*command, *words], cwd=tmp_path, check=True, capture_output=True)
    for rate in ("0.05", "0.5"):
        folder = tmp_path / "outputs" / "train" / f"paper_stage2-{rate}"
        assert (folder / "checkpoints" / "step-00000002" / "weights.safetensors").is_file()
