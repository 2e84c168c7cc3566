"""Sets of M numbers below K, in any order, as one integer below C(K, M): ⌈log2 C(K, M)⌉ bits.

A set is split in the middle of its range. How many of its members lie below the middle comes first, in order of that
count, then the lower half's own number, then the upper half's:

    number = Σ_{m' < m} C(K/2, m') C(K/2, M − m') + number(lower) · C(K/2, M − m) + number(upper)

Halves that hold no member or one end the recursion, so that a set costs about 1.5 M steps, each a look into a table
of sums that is made when it is first needed.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from math import comb

from gnvc_vd.bitstream import BitstreamError

MAX_ATOMS = 256  # of a set


@cache
def bits(size: int, count: int) -> int:
    """What a set of `count` out of `size` takes."""
    return (comb(size, count) - 1).bit_length()


def rank(members: Sequence[int], size: int, start: int = 0) -> int:
    """The number of an ascending set of [start, start + size); `size` is a power of two."""
    count, half = len(members), size // 2
    if count <= 1:
        return members[0] - start if members else 0
    below = bisect_left(members, start + half)
    lower, upper = rank(members[:below], half, start), rank(members[below:], half, start + half)
    return _sums(half, count)[below] + lower * comb_of(half, count - below) + upper


def unrank(number: int, size: int, count: int, start: int = 0) -> list[int]:
    """The ascending set of a number, which may be hostile."""
    if number >= comb_of(size, count):
        raise BitstreamError("a set of atoms has a number that no set has")
    if count <= 1:
        return [start + number] * count
    half = size // 2
    sums = _sums(half, count)
    below = bisect_right(sums, number) - 1
    lower, upper = divmod(number - sums[below], comb_of(half, count - below))
    return unrank(lower, half, below, start) + unrank(upper, half, count - below, start + half)


@cache
def _sums(half: int, count: int) -> list[int]:
    """Sets of `count` in two halves with fewer than m members in the lower one, for each m."""
    return list(accumulate((comb_of(half, below) * comb_of(half, count - below) for below in range(count)), initial=0))


comb_of = cache(comb)
