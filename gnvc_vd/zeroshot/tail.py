"""What sampling left of the last latent's error, coded: in a chained GOP the next one begins where this one ends.

    e = x_0 − x, 16 h w ─ step ─▶ integers ─rANS, a table for each channel─▶ bytes

Tables are two-sided geometric distributions with ratios a / (a + 16), and binomial ones, which are near normal, of 2 m
throws; made by whole-number arithmetic, so that every machine has the same ones. Each channel takes the one that costs
it least. The published form, eight bits a number and zlib, is an option.
"""

import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.conventions import LATENT_CHANNELS
from gnvc_vd.entropy.cdf_tables import TOTAL, Integers, Tables
from gnvc_vd.entropy.coder import Decoder, Encoder

RATIOS = tuple(round(2 ** (level / 2)) for level in range(21))  # a: 1 … 1024, mean magnitudes 0.1 … 64
THROWS = (1, *(m for power in range(1, 13) for m in (1 << power, 3 << power >> 1)))  # m: 1, 2, 3, 4, 6, 8 … 6144
SPELLED_BITS = 12  # about what a value beyond a table's reach costs
FURTHEST = 600  # the longest table's reach
PUBLISHED = 64  # the step's code that says eight bits and zlib
LARGEST_RANGE = 1e4  # of a channel, in the published form


def step_of(code: int) -> float:
    """Quantisation steps of 1 down to 1/235, in eighths of an octave."""
    return float(2.0 ** (-code / 8))


def encode(residual: Tensor, code: int) -> bytes:
    """16 h w to bytes; the first says the step, or that the form is the published one."""
    if code == PUBLISHED:
        return bytes([code]) + _published(residual)
    values = (torch.nan_to_num(residual) / step_of(code)).round().long().cpu().numpy().reshape(LATENT_CHANNELS, -1)
    levels = np.array([_cheapest(channel) for channel in values])
    encoder = Encoder(tables())
    encoder.put(values.reshape(-1), np.repeat(levels, values.shape[1]))
    return bytes([code, *levels.tolist()]) + encoder.finish()


def counted_bytes(data: bytes) -> int:
    """Of a residual in the published count: its zlib bytes, where it has the published form."""
    return len(data) - (1 + 4 * LATENT_CHANNELS if data[:1] == bytes([PUBLISHED]) else 0)


def decode(data: bytes, height: int, width: int) -> tuple[Integers, Tensor]:
    """The integers and what they stand for, of bytes that may be hostile."""
    if not data or data[0] > PUBLISHED:
        raise BitstreamError("the tail's residual is cut short or of an unknown form")
    shape = (LATENT_CHANNELS, height, width)
    if data[0] == PUBLISHED:
        return _read_published(data[1:], shape)
    levels = np.frombuffer(data[1 : 1 + LATENT_CHANNELS], np.uint8).astype(np.int64)
    if len(levels) < LATENT_CHANNELS or levels.max() >= len(tables().frequencies):
        raise BitstreamError("the tail's residual is cut short or names a table that there is not")
    decoder = Decoder(data[1 + LATENT_CHANNELS :], tables())
    values = decoder.get(np.repeat(levels, height * width))
    decoder.finish()
    return values, torch.from_numpy(values).float().view(shape) * step_of(data[0])


@cache
def tables() -> Tables:
    return Tables([*(_geometric(a) for a in RATIOS), *(_binomial(m) for m in THROWS)])


def _cheapest(values: Integers) -> int:
    """The table that codes these values in the fewest bits."""

    def cost(level: int) -> float:
        reach = tables().reach[level]
        near = np.clip(values, -(reach + 1), reach + 1)
        bits = tables().bits[tables().first[level] + near + reach + 1]
        return float(bits.sum()) + SPELLED_BITS * int((np.abs(near) > reach).sum())

    return min(range(len(tables().frequencies)), key=cost)


def _geometric(a: int) -> Integers:
    """Weights (a / (a + 16))^|k|, of whole numbers throughout."""
    weights = _falling(FURTHEST, lambda k, weight: weight * a // (a + 16))
    return _frequencies(weights, weights[-1] * a // 16 + 1)  # the series after the last


def _binomial(m: int) -> Integers:
    """Weights C(2m, m + k), likewise."""

    def following(k: int, weight: int) -> int:
        return weight * (m - k) // (m + k + 1)

    weights = _falling(min(m, FURTHEST), following)
    return _frequencies(weights, following(len(weights) - 1, weights[-1]) + 1)


def _falling(furthest: int, following: Callable[[int, int], int]) -> list[int]:
    """Weights of 0 … reach, each from the one before it, down to 2^-16 of the first."""
    weights = [1 << 64]
    while len(weights) <= furthest and weights[-1] << 16 > weights[0]:
        weights.append(following(len(weights) - 1, weights[-1]))
    return weights


def _frequencies(weights: list[int], beyond: int) -> Integers:
    """Of −reach − 1 … reach + 1, the outermost saying "further out", from the weights of 0 … reach."""
    right = [*weights[1:], beyond]
    every = [*reversed(right), weights[0], *right]
    room, total = TOTAL - len(every), sum(every)
    frequencies = [1 + weight * room // total for weight in every]
    frequencies[len(right)] += TOTAL - sum(frequencies)
    return np.array(frequencies, dtype=np.int64)


def _published(residual: Tensor) -> bytes:
    values = torch.nan_to_num(residual).float().cpu().numpy().reshape(LATENT_CHANNELS, -1)
    largest = np.abs(values).max(axis=1).clip(1e-6, LARGEST_RANGE).astype(">f4")
    levels = np.rint((values / largest[:, None].astype(np.float32) + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return largest.tobytes() + zlib.compress(levels.tobytes(), 9)


def _read_published(data: bytes, shape: tuple[int, int, int]) -> tuple[Integers, Tensor]:
    scales, count = 4 * LATENT_CHANNELS, shape[0] * shape[1] * shape[2]
    unpacker = zlib.decompressobj()
    try:
        levels = unpacker.decompress(data[scales:], count + 1)
    except zlib.error:
        levels = b""
    if len(levels) != count or not unpacker.eof or unpacker.unused_data:
        raise BitstreamError("the tail's residual is damaged or cut short")
    largest = np.frombuffer(data[:scales], ">f4").astype(np.float32)
    if not (np.isfinite(largest) & (largest >= 0) & (largest <= LARGEST_RANGE)).all():
        raise BitstreamError("the tail's residual has a range out of bounds")
    values = np.frombuffer(levels, np.uint8).astype(np.int64)
    latents = (values.reshape(LATENT_CHANNELS, -1).astype(np.float32) / np.float32(127.5) - 1) * largest[:, None]
    return values, torch.from_numpy(latents).view(shape)
