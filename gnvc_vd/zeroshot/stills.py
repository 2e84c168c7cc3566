"""Given frames as coded stills: AV1 intra pictures from the packaged ffmpeg, 4:2:0 in ten bits.

AV1's decoders agree bit for bit, and so does the conversion to RGB: both ends condition on the same picture. libaom at
speed 6 was chosen by measurement against VVenC (docs/log.md). Decoding runs in a process of its own, with bounds on
time and size.
"""

import math
from typing import Protocol

import numpy as np

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.conventions import QUALITIES, Frame, GnvcError
from gnvc_vd.video import ffmpeg
from gnvc_vd.zeroshot.parameters import StillName

SPEED = 6
WORST = 63  # libaom's crf at quality 0
CRF_PER_QUALITY = 0.6
ENCODE_SECONDS, DECODE_SECONDS = 600.0, 60.0
FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"  # the same on every kind of CPU
TO_YUV = f"scale=in_range=full:out_color_matrix=bt709:out_range=full:flags={FLAGS}"
TO_RGB = f"scale=in_color_matrix=bt709:in_range=full:out_range=full:flags={FLAGS}"


class StillCodec(Protocol):
    """A picture to bytes and back; what it decodes to is what both ends condition on."""

    name: StillName
    identity: bytes  # of its weights, if it has some
    adjustable: bool  # whether quality alters anything

    def encode(self, frame: Frame, quality: int) -> bytes: ...
    def decode(self, data: bytes, width: int, height: int) -> Frame: ...


class Av1:
    """libaom for encoding; ffmpeg's own choice of decoder."""

    name: StillName = "av1"
    identity = b""
    adjustable = True

    def encode(self, frame: Frame, quality: int) -> bytes:
        height, width, _ = frame.shape
        arguments = [
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", "pipe:0", "-frames:v", "1"),
            *("-vf", TO_YUV, "-pix_fmt", "yuv420p10le", "-c:v", "libaom-av1", "-still-picture", "1"),
            *("-cpu-used", str(SPEED), "-crf", str(crf(quality)), "-b:v", "0", "-f", "obu", "pipe:1"),
        ]
        return ffmpeg.run(arguments, np.ascontiguousarray(frame).tobytes(), ENCODE_SECONDS)

    def decode(self, data: bytes, width: int, height: int) -> Frame:
        arguments = [
            *("-threads", "1", "-max_pixels", str(max(width, 64) * max(height, 64)), "-protocol_whitelist", "pipe"),
            *("-f", "obu", "-i", "pipe:0", "-frames:v", "1", "-vf", TO_RGB),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"),
        ]
        try:
            pixels = ffmpeg.run(arguments, data, DECODE_SECONDS)
        except GnvcError as error:
            raise BitstreamError(f"a still is damaged ({error})") from error
        if len(pixels) != 3 * width * height:
            raise BitstreamError(f"a still is damaged or not of {width}×{height}")
        return np.frombuffer(pixels, np.uint8).reshape(height, width, 3).copy()


def crf(quality: int) -> int:
    return math.floor(WORST - CRF_PER_QUALITY * min(max(quality, 0), QUALITIES - 1) + 0.5)
