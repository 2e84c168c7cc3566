"""Counter-based random numbers: the same integers on every device, any element without those before it.

    key (2 × 32 bits), counter (4 × 32 bits) ──Philox-4×32-10──▶ 4 words of 32 bits (Salmon et al., SC 2011)

Normal numbers are read from a table of 65536 quantiles in steps of 2^-16: each 16 bits of a word is one. They reach to
±4.2 and are exact integers over 65536, so that no device rounds them differently.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # what a key grows by at every round
WORD = 0xFFFFFFFF
NORMALS_PER_BLOCK = 8
FIXED_POINT = 1 << 16


def philox(counter: Sequence[Tensor | int], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four words for each counter. Words are int64 tensors of values below 2^32; at least one counter is a tensor."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(MULTIPLIERS[0], c0)
        high1, low1 = _multiply(MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + WEYL[0] & WORD, k1 + WEYL[1] & WORD
    return torch.broadcast_tensors(*map(torch.as_tensor, (c0, c1, c2, c3)))


def words(
    count: int,
    key: tuple[int, int],
    stream: tuple[Tensor | int, Tensor | int, Tensor | int],
    device: torch.device | str = "cpu",
) -> Tensor:
    """The first `count` × 4 words of a stream, which three numbers name: count 4, or n count 4 where one is n 1."""
    return torch.stack(philox((torch.arange(count, device=device), *stream), key), dim=-1)


def normal(
    shape: Sequence[int], key: tuple[int, int], stream: tuple[int, int, int], device: torch.device | str = "cpu"
) -> Tensor:
    """Normal numbers of unit variance, float32; a longer shape begins with the numbers of a shorter one."""
    count = math.prod(shape)
    blocks = words(-(-count // NORMALS_PER_BLOCK), key, stream, device)
    return (quantiles_of(blocks, count).float() / FIXED_POINT).view(*shape)


def quantiles_of(words: Tensor, count: int) -> Tensor:
    """What the halves of words … blocks 4 stand for, the first `count` of them: … count, int32 over 2^16."""
    halves = torch.stack([words & 0xFFFF, words >> 16], dim=-1).flatten(-3)[..., :count]
    return quantiles().to(words.device)[halves]


@functools.cache
def quantiles() -> Tensor:
    """The middle of each of 65536 equal parts of a normal distribution, in steps of 2^-16, int32."""
    middle = (torch.arange(FIXED_POINT, dtype=torch.float64) + 0.5) / FIXED_POINT
    upper = torch.special.ndtri(middle[FIXED_POINT // 2 :])
    right = (upper * FIXED_POINT).round().to(torch.int32)
    return torch.cat([-right.flip(0), right])


def _multiply(constant: int, word: Tensor | int) -> tuple[Tensor | int, Tensor | int]:
    """High and low 32 bits of a product, from halves of the word: int64 would overflow on the whole."""
    by_high, by_low = constant * (word >> 16), constant * (word & 0xFFFF)
    return by_high + (by_low >> 16) >> 16, (by_high << 16) + by_low & WORD
