"""Export a checkpoint's averaged weights as a model folder, which `gnvc-vd encode --model FOLDER` reads.

    vae      ─▶ a backbone: the trained VAE, its latents' mean and deviation measured, beside the transformer as it is
    prior    ─▶ a backbone: the trained transformer beside the VAE as it is
    codec    ─▶ a codec on its backbone: integers frozen, the qualities where they were trained or re-fitted

The training's settings are read from RUN/run.json; nothing is unpickled.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from omegaconf import OmegaConf
from torch import Tensor

from gnvc_vd.backbone.folder import DESCRIPTION
from gnvc_vd.backbone.sources import HUB_ID
from gnvc_vd.backbone.weights import Backbone, save_backbone
from gnvc_vd.codecs.load import save
from gnvc_vd.common import strict
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import QUALITIES, GnvcError, UsageError
from gnvc_vd.data.latents import encoder_identity
from gnvc_vd.presets import PRESETS
from gnvc_vd.train.checkpoint import EMA, STATE, WEIGHTS, Checkpoints, State, fill
from gnvc_vd.train.compose import sources_of
from gnvc_vd.train.ema import trained_parameters
from gnvc_vd.train.log import RUN
from gnvc_vd.train.loop import CHECKPOINTS, validation_clips
from gnvc_vd.train.refit import LEVELS, Refit, place_evenly, rates_of
from gnvc_vd.train.settings import Training
from gnvc_vd.train.setup import AnyStage, build
from gnvc_vd.train.stages.codec_stage import CodecStage
from gnvc_vd.train.stages.stage import latents_of
from gnvc_vd.video.pixels import to_model

Which = Literal["averaged", "live"]
HYDRA = ".hydra/config.yaml"
VAE_CLIPS, REFIT_CLIPS = 64, 8  # clips to measure a VAE's statistics and a codec's rates
SMALLEST_DEVIATION = 1e-3


class ExportResult(NamedTuple):
    """Which step was exported, and where its qualities were moved to."""

    step: int
    refit: Refit | None


def export(
    run: Path,
    folder: Path,
    checkpoint: Path | None = None,
    which: Which = "averaged",
    name: str | None = None,
    refit: bool = False,
    clips: Sequence[Tensor] | None = None,
    half: bool = False,
    thrift: float | None = None,
    backbone: str | None = None,
    refers: bool = False,
    highest_quality: int = QUALITIES - 1,
    tile: int | None = None,
) -> ExportResult:
    """Make a model folder of a run.

    Args:
        checkpoint: a folder of the run's; its newest by default.
        which: the averaged weights, or those of the last step.
        name: what the model calls itself; the run's name by default.
        refit: move the qualities along the trained scale so that their rates rise evenly (refit.py).
        clips: uint8 3 T H W, or latents where a codec is re-fitted, for what is measured; drawn from the run's own data
            by default.
        half: keep float weights in half precision, but not what decides symbols.
        thrift: RD weight in the encoder's rounding; as in training by default. Decoders ignore it.
        backbone: another model with the same VAE, to use as the codec's backbone instead of the run's.
        refers: store only the name of `backbone`, a preset or hub id, in the folder, not its weights.
        highest_quality: of a codec that refines, the highest that is refined unless a decoder asks for it.
        tile: of a codec that refines, the size in pixels above which pictures are refined in tiles.
    """
    _refuse_other_content(folder)
    location = backbone if refers else None
    if refers and (location is None or (location not in PRESETS and not HUB_ID.fullmatch(location))):
        raise UsageError("a reference to a backbone is by its preset or hub id: give the backbone too")
    stage, step = load_run(run, checkpoint, which, thrift, backbone)
    training, stands_on = stage.settings, stage.backbone
    if refit and (training.stage.phase != "codec" or training.rate.quality is not None):
        raise UsageError(f"{run}: only a codec that was trained at all qualities can be re-fitted")
    name, note, refit_result = name or training.name, _note(stage), None
    if isinstance(stage, CodecStage):
        # Where qualities lie on the trained scale; of a model with one rate, all where it was trained.
        places = None if training.rate.quality is None else torch.full((QUALITIES,), training.rate.quality)
        if refit:
            drawn = clips or _clips(run, training, REFIT_CLIPS)
            with torch.inference_mode():
                latents = torch.cat([latents_of(stands_on.vae, clip[None]) for clip in drawn])
            refit_result = place_evenly(LEVELS, rates_of(stage.bottleneck, latents, LEVELS))
            places = torch.tensor(refit_result.places)
        codec = stage.codec(note, places)
        refinement = replace(codec.refinement, highest_quality=highest_quality, tile=tile)
        save(replace(codec, refinement=refinement), folder, name, half, location)
    else:
        if "encoder" in training.stage.trains:  # if only the decoder trained, latents are the same
            stands_on = with_latent_statistics(stands_on, clips or _clips(run, training, VAE_CLIPS))
        save_backbone(replace(stands_on, note=note), folder, name, half)
    return ExportResult(step, refit_result)


def load_run(
    run: Path,
    checkpoint: Path | None = None,
    which: Which = "averaged",
    thrift: float | None = None,
    backbone: str | None = None,
) -> tuple[AnyStage, int]:
    """A run's modules on the CPU, in the precision of their source, with a checkpoint's weights; and its step."""
    record = strict.read_object(run / RUN)
    require(record.keys() == {"training", "environment"}, f"{run / RUN}: not the record of a run", GnvcError)
    training = strict.parse(Training, record["training"], f"{run / RUN} training")
    taken = checkpoint or Checkpoints(run / CHECKPOINTS, training.run.keep).latest()
    if taken is None or not (taken / STATE).is_file():
        raise GnvcError(f"{taken or run / CHECKPOINTS}: no checkpoint there")
    state = strict.parse(State, strict.read_object(taken / STATE), str(taken / STATE))
    rate = training.rate if thrift is None else replace(training.rate, thrift=thrift)
    model, run_alone = replace(training.model, bfloat16=False), replace(training.run, shard=False)
    stage = build(replace(training, model=model, stage=training.stage.without_perceptual(), rate=rate, run=run_alone))
    if isinstance(stage, CodecStage):
        stage.resume_start(run)
    fill(trained_parameters(stage), taken / (EMA if which == "averaged" else WEIGHTS))
    if backbone is not None:
        stage = _on_another(stage, backbone)
    stage.eval().requires_grad_(False)
    return stage, state.step


def _on_another(stage: AnyStage, backbone: str) -> CodecStage:
    """A codec on a backbone of the same VAE."""
    model = replace(stage.settings.model, start=backbone, begin="random")
    other = build(replace(stage.settings, model=model))
    if not (isinstance(stage, CodecStage) and isinstance(other, CodecStage)):
        raise UsageError("only a codec can be put on another backbone")
    if encoder_identity(stage.vae) != encoder_identity(other.vae):
        raise UsageError(f"{backbone}: its VAE is not the one whose latents the codec learned")
    other.bottleneck.load_state_dict(stage.bottleneck.state_dict())
    other.refiner.load_adaptor(stage.refiner.adaptor(), backbone)
    return other


def with_latent_statistics(backbone: Backbone, clips: Sequence[Tensor]) -> Backbone:
    """The backbone with its latents' own means, and one deviation for all channels.

    One, so that an error costs the same in each channel as in training: with one deviation per channel, a codec
    would spend bits on weak channels, which matter least.
    """
    with torch.inference_mode():
        means = [backbone.vae.posterior(to_model(clip[None]))[0] for clip in clips]
    latents = torch.cat([mean.double().transpose(0, 1).flatten(1) for mean in means], dim=1)  # 16 × places
    variance, mean = torch.var_mean(latents, dim=1)
    deviations = (max(SMALLEST_DEVIATION, float(variance.mean().sqrt())),) * len(mean)
    sizes = replace(backbone.vae_preset, latents_mean=tuple(mean.tolist()), latents_std=deviations)
    return replace(backbone, vae_preset=sizes)


def _note(stage: AnyStage) -> str:
    """A warning for the model's users."""
    phase, from_seed = stage.stage.phase, not stage.backbone.files
    if phase == "vae" and from_seed:
        return "its transformer has random weights"
    if phase == "prior":
        return "its VAE has random weights: its pictures mean nothing" if from_seed else ""
    return stage.backbone.note


def _clips(run: Path, training: Training, count: int) -> list[Tensor]:
    """The run's validation clips, or training clips of a run that has none, as its configuration draws them."""
    path = run / HYDRA
    require(path.is_file(), f"{path}: missing, so the run's clips are not known", GnvcError)
    data = OmegaConf.load(path).data
    sources = sources_of(data.validation) or sources_of(data.train)
    assert sources is not None
    return validation_clips(sources, training, count)


def _refuse_other_content(folder: Path) -> None:
    """Only what is not there, empty, or a model folder is replaced."""
    require(folder.is_dir() or not folder.exists(), f"{folder} is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / DESCRIPTION).is_file():
        raise UsageError(f"{folder} holds other things than a model; give another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
