"""Given frames as coded stills, in one of two ways.

AV1 intra pictures from the packaged ffmpeg, 4:2:0 in ten bits. Its decoders agree bit for bit, and so does the
conversion to RGB: both ends condition on the same picture. libaom at speed 6 was chosen by measurement against VVenC
(docs/log.md). Decoding runs in a process of its own, with bounds on time and size.

Or compressai's factorized prior (bmshj2018-factorized), whose weights the user has:

    frame ─▶ g_a ─▶ y ─ − median, round ─▶ integers ─rANS, the weights' own table for each channel─▶ bytes
    bytes ─▶ integers ─ + median ─▶ g_s ─▶ frame

The tables lie in the weights' file as whole numbers, made when it was trained, so what is read is exact everywhere.
Models with a hyperprior would choose tables by floats. What is shown comes from a float network, rounded to eight bits:
another machine may see a level's difference, as in everything that the network of the prior does. It runs on the CPU.
"""

import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.backbone.sources import read_tensors
from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.common.foreign import read_foreign
from gnvc_vd.conventions import QUALITIES, Frame, GnvcError
from gnvc_vd.entropy.cdf_tables import TOTAL, Integers, Tables
from gnvc_vd.entropy.coder import Decoder, Encoder
from gnvc_vd.video import ffmpeg
from gnvc_vd.zeroshot.parameters import StillName

SPEED = 6
WORST = 63  # libaom's crf at quality 0
CRF_PER_QUALITY = 0.6
ENCODE_SECONDS, DECODE_SECONDS = 600.0, 60.0
FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"  # the same on every kind of CPU
TO_YUV = f"scale=in_range=full:out_color_matrix=bt709:out_range=full:flags={FLAGS}"
TO_RGB = f"scale=in_color_matrix=bt709:in_range=full:out_range=full:flags={FLAGS}"
STRIDE = 16  # pixels of a learned still's symbol, each way
WIDEST = 1024  # channels of a network that is believed
FURTHEST = 4096  # reach of a table that is


class Av1:
    """libaom for encoding; ffmpeg's own choice of decoder."""

    name: StillName = "av1"
    identity = b""  # of its weights, if it had some
    adjustable = True  # whether quality alters anything

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


class Factorized:
    """Weights in a safetensors file, or in compressai's own form (a state dict, tensors only)."""

    name: StillName = "factorized"
    adjustable = False

    def __init__(self, weights: Path) -> None:
        from compressai.models import FactorizedPrior
        from compressai.zoo.pretrained import load_pretrained

        if not weights.is_file():
            raise GnvcError(f"{weights}: no such file of still weights")
        tensors = load_pretrained(
            read_tensors([weights]) if weights.suffix == ".safetensors" else read_foreign(weights)
        )
        widths = [len(tensors.get(name, ())) for name in ("g_a.0.weight", "g_a.6.weight")]
        try:
            if not all(0 < width <= WIDEST for width in widths):
                raise ValueError(f"layers of {widths[0]} and {widths[1]} channels")
            self._network = FactorizedPrior.from_state_dict(tensors).eval().requires_grad_(False)
            self._tables = tables_of(self._network.entropy_bottleneck)
        except (ValueError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise GnvcError(f"{weights}: no weights of compressai's bmshj2018-factorized ({reason})") from error
        self._medians = self._network.entropy_bottleneck.quantiles[:, 0, 1].reshape(1, -1, 1, 1)
        contents = (key.encode() + value.contiguous().numpy().tobytes() for key, value in sorted(tensors.items()))
        self.identity = hashlib.sha256(b"".join(contents)).digest()

    def encode(self, frame: Frame, quality: int) -> bytes:
        """Of a padded frame; the weights have one quality."""
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            symbols = (self._network.g_a(pixels) - self._medians).round()
        encoder = Encoder(self._tables)
        for channel, values in enumerate(torch.nan_to_num(symbols)[0].long().numpy()):
            encoder.put(values.reshape(-1), np.full(values.size, channel))
        return encoder.finish()

    def decode(self, data: bytes, width: int, height: int) -> Frame:
        channels, rows, columns = self._medians.shape[1], height // STRIDE, width // STRIDE
        decoder = Decoder(data, self._tables)
        symbols = [decoder.get(np.full(rows * columns, channel)) for channel in range(channels)]
        decoder.finish()
        y = torch.from_numpy(np.stack(symbols)).float().view(1, channels, rows, columns) + self._medians
        with torch.inference_mode():
            picture: Tensor = torch.nan_to_num(self._network.g_s(y)[0]).clamp(0, 1)
        frame: Frame = (255 * picture).round().byte().permute(1, 2, 0).contiguous().numpy()
        if frame.shape != (height, width, 3):
            raise BitstreamError(f"a still is not of {width}×{height}")
        return frame


StillCodec = Av1 | Factorized  # a picture to bytes and back; what it decodes to is what both ends condition on


def tables_of(bottleneck: torch.nn.Module) -> Tables:
    """The stored cumulative frequencies of each channel in our coder's form: equally far both ways, then escapes."""
    lengths, offsets, rows = (
        getattr(bottleneck, name).numpy().astype(np.int64) for name in ("_cdf_length", "_offset", "_quantized_cdf")
    )
    if not len(lengths) or not len(lengths) == len(offsets) == len(rows):
        raise ValueError("it holds no tables: `update()` was not called before it was saved")
    return Tables([_table(row, int(size), int(first)) for row, size, first in zip(rows, lengths, offsets, strict=True)])


def _table(cumulative: Integers, size: int, first: int) -> Integers:
    """Of symbols from `first` on, the last of them saying "another one": the others share what that one has."""
    if not 3 <= size <= min(len(cumulative), FURTHEST) or abs(first) > FURTHEST:
        raise ValueError(f"a table of {size} entries from {first} on")
    stated = np.diff(cumulative[:size])
    if cumulative[0] or cumulative[size - 1] != TOTAL:
        raise ValueError("a table that does not rise to its end")
    reach = max(abs(first), abs(first + len(stated) - 2))
    others = 2 * reach + 3 - (len(stated) - 1)
    frequencies = np.full(2 * reach + 3, max(1, stated[-1] // others), dtype=np.int64)
    place = first + reach + 1
    frequencies[place : place + len(stated) - 1] = stated[:-1]
    frequencies[np.argmax(frequencies)] += TOTAL - frequencies.sum()
    return frequencies
