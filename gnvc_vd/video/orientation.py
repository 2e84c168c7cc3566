"""A frame's orientation: rotation by multiples of 90° and mirroring, from its display matrix."""

from dataclasses import dataclass

import av
import numpy as np

from gnvc_vd.conventions import Frame

# Frames of these codecs may carry a colour profile or EXIF data. PyAV 18 frees a profile's name twice, which crashes
# the process later, and does not know EXIF's type; so the side data is not read, only the angle that PyAV gives.
PROFILED = frozenset({"png", "apng", "mjpeg", "webp", "jpegxl", "jpegxl_anim", "jpegls", "jpeg2000", "tiff"})


@dataclass(frozen=True)
class Orientation:
    """A transposition, applied first, and flips; `square` is False for angles that are no multiples of 90°."""

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False
    square: bool = True

    @classmethod
    def of(cls, frame: av.VideoFrame, codec: str) -> "Orientation":
        """Read a frame's orientation from its display matrix: x' = a·x + c·y, y' = b·x + d·y."""
        if codec in PROFILED:
            return cls.from_degrees(frame.rotation)
        try:
            data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # side data of a kind that PyAV does not know
            return cls.from_degrees(frame.rotation)
        if data is None:
            return cls()
        a, b, _, c, d = np.frombuffer(memoryview(data), np.int32)[:5] / 65536  # type: ignore[arg-type]
        if max(abs(b), abs(c)) < 0.01:
            return cls(False, bool(a < 0), bool(d < 0))
        if max(abs(a), abs(d)) < 0.01:
            return cls(True, bool(c < 0), bool(b < 0))
        return cls(square=False)

    @classmethod
    def from_degrees(cls, degrees: int) -> "Orientation":
        """The orientation for a counter-clockwise rotation."""
        rotations = {0: cls(), 90: cls(True, False, True), 180: cls(False, True, True), 270: cls(True, True, False)}
        return rotations.get(degrees % 360, cls(square=False))

    def apply(self, frame: Frame) -> Frame:
        if self.transposed:
            frame = frame.transpose(1, 0, 2)
        if self.flip_x:
            frame = frame[:, ::-1]
        if self.flip_y:
            frame = frame[::-1]
        return np.ascontiguousarray(frame)
