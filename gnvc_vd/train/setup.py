"""From a configuration to the modules that train: what is loaded, what is made anew, what is frozen.

A phase imports what it needs and no more: a light VAE trains without diffusers.
"""

import copy
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gnvc_vd.backbone.weights import Backbone, Options, load_backbone, random_backbone
from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.codecs.load import start_from
from gnvc_vd.conventions import UsageError
from gnvc_vd.learned.bottleneck.contextual import Bottleneck
from gnvc_vd.learned.codec import GnvcVd
from gnvc_vd.presets import preset
from gnvc_vd.train.settings import Model, RunSettings, Stage, Training
from gnvc_vd.train.stages import codec_stage, prior_stage, vae_stage
from gnvc_vd.train.stages.codec_stage import CodecStage
from gnvc_vd.train.stages.prior_stage import PriorStage
from gnvc_vd.train.stages.stage import Verdict, perceptual_of
from gnvc_vd.train.stages.vae_stage import VaeStage

if TYPE_CHECKING:
    from gnvc_vd.learned.refine.refiner import Refiner

AnyStage = VaeStage | PriorStage | CodecStage


@dataclass
class Built:
    """A training's modules."""

    training: Training
    backbone: Backbone  # that the stage stands on, or trains a part of
    stage: AnyStage


def build(training: Training) -> Built:
    model = training.model
    if training.stage.phase == "vae":  # which trains in float32
        model = replace(model, bfloat16=False)
    backbone = backbone_of(model)
    torch.manual_seed(training.seed)
    stage = _stage(training, backbone)
    for name, parameter in stage.named_parameters():
        parameter.requires_grad_(group_of(name) in training.stage.trains)
    stage.train()
    if training.run.compile:
        _compile(stage, training.run)
    return Built(training, backbone, stage)


def judged(built: Built, clips: Sequence[Tensor]) -> Verdict:
    """The stage as it stands, by clips uint8 3 T H W."""
    stage, training = built.stage, built.training
    if isinstance(stage, VaeStage):
        return vae_stage.judge(stage, clips)
    if isinstance(stage, PriorStage):
        return prior_stage.judge(stage, clips, training.seed)
    return codec_stage.judge(codec_of(built), clips, training)


def group_of(name: str) -> str | None:
    """The group that a stage's parameter trains with; None never trains."""
    if name.startswith("refiner."):
        from gnvc_vd.learned.refine.adaptor import is_trained

        return "adaptor" if is_trained(name.removeprefix("refiner.dit.model.")) else None
    if name.startswith("vae."):
        return "decoder" if name.startswith(("vae.model.decoder.", "vae.model.post_quant_conv.")) else "encoder"
    return {"dit": "dit", "bottleneck": "codec"}.get(name.partition(".")[0])


def codec_of(built: Built, note: str = "", places: Tensor | None = None) -> GnvcVd:
    """The stage as a codec, to be judged or saved: its own refiner, and its bottleneck's weights in a frozen one.

    Args:
        places: where qualities lie on the trained scale (bottleneck.freeze).
    """
    stage = built.stage
    assert isinstance(stage, CodecStage)
    bottleneck = copy.deepcopy(stage.bottleneck).requires_grad_(False).eval()
    bottleneck.freeze(places)
    # No stream of it is kept, so none has to say whose it is; a sharded refiner's weights are nowhere whole.
    name, refinement = built.training.model.name, refinement_of(stage.stage)
    return GnvcVd(name, built.backbone, bottleneck, bytes(4), lambda: stage.refiner, note, refinement)


def refinement_of(stage: Stage) -> Refinement:
    """How a codec's streams are refined: as its training unrolls it."""
    return Refinement(steps=max(1, stage.unrolled), sigma_0=stage.sigma_0, noise_scale=stage.noise_scale)


def backbone_of(model: Model) -> Backbone:
    """What a training starts from, frozen."""
    sizes, options = preset(model.name), Options(torch.bfloat16 if model.bfloat16 else torch.float32)
    if model.start is None and sizes.source is None:
        return random_backbone(sizes, options)
    return load_backbone(model.start or sizes.name, options)


def _stage(training: Training, backbone: Backbone) -> AnyStage:
    stage = training.stage
    if stage.phase == "vae":
        return VaeStage(stage, backbone.vae, perceptual_of(stage))
    if stage.phase == "prior":
        return PriorStage(stage, backbone.vae, backbone.dit)
    bottleneck, refiner = _codec(training, backbone)
    return CodecStage(stage, training.rate, backbone.vae, bottleneck, refiner, perceptual_of(stage))


def _codec(training: Training, backbone: Backbone) -> "tuple[Bottleneck, Refiner]":
    from gnvc_vd.learned.refine.refiner import Refiner

    model, sizes = training.model, preset(training.model.name)
    bottleneck = Bottleneck(sizes.bottleneck, thrift=training.rate.thrift)
    vace = None if model.vace is None else Path(model.vace)
    refiner = Refiner(backbone.dit, training.adaptor or sizes.adaptor, sizes.bottleneck.features, vace)
    if model.start is not None:
        start_from(model.start, bottleneck, refiner)
    if model.checkpointing:
        refiner.checkpointing()
    for parameter in refiner.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # trained in float32, whatever the backbone computes in
    return bottleneck, refiner


def _compile(stage: AnyStage, run: RunSettings) -> None:
    """Each block of the transformer by itself, for each shape anew: the parameters keep their names."""
    if run.shard:
        raise UsageError("run.compile is for a transformer that is whole: leave run.shard out")
    if run.cpu and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++"))):
        raise UsageError("run.compile needs a C++ compiler for a CPU: install g++, or leave it out")
    for name, module in stage.named_modules():
        if re.search(r"(^|\.)dit\.model\.(vace_)?blocks\.\d+$", name):
            module.compile(dynamic=False)
