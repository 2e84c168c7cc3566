"""From a run to a model folder: a checkpoint's averaged weights, frozen, as `gnvc-vd encode --model FOLDER` reads them.

    vae      ─▶ a backbone: the trained VAE, its latents' mean and deviation measured, beside the transformer as it is
    prior    ─▶ a backbone: the trained transformer beside the VAE as it is
    codec    ─▶ a codec on its backbone: integers frozen, the qualities where they were trained or re-fitted

What was trained on what is read from RUN/run.json; nothing of a run is unpickled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from omegaconf import OmegaConf
from torch import Tensor

from gnvc_vd.backbone.folder import DESCRIPTION
from gnvc_vd.backbone.sources import read_tensors
from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.backbone.weights import Backbone, save_backbone
from gnvc_vd.codecs.load import load, save
from gnvc_vd.common import strict
from gnvc_vd.conventions import QUALITIES, GnvcError, UsageError
from gnvc_vd.presets import VaePreset
from gnvc_vd.train.checkpoint import EMA, STATE, WEIGHTS, Checkpoints, State
from gnvc_vd.train.compose import sources_of
from gnvc_vd.train.log import RUN
from gnvc_vd.train.loop import CHECKPOINTS, spec_of
from gnvc_vd.train.refit import Refit, refitted
from gnvc_vd.train.settings import Training
from gnvc_vd.train.setup import Built, build, codec_of, refinement_of
from gnvc_vd.train.stages.codec_stage import CodecStage
from gnvc_vd.video.pixels import to_model

Which = Literal["averaged", "live"]
HYDRA = ".hydra/config.yaml"
VAE_CLIPS, REFIT_CLIPS = 64, 8  # that a VAE's statistics and a codec's rates are taken from
SMALLEST_DEVIATION = 1e-3


@dataclass(frozen=True)
class Exported:
    """What was made of what."""

    folder: Path
    checkpoint: Path
    step: int
    refit: Refit | None = None


@dataclass(frozen=True)
class Loaded:
    """A run with a checkpoint's weights."""

    training: Training
    built: Built
    weights: dict[str, Tensor]  # of the stage's parameters
    checkpoint: Path
    step: int


def export(
    run: Path,
    folder: Path,
    checkpoint: Path | None = None,
    which: Which = "averaged",
    name: str | None = None,
    refit: bool = False,
    clips: Sequence[Tensor] | None = None,
    half: bool = False,
    halfway: str | Path | None = None,
) -> Exported:
    """Make a model folder of a run.

    Args:
        checkpoint: a folder of the run's; its newest by default.
        which: the averaged weights, or those of the last step.
        name: what the model calls itself; the run's name by default.
        refit: move the qualities along the trained scale so that their rates rise evenly (refit.py).
        clips: uint8 3 T H W, for what is measured; drawn from the run's own data by default.
        half: keep float weights in half precision, but for those of the latent codec.
        halfway: a model of the same sizes; the adaptor is the mean of its own and the run's.
    """
    _refuse_other_content(folder)
    training = training_of_run(run)
    if refit and (training.stage.phase != "codec" or training.rate.quality is not None):
        raise UsageError(f"{run}: only a codec that was trained at all qualities can be re-fitted")
    loaded = load_run(run, checkpoint, which)
    if halfway is not None:
        _average_adaptors(loaded, run, halfway)
    name, backbone = name or training.name, loaded.built.backbone
    found: Refit | None = None
    if isinstance(loaded.built.stage, CodecStage):
        if refit:
            found = refitted(
                loaded.built.stage.bottleneck, _latents(backbone.vae, clips or _clips(run, training, REFIT_CLIPS))
            )
        save(codec_of(loaded.built, note_of(loaded), _places(training, found)), folder, name, half)
    else:
        if "encoder" in training.stage.trains:  # what stands on a VAE goes on if its decoder trained alone
            backbone = measured(backbone, clips or _clips(run, training, VAE_CLIPS))
        save_backbone(replace(backbone, note=note_of(loaded)), folder, name, half)
    return Exported(folder, loaded.checkpoint, loaded.step, found)


@torch.no_grad()
def _average_adaptors(loaded: Loaded, run: Path, halfway: str | Path) -> None:
    """The mean of two stretches of one training can keep what they agree on, and lose what one has overlearned."""
    stage = loaded.built.stage
    if not isinstance(stage, CodecStage):
        raise UsageError(f"{run}: only a codec's run has an adaptor to be averaged with another")
    met = load(halfway)  # that its backbone is the run's, in whatever precision, is for its user to see to
    own, other = stage.refiner.adaptor(), met.refiner.adaptor()
    if own.keys() != other.keys() or any(own[key].shape != other[key].shape for key in own):
        raise GnvcError(f"{halfway}: its adaptor has other sizes than the run's")
    if met.refinement != refinement_of(stage.stage):
        raise GnvcError(f"{halfway}: it refines in another way than the run")
    stage.refiner.load_adaptor({key: (own[key] + other[key]) / 2 for key in own}, str(halfway))


