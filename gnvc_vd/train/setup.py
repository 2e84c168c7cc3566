"""Build the stage of a training: its modules, initial weights, and trained parameters.

Only the modules that a phase needs are imported; a light VAE trains without diffusers.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from gnvc_vd.backbone.weights import Backbone, Options, load_backbone, random_backbone, with_light_decoder
from gnvc_vd.data.latents import DECODER
from gnvc_vd.presets import preset
from gnvc_vd.train.settings import CORRECTION, DISCRIMINATOR, Model, Training
from gnvc_vd.train.stages.codec_stage import CodecStage
from gnvc_vd.train.stages.prior_stage import PriorStage
from gnvc_vd.train.stages.vae_stage import VaeStage

if TYPE_CHECKING:
    from gnvc_vd.backbone.dit import WanDit

AnyStage = VaeStage | PriorStage | CodecStage
STAGES: dict[str, type[AnyStage]] = {"vae": VaeStage, "prior": PriorStage, "codec": CodecStage}


def build(training: Training) -> AnyStage:
    """Build the stage of a training on its backbone, with the parameters of its groups trainable.

    With run.shard the transformer's parameters are still those of its files, mapped into memory and shared by base and
    adaptor: `shard` copies what a process keeps.
    """
    model, phase = training.model, training.stage.phase
    backbone = backbone_of(replace(model, bfloat16=False) if phase == "vae" else model)  # a VAE trains in float32
    torch.manual_seed(training.seed)
    stage = STAGES[phase](training, backbone)
    for name, parameter in stage.named_parameters():
        parameter.requires_grad_(group_of(name) in training.stage.groups)
    if not (isinstance(stage, VaeStage) or training.run.shard):
        for name, parameter in dit_of(stage).model.named_parameters():
            parameter.data = parameter.data.to(kept_type(name, model))
    return stage.train()


def dit_of(stage: PriorStage | CodecStage) -> "WanDit":
    """The transformer that computes in a stage, with the adaptor if there is one."""
    return stage.refiner.dit if isinstance(stage, CodecStage) else stage.dit


def kept_type(name: str, model: Model) -> torch.dtype:
    """The dtype in which a training keeps a parameter of its transformer: float32 for all that an adaptor trains."""
    from gnvc_vd.backbone.dit import keep_in_float32
    from gnvc_vd.learned.refine.adaptor import is_trained

    return torch.bfloat16 if model.bfloat16 and not (keep_in_float32(name) or is_trained(name)) else torch.float32


def group_of(name: str) -> str | None:
    """The group of a stage's parameter; None: it never trains."""
    if name.startswith("refiner."):
        from gnvc_vd.learned.refine.adaptor import is_trained

        return "adaptor" if is_trained(name.removeprefix("refiner.dit.model.")) else None
    if name.startswith("vae."):
        return "decoder" if name.removeprefix("vae.model.").startswith(DECODER) else "encoder"
    parts = {"bottleneck.correction.": CORRECTION, "pictures.adversary.": DISCRIMINATOR, "teacher.matrices.": "decoder"}
    groups = parts | {"bottleneck.": "codec", "dit.": "dit"}
    return next((group for prefix, group in groups.items() if name.startswith(prefix)), None)


def backbone_of(model: Model) -> Backbone:
    """The frozen backbone that a training starts from."""
    kind = torch.bfloat16 if model.bfloat16 else torch.float32
    # The VAE's encoder stays in float32, as in a codec.
    sizes, options = preset(model.name), Options(vae_decoder=kind, transformer=None)
    random = model.start is None and sizes.source is None
    start = random_backbone(sizes, options) if random else load_backbone(model.start or sizes.name, options)
    return start if model.light_decoder is None else with_light_decoder(start, model.light_decoder)
