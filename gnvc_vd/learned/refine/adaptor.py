"""The conditioning adaptor: a VACE branch beside the frozen transformer, whose input is the decoded latents.

    [f, l̂, x̃_context, mask, σ_0] ─patches─▶ copy of block ─▶ copy of block ─▶ …
                                                │ hint             │ hint    (zeroed projections at the start)
    x ──────patches──▶ block 0 ─ … ─▶ block a ─(+)─ … ─▶ block b ─(+)─ … ─▶ velocity

The adaptor's depth is the list of layers that take a hint: any subset; an empty list is no branch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformer3DModel
from torch import Tensor

from gnvc_vd.backbone.lean_diffusers import without_values
from gnvc_vd.backbone.sources import read_tensors, shards
from gnvc_vd.common import strict
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.presets import AdaptorPreset

BRANCH = ("vace_blocks.", "vace_patch_embedding.")
LORA = ".lora_"
ATTENTION = r"blocks\.\d+\.attn[12]\.(to_q|to_k|to_v|to_out\.0)"  # the backbone's, not the branch's


def with_adaptor(
    base: WanTransformer3DModel, preset: AdaptorPreset, channels: int, copies: bool = True
) -> WanTransformer3DModel:
    """Build a transformer that shares the base's parameters and has a branch, and LoRA if the preset sets it.

    The branch starts as copies of the base's blocks with zeroed projections of the hints, and LoRA starts at zero; so
    the velocity is the base's until the adaptor is trained.

    Args:
        copies: False shares the base's memory with the branch too, for a caller who puts other tensors there.
    """
    layers, count = list(preset.layers), len(base.blocks)
    if layers != sorted(set(layers)) or not all(0 <= layer < count for layer in layers):
        raise GnvcError(f"adaptor layers {layers} are not some of 0 … {count - 1}, each once and in order")
    model = _empty(base, layers, channels)
    # The parameters themselves, not copies: moving one model to a device moves both.
    shared = dict(base.state_dict()) | dict(base.named_parameters())
    branch = _branch(base, layers, channels, copies) if layers else {}
    model.load_state_dict(shared | branch, strict=True, assign=True)
    model.rope = base.rope
    if preset.lora_rank is not None:
        from peft import LoraConfig, inject_adapter_in_model

        lora = LoraConfig(r=preset.lora_rank, lora_alpha=preset.lora_rank, target_modules=ATTENTION)
        inject_adapter_in_model(lora, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(name))
    return model


def is_trained(name: str) -> bool:
    """Whether a parameter is the adaptor's own; all others are the backbone's and stay frozen."""
    return name.startswith(BRANCH) or LORA in name


def is_identity(adaptor: Mapping[str, Tensor]) -> bool:
    """Whether these tensors leave the velocity as it is: no step has trained them, nor do they come from VACE."""
    leaves = [value for name, value in adaptor.items() if ".proj_out." in name or ".lora_B." in name]
    return not any(bool(value.any()) for value in leaves)


def start_from_vace(model: WanVACETransformer3DModel, folder: Path) -> None:
    """Initialise the branch with published VACE weights from a diffusers folder; hints are not zero then.

    Its layers must be among VACE's. The condition's embedding, which VACE does not have, stays at zero. The blocks are
    in float32 for training, whatever the backbone's dtype.
    """
    folder = folder / "transformer" if (folder / "transformer").is_dir() else folder
    require(folder.is_dir(), f"{folder}: missing; `python scripts/fetch_weights.py` fetches VACE's weights", GnvcError)
    config = strict.read_object(folder / "config.json")
    published = config.get("vace_layers")
    if config.get("_class_name") != "WanVACETransformer3DModel" or not isinstance(published, list):
        raise GnvcError(f"{folder}: not a VACE transformer")
    layers = list(model.config.vace_layers)
    if not set(layers) <= set(published):
        raise GnvcError(f"{folder}: has blocks at layers {published}, so none for {sorted({*layers} - {*published})}")
    tensors = read_tensors(shards(folder))
    for name, parameter in model.named_parameters():
        if name.startswith("vace_blocks."):
            _, index, rest = name.split(".", 2)
            place = 0 if rest.startswith("proj_in.") else published.index(layers[int(index)])
            tensor = tensors.get(f"vace_blocks.{place}.{rest}")
            if tensor is None or tensor.shape != parameter.shape:
                raise GnvcError(f"{folder}: its weights do not fit this transformer (for one {name!r})")
            parameter.data = tensor.to(parameter.device, torch.float32)


def _empty(base: WanTransformer3DModel, layers: Sequence[int], channels: int) -> WanTransformer3DModel:
    config = {name: value for name, value in dict(base.config).items() if not name.startswith("_")}
    with without_values():
        if not layers:
            return WanTransformer3DModel(**config)
        # diffusers requires layer 0 in the list, but its constructor uses the list's length alone; its forward uses
        # the list in the configuration, which is set below.
        model = WanVACETransformer3DModel(**config, vace_layers=[0, *layers[1:]], vace_in_channels=channels)
    model.register_to_config(vace_layers=list(layers))
    return model


def _branch(base: WanTransformer3DModel, layers: Sequence[int], channels: int, copies: bool) -> dict[str, Tensor]:
    like = base.patch_embedding.weight
    state: dict[str, Tensor] = {}
    for index, layer in enumerate(layers):
        block = f"vace_blocks.{index}"
        own = base.blocks[layer].state_dict()
        state |= {f"{block}.{name}": value.clone() if copies else value for name, value in own.items()}
        state |= _linear(f"{block}.proj_out", like.new_zeros(len(like), len(like)))
    # The identity, so that a copied block gets the same input as its original at first.
    state |= _linear("vace_blocks.0.proj_in", torch.eye(len(like), dtype=like.dtype, device=like.device))
    return state | _linear("vace_patch_embedding", like.new_zeros(len(like), channels, *like.shape[2:]))


def _linear(name: str, weight: Tensor) -> dict[str, Tensor]:
    return {f"{name}.weight": weight, f"{name}.bias": weight.new_zeros(len(weight))}
