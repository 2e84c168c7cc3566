"""From a configuration to the modules that train: what is loaded, what is made anew, what is frozen.

A phase imports what it needs and no more: a light VAE trains without diffusers.
"""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gnvc_vd.conventions import UsageError
from gnvc_vd.presets import Preset, preset
from gnvc_vd.train.settings import Model, RunSettings, Stage, Training
from gnvc_vd.train.stages.stage import Verdict, perceptual_of
from gnvc_vd.train.stages.vae_stage import VaeStage
from gnvc_vd.train.stages.vae_stage import judge as judge_vae

if TYPE_CHECKING:
    from gnvc_vd.backbone.weights import Backbone
    from gnvc_vd.bitstream.refinement import Refinement
    from gnvc_vd.learned.bottleneck.contextual import Bottleneck
    from gnvc_vd.learned.codec import GnvcVd
    from gnvc_vd.learned.refine.refiner import Refiner
    from gnvc_vd.train.stages.codec_stage import CodecStage
    from gnvc_vd.train.stages.prior_stage import PriorStage


@dataclass
class Built:
    """A training's modules."""

    training: Training
    sizes: Preset
    stage: "VaeStage | PriorStage | CodecStage"
    given: "Backbone | None" = None

    @cached_property
    def backbone(self) -> "Backbone":
        """What the stage stands on; around a VAE that trains alone it is made when it is asked for."""
        if self.given is not None:
            return self.given
        assert isinstance(self.stage, VaeStage)
        return replace(_backbone(self.training.model, self.sizes), vae=self.stage.vae)


def build(training: Training) -> Built:
    made = _vae(training) if training.stage.phase == "vae" else _on_a_backbone(training)
    for name, parameter in made.stage.named_parameters():
        parameter.requires_grad_(group_of(name) in training.stage.trains)
    made.stage.train()
    if training.run.compile:
        _compile(made.stage, training.run)
    return made


def judged(built: Built, clips: Sequence[Tensor]) -> Verdict:
    """The stage as it stands, by clips uint8 3 T H W."""
    if isinstance(built.stage, VaeStage):
        return judge_vae(built.stage, clips)
    from gnvc_vd.train.stages import codec_stage as codec
    from gnvc_vd.train.stages import prior_stage as prior

    if isinstance(built.stage, prior.PriorStage):
        return prior.judge(built.stage, clips, built.training.seed)
    return codec.judge(codec_of(built), clips, built.training)


def group_of(name: str) -> str | None:
    """The group that a stage's parameter trains with; None never trains."""
    if name.startswith("refiner."):
        from gnvc_vd.learned.refine.adaptor import is_trained

        return "adaptor" if is_trained(name.removeprefix("refiner.dit.model.")) else None
    if name.startswith("vae."):
        return "decoder" if name.startswith(("vae.model.decoder.", "vae.model.post_quant_conv.")) else "encoder"
    return {"dit": "dit", "bottleneck": "codec"}.get(name.partition(".")[0])


def codec_of(built: Built, note: str = "", places: Tensor | None = None) -> "GnvcVd":
    """The stage as a codec, to be judged or saved: its own refiner, and its bottleneck's weights in a frozen one.

    Args:
        places: where qualities lie on the trained scale (bottleneck.freeze).
    """
    from gnvc_vd.learned.bottleneck.contextual import Bottleneck
    from gnvc_vd.learned.codec import GnvcVd
    from gnvc_vd.train.stages.codec_stage import CodecStage

    assert isinstance(built.stage, CodecStage)
    source, device = built.stage, built.stage.vae.mean.device
    bottleneck = Bottleneck(source.bottleneck.preset, thrift=source.bottleneck.thrift)
    bottleneck.load_state_dict(source.bottleneck.state_dict())
    bottleneck.to(device).requires_grad_(False).eval().freeze(places)
    # No stream of it is kept, so none has to say whose it is; a sharded refiner's weights are nowhere whole.
    name, refinement = built.sizes.name, refinement_of(source.stage)
    return GnvcVd(name, built.backbone, bottleneck, bytes(4), lambda: source.refiner, note, refinement)


def refinement_of(stage: Stage) -> "Refinement":
    """How a codec's streams are refined: as its training unrolls it."""
    from gnvc_vd.bitstream.refinement import Refinement

    return Refinement(steps=max(1, stage.unrolled), sigma_0=stage.sigma_0, noise_scale=stage.noise_scale)


def _vae(training: Training) -> Built:
    """A VAE alone, in float32."""
    sizes = preset(training.model.name)
    vae = _backbone(replace(training.model, bfloat16=False), sizes).vae
    torch.manual_seed(training.seed)
    return Built(training, sizes, VaeStage(training.stage, vae, perceptual_of(training.stage)))


def _on_a_backbone(training: Training) -> Built:
    from gnvc_vd.train.stages.codec_stage import CodecStage
    from gnvc_vd.train.stages.prior_stage import PriorStage

    stage, sizes = training.stage, preset(training.model.name)
    backbone = _backbone(training.model, sizes)
    torch.manual_seed(training.seed)
    if stage.phase == "prior":
        return Built(training, sizes, PriorStage(stage, backbone.vae, backbone.dit), backbone)
    bottleneck, refiner = _codec(training, sizes, backbone)
    made = CodecStage(stage, training.rate, backbone.vae, bottleneck, refiner, perceptual_of(stage))
    return Built(training, sizes, made, backbone)


def _compile(stage: torch.nn.Module, run: RunSettings) -> None:
    """Each block of the transformer by itself, for each shape anew: the parameters keep their names."""
    if run.shard:
        raise UsageError("run.compile is for a transformer that is whole: leave run.shard out")
    if run.cpu and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++"))):
        raise UsageError("run.compile needs a C++ compiler for a CPU: install g++, or leave it out")
    for name, module in stage.named_modules():
        if re.search(r"(^|\.)dit\.model\.(vace_)?blocks\.\d+$", name):
            module.compile(dynamic=False)


def _backbone(model: Model, sizes: Preset) -> "Backbone":
    from gnvc_vd.backbone.weights import Options, load_backbone, random_backbone

    options = Options(torch.bfloat16 if model.bfloat16 else torch.float32)
    if model.start is not None:
        return load_backbone(model.start, options)
    return load_backbone(sizes.name, options) if sizes.source is not None else random_backbone(sizes, options)


def _codec(training: Training, sizes: Preset, backbone: "Backbone") -> "tuple[Bottleneck, Refiner]":
    from gnvc_vd.codecs.load import start_from
    from gnvc_vd.learned.bottleneck.contextual import Bottleneck
    from gnvc_vd.learned.refine.refiner import Refiner

    model, adaptor = training.model, training.adaptor or sizes.adaptor
    bottleneck = Bottleneck(sizes.bottleneck, thrift=training.rate.thrift)
    vace = None if model.vace is None else Path(model.vace)
    refiner = Refiner(backbone.dit, adaptor, sizes.bottleneck.features, vace)
    if model.start is not None:
        start_from(model.start, bottleneck, refiner)
    if model.checkpointing:
        refiner.checkpointing()
    for parameter in refiner.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # trained in float32, whatever the backbone computes in
    return bottleneck, refiner
