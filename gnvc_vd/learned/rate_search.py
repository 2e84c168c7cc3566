"""Search for the quality whose whole file is nearest to a target size, or the highest one within a limit.

latents ──encode at a quality──▶ bytes of the file ──bisection over 64 qualities──▶ units; at most seven encodings
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from gnvc_vd.bitstream import Header, Unit, pack_stream
from gnvc_vd.conventions import QUALITIES, GnvcError, bits_per_pixel, kilobits_per_second


@dataclass(frozen=True)
class TargetSize:
    """Target size of a whole file, in bytes.

    Args:
        is_limit: whether no larger file is allowed; otherwise the nearest size is best, larger or smaller.
    """

    bytes: float
    is_limit: bool

    def distance(self, size: int) -> float:
        return math.inf if self.is_limit and size > self.bytes else abs(size - self.bytes)


def search(
    coded: Callable[[int], list[Unit]],
    header: Header,
    target: TargetSize,
    on_trial: Callable[[int, float], object],
    notify: Callable[[str], object],
) -> list[Unit]:
    """Return the units of the best quality; `notify` is called if the target is out of reach.

    Raises:
        GnvcError: even the lowest quality exceeds the limit.
    """
    low, high = 0, QUALITIES - 1
    nearest, best, size = math.inf, list[Unit](), 0
    while low <= high:
        quality = (low + high) // 2
        units = coded(quality)
        size = len(pack_stream(header, units))
        on_trial(quality, bits_per_pixel(size, header.width, header.height, sum(unit.frames for unit in units)))
        if target.distance(size) < nearest:
            nearest, best = target.distance(size), units
        low, high = (quality + 1, high) if size < target.bytes else (low, quality - 1)
    if units and not best:
        raise GnvcError(f"{_stated('lowest', header, units, size)}; at most {target.bytes:.0f} bytes are wanted")
    if best and nearest >= 1 and best[0].quality in (0, QUALITIES - 1):
        size = len(pack_stream(header, best))
        if (size < target.bytes) == (best[0].quality > 0):
            notify(_stated("highest" if best[0].quality else "lowest", header, best, size))
    return best


def _stated(which: str, header: Header, units: list[Unit], size: int) -> str:
    frames = sum(unit.frames for unit in units)
    bpp = bits_per_pixel(size, header.width, header.height, frames)
    kbps = kilobits_per_second(size, frames, header.rate)
    return f"the {which} rate for this video is {bpp:.4g} bpp ({kbps:.4g} kbit/s, {size} bytes)"
