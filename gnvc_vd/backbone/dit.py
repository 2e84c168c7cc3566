"""Wan's video transformer as a velocity field: v(x, σ) = E[noise − data | x at σ].

x (B 16 T h w) ─┐
condition (B 20) ┴─cat─▶ patches ─▶ blocks ─▶ velocity (B 16 T h w)
1000·σ, empty prompt ───────────────▲
"""

import logging

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn

from gnvc_vd.backbone.cpu_transformer import cpu_velocity, may_compute
from gnvc_vd.backbone.encoders import CLIP_TOKENS
from gnvc_vd.backbone.image_condition import Condition
from gnvc_vd.backbone.sources import DIFFUSERS_SIZES
from gnvc_vd.conventions import LATENT_CHANNELS, GnvcError
from gnvc_vd.presets import DitPreset


class WanDit(nn.Module):
    """diffusers' WanTransformer3DModel with the interface `velocity`.

    Args:
        model: the transformer; it computes in its weights' dtype, while inputs and outputs are float32.
        preset: its sizes.
        text: embedding of the empty prompt, tokens × text_dim; padded with zeros as in Wan's own pipeline.
        attention: diffusers' name for an attention backend; all but "native" must be installed.
    """

    compiled = False  # its blocks, by compiling.py
    text: Tensor

    def __init__(
        self, model: WanTransformer3DModel, preset: DitPreset, text: Tensor, attention: str = "native"
    ) -> None:
        super().__init__()
        self.model = model
        self.preset = preset
        self.attention = attention
        self.register_buffer("text", self._pad_text(text), persistent=False)
        _choose_attention(model, attention)

    def velocity(
        self,
        x: Tensor,
        sigma: Tensor | float,
        condition: Condition | None = None,
        control: Tensor | None = None,
        *,
        text: Tensor | None = None,
        quick: bool = False,
    ) -> Tensor:
        """The velocity at x. `sigma` is one number or one for each clip; without a condition, its channels are zeros.

        Args:
            control: input of the adaptor's branch (refine/adaptor.py), B C T h w.
            text: embedding of a prompt, tokens × text_dim; default: the empty prompt's.
            quick: allow rounding other than diffusers', for speed, where cpu_transformer.py can compute it.
        """
        if x.ndim != 5 or x.shape[1] != LATENT_CHANNELS or x.shape[3] % 2 or x.shape[4] % 2:
            raise ValueError(f"expected latents B {LATENT_CHANNELS} T h w with even h and w, not {tuple(x.shape)}")
        batch, dtype = x.shape[0], self.model.patch_embedding.weight.dtype
        prompt = self.text if text is None else self._pad_text(text)
        takes_one_token = (self.preset.text_tokens, self.preset.image_dim) == (1, None)
        as_usual = self.attention == "native" and not self.compiled
        if not isinstance(sigma, Tensor):
            if quick and takes_one_token and as_usual and may_compute(self.model, x):
                hints = None if control is None else control.to(dtype)
                return cpu_velocity(self.model, self._with_condition(x, condition).to(dtype), sigma, prompt, hints)
            sigma = x.new_full((), sigma)  # filled there, not copied from the host
        sigma = sigma.to(x.device, torch.float32).expand(batch)
        return self.model(
            hidden_states=self._with_condition(x, condition).to(dtype),
            timestep=1000 * sigma,
            encoder_hidden_states=prompt.to(x.device, dtype).expand(batch, -1, -1),
            encoder_hidden_states_image=self._image(batch, condition, dtype),
            return_dict=False,
            **({} if control is None else {"control_hidden_states": control.to(dtype)}),
        )[0].float()

    def _pad_text(self, text: Tensor) -> Tensor:
        tokens, width = self.preset.text_tokens, self.preset.text_dim
        if text.ndim != 2 or text.shape[0] > tokens or text.shape[1] != width:
            raise GnvcError(f"a prompt's embedding is {tuple(text.shape)}, the model takes up to {tokens} × {width}")
        return nn.functional.pad(text, (0, 0, 0, tokens - text.shape[0]))[None]

    def _with_condition(self, x: Tensor, condition: Condition | None) -> Tensor:
        count = self.preset.condition_channels
        if condition is not None and count == 0:
            raise ValueError("this preset takes no condition")
        given = x.new_zeros(x.shape[0], count, *x.shape[2:]) if condition is None else condition.channels
        if given.shape != (x.shape[0], count, *x.shape[2:]):
            raise ValueError(f"expected {count} condition channels beside {tuple(x.shape)}, not {tuple(given.shape)}")
        return torch.cat([x, given], dim=1)

    def _image(self, batch: int, condition: Condition | None, dtype: torch.dtype) -> Tensor | None:
        if self.preset.image_dim is None:
            return None
        image = None if condition is None else condition.image
        if image is None:
            image = self.text.new_zeros(batch, self.preset.image_tokens or CLIP_TOKENS, self.preset.image_dim)
        return image.reshape(-1, CLIP_TOKENS, self.preset.image_dim).to(dtype)  # diffusers: one row for each image


def build_dit(preset: DitPreset) -> WanTransformer3DModel:
    """Build a preset's transformer with random weights."""
    return WanTransformer3DModel(
        **{theirs: getattr(preset, ours) for ours, theirs in DIFFUSERS_SIZES.items()},
        in_channels=LATENT_CHANNELS + preset.condition_channels,
        out_channels=LATENT_CHANNELS,
        added_kv_proj_dim=preset.dim if preset.image_dim else None,
    )


def keep_in_float32(name: str) -> bool:
    """Whether Wan keeps this parameter in float32 when the rest is bfloat16."""
    return bool(set(name.split(".")) & set(WanTransformer3DModel._keep_in_fp32_modules))


def _choose_attention(model: WanTransformer3DModel, attention: str) -> None:
    """Set the backend on every layer: layers without one would use that of the last model, in diffusers."""
    logger = logging.getLogger("diffusers.models.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)  # "an experimental feature", for each model
    try:
        model.set_attention_backend(attention)
    except (ValueError, RuntimeError, ImportError) as error:
        raise GnvcError(f"attention back-end {attention!r} cannot be used: {error}") from error
    finally:
        logger.setLevel(level)
