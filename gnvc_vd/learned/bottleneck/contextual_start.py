"""Measured start of the contextual codec: before training, it is a closed-loop transform code of latents.

    anchor     l_1 − mean     ─2×2 blocks─▶ ─KLT of anchors─▶     y_1 ─gain, rounding─▶ ŷ_1 ─KLTᵀ─▶ + mean    = l̂_1
    predicted  l_t − l̂_{t−1}  ─2×2 blocks─▶ ─KLT of differences─▶ y_t ─gain, rounding─▶ ŷ_t ─KLTᵀ─▶ + l̂_{t−1} = l̂_t

Only values of parameters are set. The transforms pass latents through their first channels, and every block adds zero.
The other channels stay random, but their weights in the last layer are zero, which training changes at its first step.
The entropy models predict zero means and the measured scales, for any input.
"""

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from gnvc_vd.common.strict import require
from gnvc_vd.conventions import LATENT_CHANNELS
from gnvc_vd.entropy.cdf_tables import STEP
from gnvc_vd.entropy.integer import UNITS, IntegerConv
from gnvc_vd.learned.bottleneck.gains import FINER, LEVEL_UNITS, SMALLEST_SCALE, initial_log_gains
from gnvc_vd.learned.bottleneck.hyperprior import EntropyModel
from gnvc_vd.learned.bottleneck.networks import Analysis, DepthBlock, Synthesis
from gnvc_vd.learned.bottleneck.symbol_coding import MIDDLE, MIDDLE_SCALE

if TYPE_CHECKING:
    from gnvc_vd.learned.bottleneck.contextual import Contextual

COEFFICIENTS = 4 * LATENT_CHANNELS  # of a 2×2 block of latents
HYPER_SCALE = 0.15  # scale of ẑ's tables at a gain of one: nearly all ẑ are 0 and take few bits
HYPER_PART = 0.5  # factor on the random weights of the last layer of z's analysis
FEATURE_SCALE = 0.5  # of random biases after ẑ: with zeros, no gradient would pass where all ẑ are 0


class BlockCode(NamedTuple):
    """A transform of 2×2 blocks, and the scales of its coefficients."""

    basis: Tensor  # components × 64, orthonormal rows, strongest first
    scales: Tensor  # components


@torch.no_grad()
def measure(model: "Contextual", latents: Tensor, smallest: float, largest: float) -> None:
    """Initialise the model as a transform code of these latents, for qualities with λ from smallest to largest.

    Args:
        latents: latents of training clips, N 16 T h w with T of at least 2; the first is the first of a GOP.
    """
    require(latents.shape[2] > 1, "a measured start needs clips of at least two latents, 5 frames")
    log_gain = initial_log_gains(smallest, largest)
    mean = latents[:, :, 0].mean((0, 2, 3))
    blocks = pixel_unshuffle((latents - mean[:, None, None, None]).transpose(1, 2), 2)  # N T 64 h/2 w/2
    count = min(COEFFICIENTS, model.preset.symbols, model.preset.width)
    anchors = _block_code(blocks[:, :1], count)
    differences = _block_code(blocks.diff(dim=1), count)
    _begin_transforms(model.anchor_analysis, model.anchor_synthesis, anchors.basis, mean)
    _begin_transforms(model.analysis, model.synthesis, differences.basis, torch.zeros_like(mean))
    _begin_entropy(model.anchor_entropy, anchors.scales, log_gain)
    _begin_entropy(model.entropy, differences.scales, log_gain)


def _block_code(blocks: Tensor, count: int) -> BlockCode:
    """The KLT of blocks N T 64 h w, whose mean is taken as zero."""
    flat = blocks.transpose(1, 2).transpose(0, 1).flatten(1).double()
    energy, components = torch.linalg.eigh(flat @ flat.T / flat.shape[1])
    scales = energy.flip(0)[:count].clamp_min(0).sqrt()
    return BlockCode(components.flip(1).T[:count].float(), scales.float())


def _begin_transforms(analysis: Analysis, synthesis: Synthesis, basis: Tensor, mean: Tensor) -> None:
    count = len(basis)
    for part in (analysis, synthesis):
        for block in part.modules():
            if isinstance(block, DepthBlock):
                _zero(cast(nn.Conv2d, block.spatial[-1]))
                _zero(block.narrow)
    _pass_on(analysis.enter, torch.eye(LATENT_CHANNELS), -mean)
    _pass_on(analysis.down, basis.unflatten(1, (LATENT_CHANNELS, 2, 2)))
    _zero(analysis.leave)
    _pass_on(analysis.leave, torch.eye(count))
    up = cast(nn.Conv2d, synthesis.up[0])
    _pass_on(synthesis.enter, torch.eye(count), columns=count)
    _pass_on(up, basis.T)
    _pass_on(synthesis.meet, torch.eye(LATENT_CHANNELS))
    _zero(synthesis.leave)
    _pass_on(synthesis.leave, torch.eye(LATENT_CHANNELS), mean)


def _zero(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(cast(Tensor, layer.bias))


def _pass_on(layer: nn.Conv2d, matrix: Tensor, bias: Tensor | None = None, columns: int | None = None) -> None:
    """Set a layer's first outputs to `matrix` (O I or O I 2 2) times its first inputs, and their other weights to 0.

    Args:
        columns: number of inputs whose weights are set to 0; default: all.
    """
    weight, outputs = layer.weight, len(matrix)
    weight[:outputs, :columns] = 0
    if matrix.ndim == 2:
        middle = weight.shape[2] // 2
        weight[:outputs, : matrix.shape[1], middle, middle] = matrix
    else:
        weight[:outputs, : matrix.shape[1]] = matrix
    cast(Tensor, layer.bias)[:outputs] = 0 if bias is None else bias


def _begin_entropy(model: EntropyModel, scales: Tensor, log_gain: Tensor) -> None:
    rise = cast(Tensor, model.gains.rise)
    model.gains.knots.copy_(log_gain.to(rise)[:, None] - rise)
    _begin_hyper(model)
    nothing = -MIDDLE - float(log_gain.max()) / STEP  # the narrowest table at every quality, for channels that are 0
    tables = torch.full((model.channels,), nothing)
    tables[: len(scales)] = _tables_from_middle(scales)
    for head in (model.first, model.second):
        leave = cast(IntegerConv, head[-1])
        nn.init.zeros_(leave.weight)
        nn.init.zeros_(leave.bias)
        leave.bias[model.channels :] = tables * LEVEL_UNITS / (UNITS << FINER)


def _begin_hyper(model: EntropyModel) -> None:
    """Initialise the hyperprior so that z is small and takes few bits, but not all ẑ are 0, for gradients to pass."""
    leave = cast(nn.Conv2d, model.analysis[-1])
    leave.weight.mul_(HYPER_PART)
    nn.init.zeros_(cast(Tensor, leave.bias))
    model.hyper_levels.fill_(float(_tables_from_middle(torch.tensor(HYPER_SCALE))))
    nn.init.normal_(cast(IntegerConv, model.synthesis[0]).bias, std=FEATURE_SCALE)


def _tables_from_middle(scale: Tensor) -> Tensor:
    """The table's index for a scale, relative to MIDDLE."""
    return (scale.clamp_min(SMALLEST_SCALE) / MIDDLE_SCALE).log() / STEP
