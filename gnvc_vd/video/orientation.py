"""How a frame is to be shown: the quarter turns and mirrorings of its display matrix."""

from dataclasses import dataclass

import av
import numpy as np

from gnvc_vd.conventions import Frame


@dataclass(frozen=True)
class Orientation:
    """Transpose first, then flip. `square` is False for a turn by another angle, which is not applied."""

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False
    square: bool = True

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Orientation":
        """From the display matrix: x' = a·x + c·y, y' = b·x + d·y in the shown picture."""
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        a, b, _, c, d = np.frombuffer(memoryview(data), np.int32)[:5] / 65536  # type: ignore[arg-type]
        if max(abs(b), abs(c)) < 0.01:
            return cls(False, bool(a < 0), bool(d < 0))
        if max(abs(a), abs(d)) < 0.01:
            return cls(True, bool(c < 0), bool(b < 0))
        return cls(square=False)

    def applied(self, frame: Frame) -> Frame:
        if self.transposed:
            frame = frame.transpose(1, 0, 2)
        if self.flip_x:
            frame = frame[:, ::-1]
        if self.flip_y:
            frame = frame[::-1]
        return np.ascontiguousarray(frame)
