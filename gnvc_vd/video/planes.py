"""The Y, U and V codes of a frame: as its file stores them, or converted from RGB where it stores something else.

file's frame ──planes_of──▶ Planes          the codes themselves, no conversion
RGB 8 bit ──PlanesOf(colour)──▶ Planes      4:2:0, 8 bit (10 on request), chroma left
"""

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from gnvc_vd.conventions import Colour, Frame
from gnvc_vd.video.colour import codes_of, to_yuv


@dataclass(frozen=True)
class Planes:
    """Three arrays of codes (uint8, or uint16 above 8 bits), as raw video of `pixel_format` holds them."""

    codes: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
    pixel_format: str
    colour: Colour

    @property
    def peak(self) -> int:
        return 1023 if self.pixel_format.endswith("10le") else 255

    def tobytes(self) -> bytes:
        return b"".join(plane.tobytes() for plane in self.codes)


def planes_of(frame: av.VideoFrame, colour: Colour) -> Planes | None:
    """The codes as stored; None where they are not three planes of Y, U and V in 8 or 10 bits."""
    name = frame.format.name.replace("yuvj", "yuv")
    layout = name.removesuffix("10le")
    if layout not in {"yuv420p", "yuv422p", "yuv444p"}:
        return None
    kind = np.dtype("u1" if name == layout else "<u2")
    y, u, v = (codes_of(plane, kind) for plane in frame.planes)
    return Planes((y, u, v), name, colour)


class PlaneConverter:
    """RGB frames to planes of one kind."""

    def __init__(self, colour: Colour, pixel_format: str = "yuv420p") -> None:
        self.colour, self._convert = colour, to_yuv(colour, pixel_format)

    def __call__(self, frame: Frame) -> Planes:
        planes = planes_of(self._convert(av.VideoFrame.from_ndarray(frame, format="rgb24")), self.colour)
        assert planes is not None
        return planes
