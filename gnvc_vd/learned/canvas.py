"""A camera's pan taken out of a GOP before the VAE and put back after it: frames on a canvas on which the scene stands.

    frames ─pan of each, ¼ pixels─▶ ─fractions by a windowed sinc, whole pixels by placing─▶ canvas ─▶ VAE ─▶ …
    … ─▶ VAE ─▶ decoded canvas ─cut out where the frame was placed, fractions back─▶ frames

What a frame does not cover is filled from the frames nearest in time that do, so it stands still and costs little. A
decoder needs two small numbers a frame, at the beginning of the payload (docs/format.md). Only pictures are shifted,
in the shown world: no symbol depends on it. How an encoder finds a canvas is pan_search.py's affair.
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

PARTS = 4  # of a pixel
REACH = 128  # pixels from the first frame, at most
LARGEST_STEP = 40  # pixels from one frame to the next, at most
TAPS = 4  # of the sinc, each way
ORDER_BITS = 3  # what a packed canvas begins with: the order of its Exp-Golomb codes
MAX_ZEROS = 10  # that a code begins with, fewer than
WRONG = "what a payload begins with is no canvas"
MAX_BYTES = 1200  # of packed pans: 252 steps of the largest size take fewer


@dataclass(frozen=True, eq=False)
class Canvas:
    """Where the frames of a GOP lie.

    Args:
        pans: how far down and right of the first frame's place each is put, T 2 whole numbers of quarter pixels.
        height, width: of a frame.
    """

    pans: Numbers
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the smallest canvas that holds every frame."""
        whole, _ = self._places()
        height, width = whole.max(0).tolist()
        return self.height + height, self.width + width

    @property
    def within(self) -> bool:
        """Whether a stream can say its pans."""
        steps = np.abs(np.diff(self.pans, axis=0)).max(initial=0)
        return bool(np.abs(self.pans).max() <= PARTS * REACH and steps <= PARTS * LARGEST_STEP)

    def place_frames(self, frames: Frame) -> Frame:
        """Pictures T H W C to a canvas of each."""
        whole, parts = self._places()
        height, width = self.size
        moved, canvases = shift_frames(frames, parts), np.empty((len(frames), height, width, frames.shape[3]), np.uint8)
        ages = np.full((len(frames), height, width), len(frames), np.int16)  # of what is there, in frames
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
        """The parts of a canvas that a frame placed there does not cover."""
        down, right = slice(top, top + self.height), slice(left, left + self.width)
        beside = [(down, slice(0, left)), (down, slice(right.stop, None))]
        return [(slice(0, top), slice(None)), *beside, (slice(down.stop, None), slice(None))]

    def crop_frames(self, canvases: Frame, first: int = 0) -> Frame:
        """Frames `first` and later, cut out of a canvas of each."""
        whole, parts = (values[first : first + len(canvases)] for values in self._places())
        height, width = self.height + 2 * TAPS, self.width + 2 * TAPS
        cut = np.empty((len(canvases), height, width, 3), np.uint8)
        for out, canvas, (y, x) in zip(cut, canvases, whole.tolist(), strict=True):
            out[:] = np.pad(canvas, ((TAPS, TAPS), (TAPS, TAPS), (0, 0)), mode="edge")[y : y + height, x : x + width]
        return shift_frames(cut, -parts)[:, TAPS:-TAPS, TAPS:-TAPS]

    def pack(self) -> bytes:
        """The steps between pans in Exp-Golomb codes of the order that makes them shortest."""
        if not self.within:
            raise ValueError("these pans are too large for a stream")
        steps = np.diff(self.pans, axis=0).ravel().tolist()
        orders = range(1 << ORDER_BITS)
        bits = min((f"{k:0{ORDER_BITS}b}" + "".join(_golomb(step, k) for step in steps) for k in orders), key=len)
        size = -(-len(bits) // 8)
        return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")

    @classmethod
    def parse(cls, data: bytes, frames: int, height: int, width: int) -> tuple["Canvas", int]:
        """The canvas of so many frames of this size that hostile bytes begin with, and how many bytes it takes."""
        bits = "".join(f"{byte:08b}" for byte in data[:MAX_BYTES])
        steps, place = list[int](), ORDER_BITS
        while len(steps) < 2 * (frames - 1):
            step, place = _golomb_step(bits, place)
            steps.append(step)
        size = -(-place // 8)
        require(len(bits) >= ORDER_BITS and "1" not in bits[place : 8 * size], WRONG, BitstreamError)
        canvas = cls(np.array([0, 0, *steps]).reshape(-1, 2).cumsum(0), height, width)
        require(canvas.within, "the camera of a canvas goes too far", BitstreamError)
        return canvas, size

    def _places(self) -> tuple[Numbers, Numbers]:
        """Whole pixels from the canvas' corner, and the quarter pixels beside them, T 2 each."""
        whole = (self.pans + PARTS // 2) // PARTS
        return whole - whole.min(0), self.pans - PARTS * whole


def shift_frames(frames: Frame, parts: Numbers) -> Frame:
    """Each of T H W C down and right by so many quarter pixels."""
    moved = frames.copy()
    for frame, amounts in zip(moved, parts.tolist(), strict=True):
        if any(amounts):
            picture = torch.from_numpy(frame).float()
            for axis, amount in enumerate(amounts):
                picture = _shift_axis(picture, axis, amount) if amount else picture
            frame[:] = picture.round().clamp(0, 255).byte().numpy()
    return moved


def _shift_axis(picture: Tensor, axis: int, amount: int) -> Tensor:
    """H W C by a windowed sinc along one axis; the edges go on."""
    at = torch.arange(-TAPS, TAPS + 1) + amount / PARTS
    kernel = torch.sinc(at) * torch.sinc(at / (TAPS + 0.5))
    side = picture.shape[axis]
    wide = picture.index_select(axis, torch.arange(-TAPS, side + TAPS).clamp(0, side - 1))
    moved = torch.zeros_like(picture)
    for tap, weight in enumerate((kernel / kernel.sum()).tolist()):
        moved.add_(wide.narrow(axis, tap, side), alpha=weight)
    return moved


def _golomb(step: int, order: int) -> str:
    """An Exp-Golomb code: 0, −1, 1, −2 … count as 0, 1, 2, 3 …"""
    number = (2 * step if step >= 0 else -2 * step - 1) + (1 << order)
    return "0" * (number.bit_length() - 1 - order) + f"{number:b}"


def _golomb_step(bits: str, place: int) -> tuple[int, int]:
    """The step whose code begins at a place, in bits whose first say the order; and where the next begins."""
    start = bits.find("1", place)
    stop = 2 * start - place + 1 + int(bits[:ORDER_BITS] or "0", 2)
    require(0 <= start < place + MAX_ZEROS and stop <= len(bits), WRONG, BitstreamError)
    number = int(bits[start:stop], 2) - (1 << stop - start - 1 - start + place)
    return number // 2 if number % 2 == 0 else -(number + 1) // 2, stop