def training_of_run(run: Path) -> Training:
    """What a run's own record says it is."""
    record = strict.read_object(run / RUN)
    if record.keys() != {"training", "environment"}:
        raise GnvcError(f"{run / RUN}: not the record of a run")
    return strict.parse(Training, record["training"], f"{run / RUN} training")


def load_run(run: Path, checkpoint: Path | None = None, which: Which = "averaged") -> Loaded:
    """A run's modules on the CPU, in the precision of their source, with a checkpoint's weights in them."""
    training = training_of_run(run)
    taken = checkpoint or Checkpoints(run / CHECKPOINTS, training.run.keep).latest()
    if taken is None or not (taken / STATE).is_file():
        raise GnvcError(f"{taken or run / CHECKPOINTS}: no checkpoint there")
    state = strict.parse(State, strict.read_object(taken / STATE), str(taken / STATE))
    weights = read_tensors([taken / (EMA if which == "averaged" else WEIGHTS)])
    stage = replace(training.stage, weights=replace(training.stage.weights, perceptual=0.0))  # no network to judge
    built = build(replace(training, model=replace(training.model, bfloat16=False), stage=stage))
    trained = {key: one for key, one in built.stage.named_parameters() if one.requires_grad}
    wrong = [key for key in trained.keys() | weights.keys() if _shape(trained, key) != _shape(weights, key)]
    if wrong:
        raise GnvcError(f"{taken}: its weights do not fit what {run / RUN} describes (for one {min(wrong)!r})")
    with torch.no_grad():
        for key, parameter in trained.items():
            parameter.copy_(weights[key])
    built.stage.eval().requires_grad_(False)
    return Loaded(training, built, weights, taken, state.step)


def measured(backbone: Backbone, clips: Sequence[Tensor]) -> Backbone:
    """The backbone with its latents' own means, and one deviation for all channels.

    One, because an error should go on costing in each channel what it cost in training: with a deviation for each, a
    codec would spend its bits on the faint ones, which show the least.
    """
    values = []
    with torch.inference_mode():
        for clip in clips:
            mean, _ = backbone.vae.posterior(to_model(clip[None]))
            values.append(mean.double().transpose(0, 1).flatten(1).cpu())
    latents = torch.cat(values, dim=1)  # 16 × places
    variance, mean = torch.var_mean(latents, dim=1)
    deviation = max(SMALLEST_DEVIATION, float(variance.mean().sqrt()))
    sizes: VaePreset = replace(
        backbone.vae_preset,
        latents_mean=tuple(mean.tolist()),
        latents_std=(deviation,) * len(mean),
    )
    return replace(backbone, vae_preset=sizes)


def note_of(loaded: Loaded) -> str:
    """What a user of the folder must know."""
    from_seed = not loaded.built.backbone.files
    if loaded.training.stage.phase == "vae":
        return "its transformer has random weights" if from_seed else loaded.built.backbone.note
    if loaded.training.stage.phase == "prior":
        return "its VAE has random weights: its pictures mean nothing" if from_seed else ""
    return loaded.built.backbone.note


def _places(training: Training, found: Refit | None) -> Tensor | None:
    """Where qualities lie on the trained scale; of a model with one rate, all where it was trained."""
    if found is not None:
        return torch.tensor(found.places)
    quality = training.rate.quality
    return None if quality is None else torch.full((QUALITIES,), quality)


def _clips(run: Path, training: Training, count: int) -> list[Tensor]:
    """The run's validation clips, or training clips of a run that has none, as its configuration draws them."""
    path = run / HYDRA
    if not path.is_file():
        raise GnvcError(f"{path}: missing, so the run's clips are not known")
    data = OmegaConf.load(path).data
    sources = sources_of(data.validation) or sources_of(data.train)
    assert sources is not None
    spec = replace(spec_of(training.stage.spans[-1], training), flip=False, seed=training.seed + 1)
    source = sources(spec)
    return [source[number] for number in range(count)]


def _latents(vae: VideoVae, clips: Sequence[Tensor]) -> Tensor:
    with torch.inference_mode():
        return torch.cat([vae.encode(to_model(clip[None])) for clip in clips])


def _shape(tensors: Mapping[str, Tensor], key: str) -> torch.Size | None:
    return tensors[key].shape if key in tensors else None


def _refuse_other_content(folder: Path) -> None:
    """Only what is not there, empty, or a model folder is replaced."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / DESCRIPTION).is_file():
        raise UsageError(f"{folder} holds other things than a model; give another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
