"""Sets of M numbers below K, in any order, as one integer below C(K, M): ⌈log2 C(K, M)⌉ bits.

A set is split in the middle of its range. How many of its members lie below the middle comes first, in order of that
count, then the lower half's own number, then the upper half's:

    number = Σ_{m' < m} C(K/2, m') C(K/2, M − m') + number(lower) · C(K/2, M − m) + number(upper)

Halves that hold no member or one end the recursion, so that a set costs about 1.5 M steps, each a look into a table
of sums that is made when it is first needed.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from math import comb

from gnvc_vd.bitstream import BitstreamError


@cache
def bits(size: int, count: int) -> int:
    """What a set of `count` out of `size` takes."""
    return (comb(size, count) - 1).bit_length()


def rank(members: Sequence[int], size: int) -> int:
    """The number of an ascending set; `size` is a power of two."""
    return _rank(members, 0, len(members), 0, size)


def unrank(number: int, size: int, count: int) -> list[int]:
    """The ascending set of a number, which may be hostile."""
    if number >= comb(size, count):
        raise BitstreamError("a set of atoms has a number that no set has")
    members: list[int] = []
    _unrank(number, 0, size, count, members)
    return members


def _rank(members: Sequence[int], first: int, last: int, start: int, size: int) -> int:
    """Of members [first, last), which lie in [start, start + size)."""
    count = last - first
    if count <= 1:
        return members[first] - start if count else 0
    half = size // 2
    middle = first
    while middle < last and members[middle] < start + half:
        middle += 1
    lower = _rank(members, first, middle, start, half)
    upper = _rank(members, middle, last, start + half, half)
    return _sums(half, count)[middle - first] + lower * comb_of(half, last - middle) + upper


def _unrank(number: int, start: int, size: int, count: int, members: list[int]) -> None:
    if count <= 1:
        if count:
            members.append(start + number)
        return
    half = size // 2
    sums = _sums(half, count)
    below = bisect_right(sums, number) - 1
    lower, upper = divmod(number - sums[below], comb_of(half, count - below) or 1)
    _unrank(lower, start, half, below, members)
    _unrank(upper, start + half, half, count - below, members)


@cache
def _sums(half: int, count: int) -> list[int]:
    """Sets of `count` in two halves with fewer than m members in the lower one, for each m."""
    ways = (comb_of(half, below) * comb_of(half, count - below) for below in range(count + 1))
    return list(accumulate(ways, initial=0))[:-1]


comb_of = cache(comb)
