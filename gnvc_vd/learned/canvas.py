"""Compensation of a camera pan: frames are placed on a larger canvas, on which the scene stands still.

    frames ─shift by the fraction of the pan (windowed sinc)─▶ ─place at whole pixels─▶ canvases ─▶ VAE ─▶ …
    … ─▶ VAE ─▶ decoded canvases ─crop at the same place─▶ ─shift back─▶ frames

The part of a canvas that its frame does not cover is filled from the nearest frames in time that do, so that it stands
still and takes few bits. A decoder needs two small numbers per frame, at the start of the payload (docs/format.md). No
symbol depends on the shifts, which change pictures only. pan_search.py finds an encoder's canvas.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import Frame

Numbers = npt.NDArray[Any]

PARTS = 4  # pans are in quarters of a pixel
REACH = 128  # largest distance from the first frame, in pixels
LARGEST_STEP = 40  # largest step from one frame to the next, in pixels
TAPS = 4  # taps of the sinc on each side
ORDER_BITS = 3  # bits of the order of the Exp-Golomb codes, at the start of a packed canvas
MAX_ZEROS = 10  # a code begins with fewer zeros than this
WRONG = "the payload does not begin with a valid canvas"
MAX_BYTES = 1200  # limit of packed pans; 252 steps of the largest size take fewer


@dataclass(frozen=True, eq=False)
class Canvas:
    """The positions of a GOP's frames on their canvases.

    Args:
        pans: each frame's offset (down, right) from the first frame, T 2 integers in quarter pixels.
        height, width: size of a frame.
    """

    pans: Numbers
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the smallest canvas that contains every frame."""
        whole, _ = self._places()
        height, width = whole.max(0).tolist()
        return self.height + height, self.width + width

    @property
    def within(self) -> bool:
        """Whether the pans are within the limits of a stream."""
        steps = np.abs(np.diff(self.pans, axis=0)).max(initial=0)
        return bool(np.abs(self.pans).max() <= PARTS * REACH and steps <= PARTS * LARGEST_STEP)

    def place_frames(self, frames: Frame) -> Frame:
        """Place each of the frames T H W C on a canvas of its own, and fill the rest."""
        whole, parts = self._places()
        height, width = self.size
        moved, canvases = shift_frames(frames, parts), np.empty((len(frames), height, width, frames.shape[3]), np.uint8)
        ages = np.full((len(frames), height, width), len(frames), np.int16)  # frames from each pixel to its source
        for frame, canvas, age, (y, x) in zip(moved, canvases, ages, whole.tolist(), strict=True):
            around = ((y, height - self.height - y), (x, width - self.width - x), (0, 0))
            canvas[:] = np.pad(frame, around, mode="edge")
            age[y : y + self.height, x : x + self.width] = 0
        count = len(frames)
        for before, after in [*((t - 1, t) for t in range(1, count)), *((t + 1, t) for t in range(count - 2, -1, -1))]:
            for place in self._around(*whole[after].tolist()):
                older, age = ages[before][place], ages[after][place]
                nearer = older + 1 < age
                age[nearer] = older[nearer] + 1
                canvases[after][place][nearer] = canvases[before][place][nearer]
        never = ages[0] == count
        canvases[:, never] = canvases[count // 2][never]
        return canvases

    def _around(self, top: int, left: int) -> list[tuple[slice, slice]]:
        """The four rectangles of a canvas around a frame placed at (top, left)."""
        down, right = slice(top, top + self.height), slice(left, left + self.width)
        beside = [(down, slice(0, left)), (down, slice(right.stop, None))]
        return [(slice(0, top), slice(None)), *beside, (slice(down.stop, None), slice(None))]

    def crop_frames(self, canvases: Frame, first: int = 0) -> Frame:
        """Crop the frames `first`, first + 1, … out of their canvases."""
        whole, parts = (values[first : first + len(canvases)] for values in self._places())
        height, width = self.height + 2 * TAPS, self.width + 2 * TAPS
        cut = np.empty((len(canvases), height, width, 3), np.uint8)
        for out, canvas, (y, x) in zip(cut, canvases, whole.tolist(), strict=True):
            out[:] = np.pad(canvas, ((TAPS, TAPS), (TAPS, TAPS), (0, 0)), mode="edge")[y : y + height, x : x + width]
        return shift_frames(cut, -parts)[:, TAPS:-TAPS, TAPS:-TAPS]

    def pack(self) -> bytes:
        """Pack the steps between pans in Exp-Golomb codes, of the order that gives the fewest bits."""
        if not self.within:
            raise ValueError("these pans are too large for a stream")
        steps = np.diff(self.pans, axis=0).ravel().tolist()
        orders = range(1 << ORDER_BITS)
        bits = min((f"{k:0{ORDER_BITS}b}" + "".join(_golomb(step, k) for step in steps) for k in orders), key=len)
        size = -(-len(bits) // 8)
        return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")

    @classmethod
    def parse(cls, data: bytes, frames: int, height: int, width: int) -> tuple["Canvas", int]:
        """Parse the canvas at the start of untrusted bytes; also return the number of its bytes."""
        bits = "".join(f"{byte:08b}" for byte in data[:MAX_BYTES])
        steps, place = list[int](), ORDER_BITS
        while len(steps) < 2 * (frames - 1):
            step, place = _golomb_step(bits, place)
            steps.append(step)
        size = -(-place // 8)
        require(len(bits) >= ORDER_BITS and "1" not in bits[place : 8 * size], WRONG, BitstreamError)
        canvas = cls(np.array([0, 0, *steps]).reshape(-1, 2).cumsum(0), height, width)
        require(canvas.within, "the pans of a canvas are out of bounds", BitstreamError)
        return canvas, size

    def _places(self) -> tuple[Numbers, Numbers]:
        """Positions from the canvas' corner in whole pixels, and remaining quarter pixels, T 2 each."""
        whole = (self.pans + PARTS // 2) // PARTS
        return whole - whole.min(0), self.pans - PARTS * whole


def shift_frames(frames: Frame, parts: Numbers) -> Frame:
    """Shift each of the frames T H W C down and right by `parts` quarter pixels."""
    moved = frames.copy()
    for frame, amounts in zip(moved, parts.tolist(), strict=True):
        if any(amounts):
            picture = torch.from_numpy(frame).float()
            for axis, amount in enumerate(amounts):
                picture = _shift_axis(picture, axis, amount) if amount else picture
            frame[:] = picture.round().clamp(0, 255).byte().numpy()
    return moved


def _shift_axis(picture: Tensor, axis: int, amount: int) -> Tensor:
    """Shift H W C along one axis with a windowed sinc; edges are repeated."""
    at = torch.arange(-TAPS, TAPS + 1) + amount / PARTS
    kernel = torch.sinc(at) * torch.sinc(at / (TAPS + 0.5))
    side = picture.shape[axis]
    wide = picture.index_select(axis, torch.arange(-TAPS, side + TAPS).clamp(0, side - 1))
    moved = torch.zeros_like(picture)
    for tap, weight in enumerate((kernel / kernel.sum()).tolist()):
        moved.add_(wide.narrow(axis, tap, side), alpha=weight)
    return moved


def _golomb(step: int, order: int) -> str:
    """The Exp-Golomb code of a step; 0, −1, 1, −2 … are numbered 0, 1, 2, 3 …"""
    number = (2 * step if step >= 0 else -2 * step - 1) + (1 << order)
    return "0" * (number.bit_length() - 1 - order) + f"{number:b}"


def _golomb_step(bits: str, place: int) -> tuple[int, int]:
    """Parse the step at a place in the bits, the first of which are the order; also return the next place."""
    start = bits.find("1", place)
    stop = 2 * start - place + 1 + int(bits[:ORDER_BITS] or "0", 2)
    require(0 <= start < place + MAX_ZEROS and stop <= len(bits), WRONG, BitstreamError)
    number = int(bits[start:stop], 2) - (1 << stop - start - 1 - start + place)
    return number // 2 if number % 2 == 0 else -(number + 1) // 2, stop
