"""Pairs of a reference frame and a test frame, in all formats that metrics need."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.conventions import Colour, Frame, GnvcError
from gnvc_vd.metrics import UnavailableError
from gnvc_vd.video import Picture
from gnvc_vd.video.pixels import to_video
from gnvc_vd.video.planes import PlaneConverter, Planes

LUMA = np.array([0.2126, 0.7152, 0.0722])  # weights of R, G and B (BT.709)


@dataclass(frozen=True)
class Pair:
    """The same frame of both videos: as RGB, as planes of YUV, and as tensors."""

    reference: Frame
    test: Frame
    reference_planes: Planes
    test_planes: Planes
    tensors: tuple[Tensor, Tensor]  # 1 3 H W in [−1, 1], on the device of the networks


class Measure(Protocol):
    """A metric that takes pairs one by one, in order, and then gives its value for the whole video."""

    def add(self, pair: Pair) -> None: ...

    def value(self) -> float: ...


class FrameMean:
    """The mean over frames of a function of one pair."""

    def __init__(self, figure: Callable[[Pair], float]) -> None:
        self._figure, self._sum, self._count = figure, 0.0, 0

    def add(self, pair: Pair) -> None:
        self._sum += self._figure(pair)
        self._count += 1

    def value(self) -> float:
        if not self._count:
            raise UnavailableError("needs at least one frame")
        return self._sum / self._count


class PairMaker:
    """Makes pairs from the frames of two videos.

    If both files store YUV with the same format, matrix and range, the planes are the stored ones. Otherwise both
    videos are converted from RGB to 8-bit 4:2:0, with the reference's matrix and limited range.
    """

    def __init__(self, colour: Colour, device: str) -> None:
        self._device = device
        self._kind: str | None = None
        limited = Colour(colour.matrix, "limited")
        self._converters = PlaneConverter(limited), PlaneConverter(limited)

    def __call__(self, reference: Picture, test: Picture) -> Pair:
        x, y = reference.planes, test.planes
        stored = x.pixel_format if x and y and (x.pixel_format, x.colour) == (y.pixel_format, y.colour) else ""
        self._kind = stored if self._kind is None else self._kind
        if stored != self._kind and self._kind:
            raise GnvcError(f"the pixel format changes within a video, from {self._kind}")
        if not self._kind or x is None or y is None:
            x, y = self._converters[0](reference.rgb), self._converters[1](test.rgb)
        tensors = as_tensor(reference.rgb, self._device), as_tensor(test.rgb, self._device)
        return Pair(reference.rgb, test.rgb, x, y, tensors)


def as_tensor(frame: Frame, device: str = "cpu") -> Tensor:
    """Convert a frame H W 3 uint8 to a tensor 1 3 H W in [−1, 1]."""
    return to_video(frame[None], torch.device(device))[:, :, 0]
