"""From a configuration to the modules that train: what is loaded, what is made anew, what is frozen."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gnvc_vd.backbone.weights import Backbone, Options, load_backbone, random_backbone
from gnvc_vd.bottleneck.bottleneck import Bottleneck
from gnvc_vd.codec import GnvcVd
from gnvc_vd.loading import start_from
from gnvc_vd.metrics import perceptual
from gnvc_vd.presets import Preset, preset
from gnvc_vd.refine.adaptor import is_trained
from gnvc_vd.refine.refiner import Refiner
from gnvc_vd.train.config import Model, Stage, Training
from gnvc_vd.train.stages import CodecStage, PriorStage, VaeStage


@dataclass(frozen=True)
class Built:
    """A training's modules."""

    sizes: Preset
    backbone: Backbone
    stage: VaeStage | PriorStage | CodecStage


def build(training: Training) -> Built:
    sizes = preset(training.model.name)
    backbone = _backbone(training.model, sizes)
    torch.manual_seed(training.seed)
    stage = training.stage
    module: VaeStage | PriorStage | CodecStage
    if stage.phase == "vae":
        module = VaeStage(stage, backbone.vae, perceptual_of(stage))
    elif stage.phase == "prior":
        module = PriorStage(stage, backbone.vae, backbone.dit)
    else:
        bottleneck, refiner = _codec(training, sizes, backbone)
        module = CodecStage(stage, training.rate, backbone.vae, bottleneck, refiner, perceptual_of(stage))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(group_of(name) in stage.trains)
    module.train()
    return Built(sizes, backbone, module)


def group_of(name: str) -> str | None:
    """The group that a stage's parameter trains with; None never trains."""
    if name.startswith("refiner."):
        return "adaptor" if is_trained(name.removeprefix("refiner.dit.model.")) else None
    return {"vae": "vae", "dit": "dit", "bottleneck": "codec"}.get(name.partition(".")[0])


def codec_of(built: Built, note: str = "", places: Tensor | None = None) -> GnvcVd:
    """The stage as a codec, to be judged or saved: its own refiner, and its bottleneck's weights in a frozen one.

    Args:
        places: where qualities lie on the trained scale (bottleneck.freeze).
    """
    assert isinstance(built.stage, CodecStage)
    source, device = built.stage, built.stage.vae.mean.device
    bottleneck = Bottleneck(source.bottleneck.preset)
    bottleneck.load_state_dict(source.bottleneck.state_dict())
    bottleneck.to(device).requires_grad_(False).eval().freeze(places)
    # No stream of it is kept, so none has to say whose it is; a sharded refiner's weights are nowhere whole.
    return GnvcVd(built.sizes.name, built.backbone, bottleneck, source.refiner, note, shown_identity=bytes(4))


def perceptual_of(stage: Stage) -> nn.Module | None:
    if not stage.weights.perceptual:
        return None
    kind, _, net = stage.perceptual.rpartition("_")
    made = perceptual.dists() if stage.perceptual == "dists" else getattr(perceptual, kind)(net)
    return made.requires_grad_(False)


def _backbone(model: Model, sizes: Preset) -> Backbone:
    options = Options(torch.bfloat16 if model.bfloat16 else torch.float32)
    if model.start is not None:
        return load_backbone(model.start, options)
    return load_backbone(sizes.name, options) if sizes.source is not None else random_backbone(sizes, options)


def _codec(training: Training, sizes: Preset, backbone: Backbone) -> tuple[Bottleneck, Refiner]:
    model, adaptor = training.model, training.adaptor or sizes.adaptor
    bottleneck = Bottleneck(sizes.bottleneck)
    vace = None if model.vace is None else Path(model.vace)
    refiner = Refiner(backbone.dit, adaptor, sizes.bottleneck.features, vace)
    if model.start is not None:
        start_from(Path(model.start), bottleneck, refiner)
    if model.checkpointing:
        refiner.checkpointing()
    for parameter in refiner.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # trained in float32, whatever the backbone computes in
    return bottleneck, refiner
