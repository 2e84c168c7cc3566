"""Layouts, ranges and time, written once and asserted at the edges of the package.

Tensors
    video     B C T H W, RGB in [−1, 1], C = 3, T = 1 + 4k frames after padding
    latents   B C T H W, C = 16, T = 1 + k, at H/8 × W/8, normalised with the VAE's mean and standard deviation
    frames    H W 3 uint8 (one frame) or T H W 3 (several): what the video layer hands over, never padded

Shape suffixes in dense code name the axes: `x_BCTHW`, `y_CHW`.

Time is σ, as in Wan and diffusers: σ = 1 is noise, σ = 0 is data, velocity = noise − data, timestep = 1000·σ.
The GNVC-VD paper counts τ = 1 − σ.

Rates: bits = 8 · (bytes of the file), bpp per pixel of the true (unpadded) video. Quality rises with its number.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SPATIAL_STRIDE = 8  # pixels a latent covers, each way
TEMPORAL_STRIDE = 4  # frames a latent covers, after the first
LATENT_CHANNELS = 16
SAMPLES_PER_PIXEL = 3  # R, G and B
PIXEL_MULTIPLE = 16  # the VAE's 8 times the transformer's 2×2 patch
QUALITIES = 64  # 0 … 63
MAX_SIDE = (1 << 14) - 1  # pixels of a picture each way
MAX_PIXELS = 8192 * 4352  # about 8K; what readers accept unless told otherwise
MAX_RATE = 1000  # frames a second
MAX_RATE_DENOMINATOR = (1 << 14) - 1
COMMON_RATES = (
    *(Fraction(n) for n in (24, 25, 30, 48, 50, 60, 90, 100, 120, 15, 16, 12, 10)),
    *(Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120)),
)

Frame = NDArray[np.uint8]  # H W 3
Matrix = Literal["bt601", "bt709", "bt2020"]
ColourRange = Literal["limited", "full"]
UNSPECIFIED = 2  # H.273's code where a file says nothing
TRANSFERS = frozenset({1, UNSPECIFIED, *range(4, 19)})  # transfer characteristics that H.273 defines
TRANSFER_NAMES = {1: "bt709", 6: "bt601", 8: "linear", 13: "srgb", 14: "bt2020", 16: "pq", 18: "hlg"}
HDR_TRANSFERS = (16, 18)  # PQ, HLG


@dataclass(frozen=True)
class Colour:
    """How RGB and YUV relate: the luma coefficients by their standard's name, and the range of the codes.

    The transfer function is carried, so that HDR can be told from SDR; nothing is converted by it. Colours that differ
    in it alone convert alike, and count as equal.
    """

    matrix: Matrix
    range: ColourRange
    transfer: int = field(default=UNSPECIFIED, compare=False)  # H.273's code

    def __str__(self) -> str:
        text = f"{self.matrix} {self.range}"
        if self.transfer == UNSPECIFIED:
            return text
        return f"{text}, transfer {TRANSFER_NAMES.get(self.transfer, self.transfer)}"


class GnvcError(Exception):
    """Something outside the program is wrong: said in one sentence, exit code 1, no traceback."""


class UsageError(GnvcError):
    """The call is wrong: said in one sentence, exit code 2."""


def assert_frame(frame: Frame) -> None:
    """One frame as the video layer hands it over: H W 3, uint8."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"a frame is H W 3 uint8, not {frame.shape} {frame.dtype}")


def bits_per_pixel(file_bytes: float, width: int, height: int, frames: int) -> float:
    return 8 * file_bytes / (width * height * frames)


def kilobits_per_second(file_bytes: int, frames: int, rate: Fraction) -> float:
    return 8 * file_bytes * float(rate) / frames / 1000
