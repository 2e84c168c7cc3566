"""Haar transform of a rotation's lowest slice into four bands; smooth content is concentrated in the first.

    y_0, h × w ─▶ smooth band, and horizontal, vertical and diagonal details, each h/2 × w/2

It is orthonormal, so errors and quantisation steps keep their meaning. A side of odd length is padded by repeating its
last row or column. As context for other slices, whitened bands are transformed back to y_0, in exact integers.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from gnvc_vd.common.constants import constant
from gnvc_vd.entropy.integer import REACH, UNITS, in_units, round_shift, straight_round
from gnvc_vd.learned.bottleneck.slices import CHANNELS, LONGEST

# Of each band at the four places; the transform is half of it.
SIGNS = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))
RATIO_BITS = 12


class Pyramid(nn.Module):
    """The integer inverse of the Haar transform, for whitened bands."""

    ratio_integers: Tensor  # lengths bands C

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ratio_integers", torch.zeros(LONGEST, len(SIGNS), CHANNELS, dtype=torch.int32))

    def freeze(self, log_scales: Tensor) -> None:
        self.ratio_integers.copy_((ratios(log_scales.double()) * (1 << RATIO_BITS)).round())

    def values(self, bands: Tensor, log_scales: Tensor, length: int, size: tuple[int, int]) -> Tensor:
        """Transform whitened bands, B 4 C h/2 w/2, back to their slice, whitened by its own scale, B C h w.

        Args:
            log_scales: logarithms of the bands' scales, lengths 4 C.
        """
        if bands.is_floating_point():
            scaled = straight_round(bands * ratios(log_scales)[length - 1][:, :, None, None] * UNITS) / UNITS
            joined = _signed_sum(scaled, size)
            return in_units(joined / 2)
        ratio = self.ratio_integers[length - 1].long()[:, :, None, None]
        joined = _signed_sum(round_shift(bands * ratio, RATIO_BITS), size)
        return round_shift(joined, 1).clamp(-REACH, REACH)


def split_bands(slice_: Tensor) -> Tensor:
    """Transform a slice B C h w to bands B 4 C ⌈h/2⌉ ⌈w/2⌉."""
    height, width = slice_.shape[2:]
    even = pad(slice_, (0, width % 2, 0, height % 2), mode="replicate")
    return torch.einsum("kp,bcphw->bkchw", _signs(slice_) / 2, pixel_unshuffle(even, 2).unflatten(1, (-1, 4)))


def join_bands(bands: Tensor, size: tuple[int, int]) -> Tensor:
    """Transform bands back to a slice B C h w."""
    return _signed_sum(bands, size) / 2


def spread(errors: Tensor, size: tuple[int, int]) -> Tensor:
    """Expected squared errors of a slice from those of its bands: each place gets the mean of all four."""
    mean = errors.mean(1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    return mean[:, :, : size[0], : size[1]]


def ratios(log_scales: Tensor) -> Tensor:
    """Ratios of each band's scale to their slice's scale, lengths 4 C."""
    power = (2 * log_scales).exp()
    return (power / power.mean(1, keepdim=True)).sqrt()


def _signed_sum(bands: Tensor, size: tuple[int, int]) -> Tensor:
    """The signed sum of the four bands at each place of the slice."""
    if bands.is_floating_point():
        places = torch.einsum("kp,bkchw->bcphw", _signs(bands), bands)
    else:
        shaped = _signs(bands).T[None, :, :, None, None, None]  # 1 p k: integers have no matrix product
        places = (shaped * bands[:, None]).sum(2).transpose(1, 2)
    return pixel_shuffle(places.flatten(1, 2), 2)[:, :, : size[0], : size[1]]


@constant
def _signs() -> Tensor:
    return torch.tensor(SIGNS)
