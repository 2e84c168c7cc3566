"""The refiner: moves a window of decoded latents towards clean ones, in a few Euler steps.

    l̂, ε ─start─▶ x(σ_0) ─▶ velocity(x, σ | f, l̂, context) … ─▶ x̃
                                       ▲ the adaptor, if it has layers

A continuation window begins with a context latent: the last refined latent of the window before. At every step its slot
is overwritten with that latent, noised to the current σ; the adaptor gets it with a mask; it is dropped at the end.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from gnvc_vd.backbone import flow
from gnvc_vd.backbone.compiling import compile_dit
from gnvc_vd.backbone.dit import WanDit
from gnvc_vd.backbone.flow import euler
from gnvc_vd.conventions import LATENT_CHANNELS, GnvcError
from gnvc_vd.learned.refine.adaptor import is_trained, start_from_vace, with_adaptor
from gnvc_vd.learned.refine.velocity_tiles import velocity_in_tiles
from gnvc_vd.presets import AdaptorPreset

CONTEXT_CHANNELS = LATENT_CHANNELS + 1  # the context latent and its mask


class Refiner(nn.Module):
    """A frozen transformer with an adaptor.

    Args:
        dit: the backbone's transformer, whose parameters are shared.
        preset: the adaptor's layers and inputs.
        features: number of channels of f.
        vace: diffusers folder with VACE weights to initialise the branch from, instead of copies of the dit's blocks.
        copies: False shares the memory of those blocks, for a caller who puts other tensors there.
    """

    def __init__(
        self, dit: WanDit, preset: AdaptorPreset, features: int, vace: Path | None = None, copies: bool = True
    ) -> None:
        super().__init__()
        self.preset = preset
        channels = features + CONTEXT_CHANNELS + preset.sees_latents * LATENT_CHANNELS + preset.sees_start
        model = with_adaptor(dit.model, preset, channels, copies)
        if vace is not None and preset.layers:
            start_from_vace(model, vace)
        self.dit = WanDit(model, dit.preset, dit.text[0], dit.attention)
        if dit.compiled:
            compile_dit(self.dit)

    def adaptor(self) -> dict[str, Tensor]:
        """The adaptor's tensors, without the backbone's."""
        return {name: value for name, value in self.dit.model.state_dict().items() if is_trained(name)}

    def load_adaptor(self, tensors: Mapping[str, Tensor], where: str, kind: torch.dtype | None = None) -> None:
        """Take a trained adaptor's tensors, which must be exactly these, in dtype `kind` or by default the branch's."""
        own = {name: one for name, one in self.dit.model.named_parameters() if is_trained(name)}
        if {name: value.shape for name, value in own.items()} != {name: t.shape for name, t in tensors.items()}:
            raise GnvcError(f"{where}: the adaptor's weights do not fit its layers")
        for name, parameter in own.items():
            parameter.data = tensors[name].to(parameter.device, kind or parameter.dtype)

    def velocity(self, x: Tensor, sigma: Tensor | float, hints: Tensor | None) -> Tensor:
        return self.dit.velocity(x, sigma, control=hints if self.preset.layers else None, quick=True)

    def hints(
        self, decoded: Tensor, features: Tensor, sigma_0: Tensor | float, context: Tensor | None = None
    ) -> Tensor:
        """The adaptor's input: f, l̂, the context latent in its slot, a mask of that slot, σ_0."""
        slot = decoded.new_zeros(decoded.shape[0], CONTEXT_CHANNELS, *decoded.shape[2:])
        if context is not None:
            slot[:, :LATENT_CHANNELS, :1] = context
            slot[:, LATENT_CHANNELS:, :1] = 1
        parts = [features, *([decoded] if self.preset.sees_latents else []), slot]
        if self.preset.sees_start:
            parts.append(flow.per_clip(sigma_0, slot) * torch.ones_like(slot[:, :1]))
        return torch.cat(parts, dim=1)

    def forward(
        self,
        decoded: Tensor,
        features: Tensor,
        noise: Tensor,
        sigma_0: Tensor | float,
        steps: int,
        context: Tensor | None = None,
        tile: int | None = None,
    ) -> Tensor:
        """Refine a window of latents.

        Args:
            decoded: l̂, B 16 T h w; with a context, its first latent is the context's own l̂.
            features: f, B F T h w.
            noise: B 16 T h w.
            sigma_0: σ at the start, one for all clips or one for each.
            context: last refined latent of the window before, B 16 1 h w.
            tile: pictures that are larger, in pixels, are refined in tiles of this size; None: at once.
        """
        hints = self.hints(decoded, features, sigma_0, context)

        def hold(x: Tensor, sigma: Tensor | float) -> Tensor:
            past = flow.start_point(cast(Tensor, context), noise[:, :, :1], sigma)
            return torch.cat([past, x[:, :, 1:]], dim=2)

        def velocity(x: Tensor, sigma: Tensor | float) -> Tensor:
            if tile is None:
                return self.velocity(x, sigma, hints)
            return velocity_in_tiles(lambda part, hint: self.velocity(part, sigma, hint), x, hints, tile)

        refined = euler(
            velocity,
            flow.start_point(decoded, noise, sigma_0),
            flow.grid(sigma_0, steps),
            None if context is None else hold,
        )
        return refined if context is None else refined[:, :, 1:]
