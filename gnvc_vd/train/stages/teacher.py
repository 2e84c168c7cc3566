"""What a light decoder learns from: the pictures that Wan's own makes of the same latents, and its features.

    z ─▶ Wan's ─▶ T h w ─▶ 2T 2h 2w ─▶ … ─▶ V′        frozen
               ▲             ▲                          a matrix each, trained beside the light decoder and then left
    z ─▶ light ─▶ T h w ─▶ 2T 2h 2w ─▶ … ─▶ Ṽ

Features are compared where both decoders have the same places. Layers of either are read as they run.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.backbone.weights import Backbone, load_backbone
from gnvc_vd.common.strict import require
from gnvc_vd.data.latents import encoder_identity
from gnvc_vd.train import losses
from gnvc_vd.train.settings import Training


class Teacher(nn.Module):
    """Wan's VAE, frozen, and what maps a light decoder's features to those of Wan's.

    Args:
        student: whose decoder learns; its encoder is the teacher's.
    """

    def __init__(self, training: Training, student: Backbone) -> None:
        super().__init__()
        backbone = load_backbone(training.model.teacher or student.name)
        name, sizes = backbone.name, backbone.vae_preset
        wans = sizes.architecture == "wan" and sizes.light_decoder is None and student.vae_preset.light_decoder
        require(wans, f"{name}: a light decoder learns from a backbone with Wan's own; give model.light_decoder")
        same = encoder_identity(backbone.vae) == encoder_identity(student.vae)
        require(same, f"{name}: its encoder is not the one whose latents the decoder learns to decode")
        self.vae = backbone.vae
        wide, light = 2 * sizes.base_dim, student.vae_preset.light_decoder or 0
        compared = any(weights.features for weights in training.stage.all_weights)
        self.matrices = nn.ModuleList(nn.Linear(light * times, wide * times) for times in (2, 1) if compared)

    def forward(self, student: VideoVae, z: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What the student decodes, what the teacher shows, and how far the student's features are off, B."""
        wans, light = cast(Any, self.vae.model.decoder), cast(Any, student.model.decoder)
        with torch.no_grad(), features_of(wans.mid_block, wans.up_blocks[0]) as wanted:
            shown = self.vae.reconstruction(z).clamp(-1, 1)
        with features_of(light.every_fourth, light.every_second) as given:
            decoded = student.reconstruction(z)
        pairs = zip(self.matrices, given, wanted, strict=bool(self.matrices))
        apart = [_distance(matrix(torch.cat(own, 1)), torch.cat(theirs, 2)) for matrix, own, theirs in pairs]
        return decoded, shown, {"features": torch.stack(apart).mean(0)} if apart else {}


def _distance(given: Tensor, wanted: Tensor) -> Tensor:
    """‖a − b‖² / ‖b‖² of features B T h w C and B C T h w: the same at any scale."""
    wanted = wanted.permute(0, 2, 3, 4, 1).float()
    return losses.squared_error(given.float(), wanted) / wanted.square().flatten(1).mean(1).clamp_min(1e-12)


@contextmanager
def features_of(*layers: nn.Module) -> Iterator[list[list[Tensor]]]:
    """What each layer gives while it decodes, step after step."""
    given: list[list[Tensor]] = [[] for _ in layers]
    with ExitStack() as hooks:
        for layer, into in zip(layers, given, strict=True):
            hooks.enter_context(layer.register_forward_hook(lambda *call, into=into: into.append(call[-1])))
        yield given
