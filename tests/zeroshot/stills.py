"""A still codec for tests that start no process for each picture: coarser levels, and zlib."""

import zlib

import numpy as np

from gnvc_vd.conventions import Frame
from gnvc_vd.zeroshot.parameters import StillName


class Coarse:
    """In AV1's place; quality 63 loses nothing."""

    name: StillName = "av1"
    identity = b""
    adjustable = True

    def encode(self, frame: Frame, quality: int) -> bytes:
        step = 64 - quality
        return bytes([step]) + zlib.compress((frame // step).astype(np.uint8).tobytes())

    def decode(self, data: bytes, width: int, height: int) -> Frame:
        levels = np.frombuffer(zlib.decompress(data[1:]), np.uint8).reshape(height, width, 3)
        shown: Frame = np.minimum(levels.astype(int) * data[0] + data[0] // 2, 255).astype(np.uint8)
        return shown
