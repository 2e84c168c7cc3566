"""Fidelity: PSNR on RGB and on YUV, and MS-SSIM. A video's figure is the mean of its frames' figures.

PSNR = 10 log₁₀(peak² / MSE), at most 100 dB (which is what equal frames count).
"""

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gnvc_vd.metrics import check_sides
from gnvc_vd.metrics.pairs import Pair
from gnvc_vd.metrics.perceptual import OfClips
from gnvc_vd.video.planes import Planes

CEILING = 100.0  # dB
LUMA_WEIGHT, CHROMA_WEIGHT = 6 / 8, 1 / 8
check_size = partial(check_sides, 161)  # 11 pixels of window after four halvings


def psnr(x: NDArray[Any], y: NDArray[Any], peak: int = 255) -> float:
    """Of two arrays of codes, over all that they hold."""
    difference = x.astype(np.int32) - y
    error = float(np.square(difference).mean(dtype=np.float64))
    return CEILING if error == 0 else min(CEILING, 10 * math.log10(peak**2 / error))


def psnr_yuv(x: Planes, y: Planes) -> float:
    """(6·PSNR_Y + PSNR_U + PSNR_V) / 8."""
    luma, blue, red = (psnr(a, b, x.peak) for a, b in zip(x.codes, y.codes, strict=True))
    return LUMA_WEIGHT * luma + CHROMA_WEIGHT * (blue + red)


def psnr_rgb(pair: Pair) -> float:
    """Over R, G and B together."""
    return psnr(pair.reference, pair.test)


class MsSsim(OfClips):
    """MS-SSIM (Wang et al., 2003) of RGB, the mean of the three channels: 1 for equal pictures. As a loss, 1 − it.

    B 3 H W or B 3 T H W in [−1, 1] → (B,). Five scales, Gaussian window of 11 pixels with σ = 1.5, K = (0.01, 0.03).
    """

    def of_pictures(self, x: Tensor, y: Tensor) -> Tensor:  # B 3 H W each → (B,)
        from pytorch_msssim import ms_ssim

        check_size(x.shape[-1], x.shape[-2])
        return ms_ssim((x.float() + 1) / 2, (y.float() + 1) / 2, data_range=1.0, size_average=False)
