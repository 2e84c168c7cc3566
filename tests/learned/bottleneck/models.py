"""Latent codecs whose integers come from a generator: the same on every machine, whatever torch's own numbers do."""

import numpy as np
import torch

from gnvc_vd.entropy.integer import IntegerConv
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.bottleneck.gains import Gains
from gnvc_vd.presets import PRESETS

NANO = PRESETS["nano"].contextual


def trained_like(seed: int = 0, **variant: float) -> Contextual:
    """Weights of usual sizes, frozen: symbols of every scale, means off zero."""
    torch.manual_seed(seed)
    model = Contextual(NANO, **variant).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    model.freeze()
    return model


def from_generator(seed: int = 0, saturated: bool = False) -> Contextual:
    """Integers drawn by numpy's PCG64, which is fixed for ever; or all at their bounds, with signs drawn."""
    model = trained_like()
    rng = np.random.Generator(np.random.PCG64(seed))

    def draw(like: torch.Tensor, bound: int) -> torch.Tensor:
        drawn = rng.integers(-bound, bound + 1, tuple(like.shape))
        return torch.from_numpy(np.where(drawn < 0, -bound, bound) if saturated else drawn)

    for layer in model.modules():
        if isinstance(layer, IntegerConv):
            layer.weight_integers.copy_(draw(layer.weight_integers, 127))
            layer.bias_integers.copy_(draw(layer.bias_integers, 1 << 13))
            layer.shift.copy_(torch.from_numpy(rng.integers(9, 12, tuple(layer.shift.shape))))
        if isinstance(layer, Gains):
            rise = np.linspace(0.5, 8.0, 64)[:, None] * np.ones(layer.gain_integers.shape[1])
            layer.gain_integers.copy_(torch.from_numpy(np.rint(rise * 65536).astype(np.int64)))
            layer.inverse_integers.copy_(torch.from_numpy(np.rint(65536 / rise).astype(np.int64)))
            layer.level_integers.copy_(torch.from_numpy(np.rint(2500 * (rise - 1) / 7).astype(np.int64)))
    for model_part in (model.anchor_entropy, model.entropy):
        model_part.quality_integers.copy_(draw(model_part.quality_integers, 1023))
        model_part.hyper_level_integers.copy_(
            torch.from_numpy(rng.integers(0, 64, model_part.hyper_level_integers.shape))
        )
    return model


def latents(clips: int, count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(clips, 16, count, height, width, generator=generator)
