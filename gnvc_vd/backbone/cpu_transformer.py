"""Wan's transformer for decoding on a CPU: diffusers' modules and weights, in fewer passes over memory.

    control ─patches─▶ VACE blocks ─▶ hints
    x ───────patches─▶ blocks, (+) hints ─▶ velocity

Between the matrix products of a small transformer a CPU spends as long as on them. Here a norm and its modulation are
one pass, as are a gate and its sum, and rotary embedding is one complex product. The prompt must be one token, as in
tiny: it takes all attention, whatever asks, so that cross-attention is one vector for all places. Velocities differ
from diffusers' by rounding, and in bfloat16 are as far from float32's.
"""

import math
from itertools import product
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, rms_norm, scaled_dot_product_attention

SCORES = 1 << 19  # attention scores computed at once: a megabyte, which a core's cache holds


def may_compute(model: Any, x: Tensor) -> bool:
    """Whether this is a decoder on a CPU. A training's validation may be none: it has autocast, or blocks that FSDP
    divides, which gather their weights when they are called.
    """
    divided = type(model.blocks[0]) is not WanTransformerBlock
    return x.is_cpu and torch.is_inference_mode_enabled() and not (divided or torch.is_autocast_enabled("cpu"))


def cpu_velocity(model: Any, x: Tensor, sigma: float, text: Tensor, control: Tensor | None) -> Tensor:
    """The velocity at x for one σ, in float32.

    Args:
        model: diffusers' WanTransformer3DModel, or WanVACETransformer3DModel if there is a control.
        x: latents with their condition channels, B C T h w, in the weights' dtype like the control.
        text: embedding of a prompt of one token, 1 1 text_dim.
    """
    time, steps, text, _ = model.condition_embedder(x.new_full((1,), 1000 * sigma, dtype=torch.float32), text.to(x))
    cosine, sine = model.rope(x)
    common = steps.unflatten(1, (6, -1)), text, torch.complex(cosine[..., 0::2], sine[..., 1::2])
    tokens, hints = _tokens(model.patch_embedding, x), list[Tensor]()
    if control is not None:
        state = model.vace_blocks[0].proj_in(_tokens(model.vace_patch_embedding, control)).add_(tokens)
        hints = [block.proj_out(_block(block, state, *common)) for block in model.vace_blocks]
    for layer, block in enumerate(model.blocks):
        _block(block, tokens, *common)
        if hints and layer in model.config.vace_layers:
            tokens += hints.pop(0)
    patches = model.proj_out(_modulated(model.norm_out, tokens, *(model.scale_shift_table + time[:, None]).unbind(1)))
    size = {"h": x.shape[3] // 2, "w": x.shape[4] // 2, "p": 2, "q": 2}
    return rearrange(patches, "b (t h w) (p q c) -> b c t (h p) (w q)", **size).float()


def _tokens(embedding: nn.Conv3d, x: Tensor) -> Tensor:
    patches = rearrange(x, "b c t (h p) (w q) -> b (t h w) (c p q)", p=2, q=2)
    return linear(patches, embedding.weight.flatten(1), embedding.bias)


def _block(block: Any, x: Tensor, steps: Tensor, text: Tensor, angles: Tensor) -> Tensor:
    """Apply a transformer block to x, B N C, in place; angles of the rotary embedding are 1 N 1 head_dim/2."""
    shift, scale, gate, *ffn, ffn_gate = (block.scale_shift_table + steps).unbind(1)
    attended = _self_attention(block.attn1, _modulated(block.norm1, x, shift, scale), angles)
    x.addcmul_(attended, gate.to(x.dtype)).add_(block.attn2.to_out[0](block.attn2.to_v(text)))
    hidden = _linear(block.ffn.net[0].proj, _modulated(block.norm3, x, *ffn), "gelu")
    return x.addcmul_(_linear(block.ffn.net[2], hidden), ffn_gate.to(x.dtype))


def _modulated(norm: nn.LayerNorm, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return layer_norm(x, norm.normalized_shape, 1 + scale[0].float(), shift[0].float(), norm.eps)


def _self_attention(attention: Any, x: Tensor, angles: Tensor) -> Tensor:
    def rotated(layer: nn.Module, norm: nn.RMSNorm) -> Tensor:
        whole = rms_norm(_linear(layer, x).float(), norm.normalized_shape, norm.weight.float(), norm.eps)
        pairs = torch.view_as_complex(whole.unflatten(-1, (attention.heads, -1, 2)))
        return torch.view_as_real(pairs * angles).flatten(3).type_as(x).transpose(1, 2)

    query, key = rotated(attention.to_q, attention.norm_q), rotated(attention.to_k, attention.norm_k)
    value = _linear(attention.to_v, x).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    return _linear(attention.to_out[0], _attend(query, key, value).transpose(1, 2).flatten(2))


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention, B heads N d. In bfloat16 torch's own is no faster than in float32, but for a CPU with AMX."""
    if query.dtype != torch.bfloat16 or torch.cpu.get_capabilities().get("amx_bf16"):
        return scaled_dot_product_attention(query, key, value)
    out, rows = torch.empty_like(query), max(32, SCORES // key.shape[2])
    query = query / math.sqrt(query.shape[3])
    for place in product(range(query.shape[0]), range(query.shape[1])):
        for some, into in zip(query[place].split(rows), out[place].split(rows), strict=True):
            torch.mm(torch.softmax(some @ key[place].T, -1), value[place], out=into)
    return out


def _linear(layer: nn.Module, x: Tensor, after: str = "none") -> Tensor:
    """A linear layer, and GELU in the same pass if oneDNN has it."""
    if type(layer) is nn.Linear and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, after, [], "tanh")
    return layer(x) if after == "none" else gelu(layer(x), approximate="tanh")
