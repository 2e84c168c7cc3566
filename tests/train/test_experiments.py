"""Every experiment composes to what it says; in the slow tier each runs two steps at nano size."""

import importlib.util
import math
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
from gnvc_vd.data.latents import LatentIndex, precompute, vae_identity
from gnvc_vd.data.procedural import ProceduralClips
from gnvc_vd.presets import preset
from gnvc_vd.train.compose import sources_of, training_of
from gnvc_vd.train.log import read_figures
from gnvc_vd.train.loop import train
from gnvc_vd.train.settings import Training
from tests.train.composing import CONFIGS, EXPERIMENTS, TRY, choices, composed

PAPER_SPANS = [(40000, 5, 256), (30000, 9, 256), (30000, 13, 256)]
DEPTHS = {"none": 0, "every-6": 5, "every-5": 6, "every-3": 10, "every-2": 15, "every-1": 30}


def training(*overrides: str) -> Training:
    return training_of(composed(*overrides)[0])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_is_called_as_its_file(name: str) -> None:
    whole = training(f"experiment={name}")
    assert whole.name.startswith(name) and whole.stage.steps >= 90


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
    assert {one.stage.optimisation.rate_at(step, 100_000) for step in (0, 50_000, 99_999)} == {1e-4}
    weights = one.stage.weights
    assert (weights.refined, weights.cfm, weights.pixel, weights.perceptual) == (1, 1, 0, 0)
    assert one.stage.sigma_0 == pytest.approx(1 - 0.7) and one.stage.unrolled == 5 and one.stage.continuation == 0
    assert one.model.name == "wan2.1-1.3b" and one.adaptor is None
    assert preset("wan2.1-1.3b").adaptor.layers == tuple(range(0, 30, 2))


@pytest.mark.parametrize("point", [0.05, 0.1, 0.25, 0.5])
def test_the_papers_second_stage_is_the_papers_at_each_rate(point: float) -> None:
    config, whole = composed("experiment=paper_stage2", f"rate=lambda-{point}")
    two = training_of(config)
    assert (two.rate.smallest, two.rate.largest) == (point, point) and two.name == f"paper_stage2-{point}"
    assert two.stage.steps == 100_000 and two.stage.spans[0].batch == 2
    optimisation, weights = two.stage.optimisation, two.stage.weights
    assert optimisation.rate_at(0, 100_000) == 5e-5 and optimisation.rate_at(99_999, 100_000) == pytest.approx(1e-5)
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


def test_the_adaptors_depth_is_one_multirun_with_a_folder_for_each() -> None:
    folders = set()
    for depth, layers in DEPTHS.items():
        config, whole = composed("experiment=adaptor_depth", f"adaptor={depth}")
        found = training_of(config)
        assert found.adaptor is not None and len(found.adaptor.layers) == layers
        assert found.stage == training("experiment=paper_stage1").stage
        folders.add(f"{whole.hydra.sweep.dir}/{whole.hydra.sweep.subdir}")
    assert folders == {f"outputs/train/adaptor_depth-{depth}" for depth in DEPTHS}


def test_one_model_for_all_rates_widens_in_its_warm_up_and_goes_on_from_there() -> None:
    phases = [training(f"experiment=variable_rate_{phase}") for phase in ("warmup", "stage1", "stage2")]
    assert [one.model.start for one in phases] == [None, *(f"outputs/models/{one.name}" for one in phases[:2])]
    assert [one.rate.widening for one in phases] == [True, False, False]
    assert all(one.rate.quality is None and (one.rate.smallest, one.rate.largest) == (0.02, 2.0) for one in phases)
    assert [one.stage.continuation > 0 for one in phases] == [False, True, True]
    assert phases[1].stage.spans == training("experiment=paper_stage1").stage.spans


def test_small_phases_start_from_one_another() -> None:
    names = [f"small_{phase}" for phase in ("vae", "prior", "warmup", "latent", "pixel")]
    phases = [training(f"experiment={name}") for name in names]
    assert [one.model.start for one in phases] == [None, *(f"outputs/models/{name}" for name in names[:-1])]
    vae, codec = ("encoder", "decoder"), ("codec", "adaptor")
    assert [one.stage.trains for one in phases] == [vae, ("dit",), ("codec",), codec, codec]
    assert all(one.habits.cpu and one.model.name == "tiny" for one in phases)
    assert phases[-1].stage.perceptual == "st_lpips_alex"  # no weights that are the user's to bring


def test_tinys_phases_start_from_one_another_and_its_codec_from_the_model_that_ships() -> None:
    names = [f"tiny_{phase}" for phase in ("vae", "prior", "decoder", "warmup", "latent", "pixel")]
    phases = [training(f"experiment={name}") for name in names]
    before = [None, "outputs/models/tiny_vae", "outputs/models/tiny_prior", "tiny"]
    assert [one.model.start for one in phases] == [*before, "outputs/models/tiny_warmup", "outputs/models/tiny_latent"]
    codec = ("codec", "adaptor")
    trained = [("encoder", "decoder"), ("dit",), ("decoder",), ("codec",), codec, codec]
    assert [one.stage.trains for one in phases] == trained
    assert all(one.habits.cpu and one.model.name == "tiny" for one in phases)
    warmup, latent, pixel = (one.rate for one in phases[3:])
    assert (warmup.smallest, warmup.largest) == (latent.smallest, latent.largest)
    assert pixel.smallest < latent.smallest and pixel.largest < latent.largest
    assert [warmup.widening, latent.widening, pixel.widening] == [True, False, False]


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
    index = LatentIndex(vae_identity(vae), spec, "made up", 2, half=False)
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
    [("gpu_1", 1, 1, "NO"), ("ddp_8", 1, 8, "MULTI_GPU"), ("ddp_2x8", 2, 16, "MULTI_GPU")],
)
def test_accelerates_own_classes_take_the_launch_files(name: str, machines: int, processes: int, kind: str) -> None:
    file = CONFIGS / "launcher" / "accelerate" / f"{name}.yaml"
    found = ClusterConfig.from_yaml_file(str(file))  # refuses keys that it does not know
    assert (found.num_machines, found.num_processes, found.distributed_type.value) == (machines, processes, kind)


def test_all_launch_files_are_tested() -> None:
    files = {path.stem for path in (CONFIGS / "launcher" / "accelerate").glob("*.yaml")}
    assert files == {"gpu_1", "ddp_8", "ddp_2x8"}


def test_slurm_needs_its_plugin_and_nothing_else_does() -> None:
    plugins = importlib.util.find_spec("hydra_plugins")  # a namespace, there only if some plugin is
    if plugins is None or importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        with pytest.raises(MissingConfigException, match="submitit_slurm"):
            composed("launcher=slurm")
        return
    launcher = composed("experiment=adaptor_depth", "launcher=slurm")[1].hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher") and launcher.gpus_per_node == 1


def test_loggers_say_what_they_track() -> None:
    trackers = {name: training(f"logger={name}").habits.trackers for name in choices("logger")}
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
def test_a_multirun_over_depths_leaves_a_folder_for_each(tmp_path: Path) -> None:
    command = [sys.executable, str(CONFIGS.parent / "scripts" / "train.py"), "-m", "experiment=adaptor_depth"]
    subprocess.run([*command, "adaptor=none,preset", *TRY], cwd=tmp_path, check=True, capture_output=True)
    for depth in ("none", "preset"):
        folder = tmp_path / "outputs" / "train" / f"adaptor_depth-{depth}"
        assert (folder / "checkpoints" / "step-00000002" / "weights.safetensors").is_file()
