"""Given frames coded by compressai's factorized prior (bmshj2018-factorized), whose weights the user has.

    frame ─▶ g_a ─▶ y ─ − median, round ─▶ integers ─rANS, the weights' own table for each channel─▶ bytes
    bytes ─▶ integers ─ + median ─▶ g_s ─▶ frame

The tables lie in the weights' file as whole numbers, made when it was trained, so what is read is exact everywhere.
Models with a hyperprior would choose tables by floats. What is shown comes from a float network, rounded to eight bits:
another machine may see a level's difference, as in everything that the network of the prior does. It runs on the CPU.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.backbone.sources import read_tensors
from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.common.foreign import read_foreign
from gnvc_vd.conventions import Frame, GnvcError
from gnvc_vd.entropy.cdf_tables import TOTAL, Integers, Tables
from gnvc_vd.entropy.coder import Decoder, Encoder
from gnvc_vd.zeroshot.parameters import StillName

STRIDE = 16  # pixels of a symbol, each way
WIDEST = 1024  # channels of a network that is believed
FURTHEST = 4096  # reach of a table that is


class Factorized:
    """Weights in a safetensors file, or in compressai's own form (a state dict, tensors only)."""

    name: StillName = "factorized"
    adjustable = False

    def __init__(self, weights: Path) -> None:
        from compressai.models import FactorizedPrior
        from compressai.zoo.pretrained import load_pretrained

        if not weights.is_file():
            raise GnvcError(f"{weights}: no such file of still weights")
        read = read_tensors([weights]) if weights.suffix == ".safetensors" else read_foreign(weights)
        tensors = load_pretrained(read)
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
        digest = hashlib.sha256()
        for key, value in sorted(tensors.items()):
            digest.update(key.encode() + value.contiguous().numpy().tobytes())
        self.identity = digest.digest()

    def encode(self, frame: Frame, quality: int) -> bytes:
        """Of a padded frame; the weights have one quality."""
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            symbols = (self._network.g_a(pixels) - self._medians).round()
        encoder = Encoder()
        for channel, values in enumerate(torch.nan_to_num(symbols)[0].long().numpy()):
            encoder.put(values.reshape(-1), np.full(values.size, channel), self._tables)
        return encoder.finish()

    def decode(self, data: bytes, width: int, height: int) -> Frame:
        rows, columns = height // STRIDE, width // STRIDE
        decoder = Decoder(data)
        channels = self._medians.shape[1]
        symbols = [decoder.get(np.full(rows * columns, channel), self._tables) for channel in range(channels)]
        decoder.finish()
        y = torch.from_numpy(np.stack(symbols)).float().view(1, channels, rows, columns) + self._medians
        with torch.inference_mode():
            shown: Tensor = torch.nan_to_num(self._network.g_s(y)[0]).clamp(0, 1)
        frame: Frame = (255 * shown).round().byte().permute(1, 2, 0).contiguous().numpy()
        if frame.shape != (height, width, 3):
            raise BitstreamError(f"a still is not of {width}×{height}")
        return frame


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
