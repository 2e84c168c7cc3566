"""The conditioning adaptor: a VACE branch beside the frozen transformer, fed with what the latent codec decoded.

    [f, l̂, x̃_context, mask] ─patches─▶ copy of block ─▶ copy of block ─▶ …
                                            │ hint          │ hint            (zeroed projections at the start)
    x ──────patches──▶ block 0 ─ … ─▶ block a ─(+)─ … ─▶ block b ─(+)─ … ─▶ velocity

The depth ablation is the list of layers that take a hint; any subset will do, and an empty one is no adaptor.
"""

from collections.abc import Sequence

import torch
from diffusers import WanTransformer3DModel, WanVACETransformer3DModel
from torch import Tensor, nn

from gnvc_vd.conventions import GnvcError

BRANCH = ("vace_blocks.", "vace_patch_embedding.")


def with_adaptor(base: WanTransformer3DModel, layers: Sequence[int], channels: int) -> WanVACETransformer3DModel:
    """The transformer with a branch at these layers; it shares the base's tensors and starts as copies of its blocks.

    Every hint passes a projection of zeros, so the velocity is the base's until the branch is trained.
    """
    check_layers(layers, len(base.blocks))
    config = {name: value for name, value in dict(base.config).items() if not name.startswith("_")}
    with torch.device("meta"):
        # diffusers wants layer 0 among them but only counts the layers when it builds; its forward goes by the
        # configuration's list.
        model = WanVACETransformer3DModel(**config, vace_layers=[0, *layers[1:]], vace_in_channels=channels)
    model.register_to_config(vace_layers=list(layers))
    model.rope = base.rope
    state = dict(base.state_dict())
    for index, layer in enumerate(layers):
        state |= {
            f"vace_blocks.{index}.{name}": value.clone() for name, value in base.blocks[layer].state_dict().items()
        }
        state |= _linear(f"vace_blocks.{index}.proj_out", base, zero=True)
    state |= _linear("vace_blocks.0.proj_in", base, zero=False)
    weight = model.vace_patch_embedding.weight
    state["vace_patch_embedding.weight"] = torch.zeros(weight.shape, dtype=torch.float32)
    state["vace_patch_embedding.bias"] = torch.zeros(weight.shape[0], dtype=torch.float32)
    model.load_state_dict(state, strict=True, assign=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_branch(name))
    return model


def is_branch(name: str) -> bool:
    """Whether a parameter is the adaptor's own: what trains, while the rest stays frozen."""
    return name.startswith(BRANCH)


def branch_state(model: nn.Module) -> dict[str, Tensor]:
    """What a file of the adaptor holds."""
    return {name: value for name, value in model.state_dict().items() if is_branch(name)}


def check_layers(layers: Sequence[int], count: int) -> None:
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < count:
        raise GnvcError(f"adaptor layers {list(layers)} are not some of 0 … {count - 1}, each once and in order")


def _linear(name: str, base: WanTransformer3DModel, zero: bool) -> dict[str, Tensor]:
    """A projection of zeros, or the identity, so that a copied block first sees what its original sees."""
    width = base.proj_out.weight.shape[1]
    weight = torch.zeros(width, width) if zero else torch.eye(width)
    return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(width)}
