"""Terms of the losses as pure functions, one number for each clip (B); the papers' equations beside them.

A differentiable model of a transform code, so that a VAE learns latents that survive one and cost few bits:

    c = DCT(latents),  k = c²/(c² + d²)    each coefficient's own energy stands for its variance
    coded: k (c + d n)    bits: ½ log2(1 + c²/d²) = −½ log2(1 − k)

That is the Gaussian channel of error k d²: a coefficient far above d comes back with noise d, one far below it as 0.
Large ones cost one bit per octave and small ones almost none, so information gathers in few coefficients.
"""

import torch
from torch import Tensor

from gnvc_vd.bitstream.gop import frames_of
from gnvc_vd.conventions import QUALITIES, SPATIAL_STRIDE
from gnvc_vd.metrics.block_transform import dct_like
from gnvc_vd.train.settings import Rate

FINEST = 1 / 64  # of the coarsest level of a transform code
# Strides of decoders' upsampling and of a latent codec's blocks of 2×2 latents, each with the smallest side of the
# windows that it is looked for in. A pattern of period 2 also has period 4, so counts.
LATTICES = {4: 32, 8: 32, 16: 64}


def lambda_of(quality: Tensor, rate: Rate = Rate()) -> Tensor:  # noqa: B008 - frozen
    """λ_r of a quality, log-spaced over the levels."""
    part = quality.double() / (QUALITIES - 1)
    return (rate.smallest * (rate.largest / rate.smallest) ** part).float()


def sample_quality(uniform: Tensor, rate: Rate, progress: float | Tensor) -> Tensor:
    """A quality for each number in [0, 1): if widening, from the middle to all at progress 0.3."""
    if rate.quality is not None:
        return torch.full_like(uniform, rate.quality, dtype=torch.long)
    half = (QUALITIES - 1) / 2
    part = torch.as_tensor(4 * progress - 0.2, dtype=torch.float64).clamp(0, 1)
    spread = half * part if rate.widening else half
    return (half + spread * (2 * uniform - 1)).round().clamp(0, QUALITIES - 1).long()


def bits_per_pixel(bits: Tensor, latents: Tensor) -> Tensor:
    """R: bits B T of latents B 16 T h w, for each pixel of the video."""
    count, height, width = latents.shape[2:]
    return bits.sum(1) / (frames_of(count) * height * width * SPATIAL_STRIDE**2)


def squared_error(decoded: Tensor, wanted: Tensor) -> Tensor:
    """‖a − b‖², as a mean."""
    return (decoded - wanted).square().flatten(1).mean(1)


def absolute_error(decoded: Tensor, wanted: Tensor) -> Tensor:
    return (decoded - wanted).abs().flatten(1).mean(1)


def temporal_error(decoded: Tensor, wanted: Tensor) -> Tensor:
    """|ΔṼ − ΔV|, Δ from frame to frame: what flickers; 0 where there is one frame."""
    if decoded.shape[2] == 1:
        return decoded.new_zeros(len(decoded))
    return absolute_error(decoded.diff(dim=2), wanted.diff(dim=2))


def lattice(decoded: Tensor, wanted: Tensor) -> Tensor:
    """What repeats in the error of B 3 T H W with strides of 4, 8 and 16: of each stride, the energy of the mean cell.

    The mean is over all cells of a window and over all frames. What does not repeat cancels in it, and the mean of the
    cell itself, a shade, is no lattice. Windows are of 32 to 63 pixels a side, for a stride of 16 of 64 to 127, since a
    lattice changes from place to place with what is shown. Energies are summed over strides.
    """
    error = (decoded - wanted).mean(2)
    energies = [_mean_cells(error, *one).square().flatten(1).mean(1) for one in LATTICES.items()]
    return torch.stack(energies).sum(0)


def _mean_cells(error: Tensor, stride: int, smallest: int) -> Tensor:
    """Every window's mean cell, minus its own mean: B 3 windows windows stride stride."""
    for axis in (2, 4):  # the second time for the width, that lies two further now
        windows = max(1, error.shape[axis] // smallest)
        side = error.shape[axis] // windows // stride * stride
        error = error.narrow(axis, 0, windows * side).unflatten(axis, (windows, side // stride, stride))
        error = error.mean(axis + 1)
    cells = error.transpose(3, 4)
    return cells - cells.mean((4, 5), keepdim=True)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)) for each value, averaged."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).mean(1) / 2


def flow_matching(velocity: Tensor, target: Tensor, context: int = 0) -> Tensor:
    """L_CFM = E ‖v_θ(x_τ, τ, x_c) − v_τ‖²; the first `context` latents are given and do not count."""
    return squared_error(velocity[:, :, context:], target[:, :, context:])


def rate_distortion(bpp: Tensor, distortion: Tensor, quality: Tensor, rate: Rate) -> Tensor:
    """R + λ_r D; over √λ_r where one model has all qualities, so that none drowns the others."""
    weight = lambda_of(quality, rate)
    total = bpp + weight * distortion
    return total if rate.quality is not None else total / weight.sqrt()


def level_of(uniform: Tensor, coarsest: float) -> Tensor:
    """d for each number in [0, 1): every octave between the finest and the coarsest as often."""
    return coarsest * FINEST**uniform


def code_latents(latents: Tensor, level: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Latents B 16 T h w as codes of levels B 1 1 1 1 return them, and their bits for each pixel of the video, B."""
    coefficients = _transform(latents)
    energy = (coefficients / level).square()
    coded_coefficients = energy / (1 + energy) * (coefficients + level * noise)
    bits = 0.5 * torch.log2(1 + energy).sum((1, 3, 4))
    return _transform(coded_coefficients, back=True), bits_per_pixel(bits, latents)


def _transform(x: Tensor, back: bool = False) -> Tensor:
    """Over time and place, the whole clip one block."""
    for axis in (2, 3, 4):
        matrix = dct_like(x, x.shape[axis])
        x = torch.movedim(torch.movedim(x, axis, -1) @ (matrix if back else matrix.T), -1, axis)
    return x
