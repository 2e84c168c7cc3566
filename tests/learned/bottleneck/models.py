"""Latent codecs whose integers come from a generator: the same on every machine, whatever torch's own numbers do."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.entropy.integer import IntegerConv
from gnvc_vd.learned.bottleneck.base import Bottleneck
from gnvc_vd.learned.bottleneck.gains import Gains
from gnvc_vd.learned.bottleneck.hyperprior import EntropyModel
from gnvc_vd.learned.bottleneck.kinds import bottleneck_of
from gnvc_vd.learned.bottleneck.policies import qualities
from gnvc_vd.learned.bottleneck.slices import SliceEntropy
from gnvc_vd.learned.codec import GnvcVd, shown_identity_of
from gnvc_vd.learned.refine.refiner import Refiner
from gnvc_vd.presets import PRESETS, BottleneckKind

NANO = PRESETS["nano"].contextual
ONE = 1 << 16  # of a gain and of a scale


def trained_like(seed: int = 0, kind: BottleneckKind = "contextual", thrift: float = 0.0) -> Bottleneck:
    """Weights of usual sizes, frozen: symbols of every scale, means off zero."""
    torch.manual_seed(seed)
    model = bottleneck_of(PRESETS["nano"].bottleneck(kind), thrift).eval()
    if kind == "transform":
        model.measure(latents(4, 9, 8, 8, seed=9), 0.005, 12.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    model.freeze()
    return model


def from_generator(seed: int = 0, saturated: bool = False, kind: BottleneckKind = "contextual") -> Bottleneck:
    """Integers drawn by numpy's PCG64, which is fixed for ever; or all at their bounds, with signs drawn."""
    model = trained_like(kind=kind)
    rng = np.random.Generator(np.random.PCG64(seed))

    def draw(like: Tensor, bound: int) -> Tensor:
        drawn = rng.integers(-bound, bound + 1, tuple(like.shape))
        return torch.from_numpy(np.where(drawn < 0, -bound, bound) if saturated else drawn)

    for layer in model.modules():
        if isinstance(layer, IntegerConv):
            layer.weight_integers.copy_(draw(layer.weight_integers, 127))
            layer.bias_integers.copy_(draw(layer.bias_integers, 1 << 13))
            layer.shift.copy_(torch.from_numpy(rng.integers(9, 12, tuple(layer.shift.shape))))
        if isinstance(layer, Gains):
            rise = np.linspace(0.5, 8.0, 64)[:, None] * np.ones(layer.gain_integers.shape[1])
            layer.gain_integers.copy_(_rounded(rise * ONE))
            layer.inverse_integers.copy_(_rounded(ONE / rise))
            layer.level_integers.copy_(_rounded(2500 * (rise - 1) / 7))
        if isinstance(layer, SliceEntropy):
            _draw_slices(layer, draw, rng)
    for layer in model.modules():
        if isinstance(layer, EntropyModel):
            layer.quality_integers.copy_(draw(layer.quality_integers, 1023))
            layer.hyper_level_integers.copy_(torch.from_numpy(rng.integers(0, 64, layer.hyper_level_integers.shape)))
    return model


def _draw_slices(layer: SliceEntropy, draw: Callable[[Tensor, int], Tensor], rng: np.random.Generator) -> None:
    rise = np.linspace(0.5, 8.0, 64)[:, None, None] * np.ones(layer.gain_integers.shape[1:])
    scale = np.exp(rng.integers(-200, 200, tuple(layer.scale_integers.shape)) / 100)
    for name, value in {
        "gain_integers": rise * ONE,
        "inverse_integers": ONE / rise,
        "level_integers": 2500 * (rise - 1) / 7,
        "scale_integers": scale * ONE,
        "inverse_scale_integers": ONE / scale,
        "row_level_integers": 2000 * np.log(scale),
    }.items():
        getattr(layer, name).copy_(_rounded(value))
    for name in ("quality_integers", "row_integers"):
        getattr(layer, name).copy_(draw(getattr(layer, name), 500))


def _rounded(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Tensor:
    return torch.from_numpy(np.rint(values).astype(np.int64))


def spread(model: Bottleneck, base: int, count: int) -> list[int]:
    """Qualities of a GOP's latents: unequal ones where the codec has such."""
    uneven = qualities(base, count, "hierarchical")
    return uneven if model.unsupported_reason(uneven, model.usual_rotation(count)) is None else [base] * count


def latents(clips: int, count: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(clips, 16, count, height, width, generator=generator)


def nano_codec(kind: BottleneckKind) -> GnvcVd:
    """The whole codec at nano's size, with a latent codec of this kind as if it had been trained."""
    backbone, bottleneck = load_backbone("nano"), trained_like(kind=kind)

    def refiner() -> Refiner:
        torch.manual_seed(1)
        return Refiner(backbone.dit, PRESETS["nano"].adaptor, bottleneck.preset.features).requires_grad_(False)

    shown = shown_identity_of(backbone, bottleneck.requires_grad_(False), {})
    return GnvcVd(f"nano {kind}", backbone, bottleneck, shown, refiner)
