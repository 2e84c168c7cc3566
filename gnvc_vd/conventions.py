"""Conventions of the package: tensor layouts, value ranges, time, rates; and its errors.

Tensors
    video     B C T H W, RGB in [−1, 1], C = 3, T = 1 + 4k frames after padding
    latents   B C T H W, C = 16, T = 1 + k, at H/8 × W/8, normalised with the VAE's mean and standard deviation
    frames    H W 3 uint8 (one frame) or T H W 3 (several), as video files are read; never padded

Time is σ, as in Wan and diffusers: σ = 1 is noise, σ = 0 is data, velocity = noise − data, timestep = 1000·σ.
The GNVC-VD paper's time is τ = 1 − σ.

Rates: bits = 8 · (bytes of the file), bpp is per pixel of the unpadded video. A higher quality is a better picture.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SPATIAL_STRIDE = 8  # pixels per latent, horizontally and vertically
TEMPORAL_STRIDE = 4  # frames per latent; the first latent holds one frame
LATENT_CHANNELS = 16
SAMPLES_PER_PIXEL = 3  # R, G and B
PIXEL_MULTIPLE = 16  # padded sides: the VAE's stride 8 times the transformer's patch side 2
QUALITIES = 64  # quality is 0 … 63
MAX_SIDE = (1 << 14) - 1  # largest width and height in pixels
MAX_PIXELS = 8192 * 4352  # about 8K; the default limit for videos and streams that are read
MAX_RATE = 1000  # frames per second
MAX_RATE_DENOMINATOR = (1 << 14) - 1
COMMON_RATES = (
    *(Fraction(n) for n in (24, 25, 30, 48, 50, 60, 90, 100, 120, 15, 16, 12, 10)),
    *(Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120)),
)

Frame = NDArray[np.uint8]  # H W 3
Matrix = Literal["bt601", "bt709", "bt2020"]
ColourRange = Literal["limited", "full"]
UNSPECIFIED = 2  # H.273's code for "unspecified"
TRANSFERS = frozenset({1, UNSPECIFIED, *range(4, 19)})  # transfer characteristics that H.273 defines
TRANSFER_NAMES = {1: "bt709", 6: "bt601", 8: "linear", 13: "srgb", 14: "bt2020", 16: "pq", 18: "hlg"}
HDR_TRANSFERS = (16, 18)  # PQ, HLG


@dataclass(frozen=True)
class Colour:
    """The conversion between RGB and YUV: its matrix, by the standard's name, and the range of the YUV codes.

    The transfer function is recorded, which distinguishes HDR from SDR, but takes no part in the conversion; so colours
    that differ in it alone compare as equal.
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
    """An error in the input or the environment; the command line prints its one sentence and exits with 1."""


class UsageError(GnvcError):
    """A wrong call or argument; the command line prints its one sentence and exits with 2."""


def assert_frame(frame: Frame) -> None:
    """Raise ValueError unless `frame` is H W 3 uint8."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"a frame is H W 3 uint8, not {frame.shape} {frame.dtype}")


def bits_per_pixel(file_bytes: float, width: int, height: int, frames: int) -> float:
    return 8 * file_bytes / (width * height * frames)


def kilobits_per_second(file_bytes: int, frames: int, rate: Fraction) -> float:
    return 8 * file_bytes * float(rate) / frames / 1000
