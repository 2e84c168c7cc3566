"""Sets and their numbers: a bijection, exact at the largest sizes, in no more bits than there are sets."""

from itertools import combinations
from math import comb
from random import Random

import pytest

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.zeroshot.combinadic import bits, rank, unrank


@pytest.mark.parametrize(("size", "count"), [(1, 0), (1, 1), (2, 1), (8, 0), (8, 3), (8, 8), (16, 5), (16, 13)])
def test_every_set_has_its_own_number(size: int, count: int) -> None:
    sets = [list(one) for one in combinations(range(size), count)]
    numbers = [rank(one, size) for one in sets]
    assert sorted(numbers) == list(range(comb(size, count)))
    assert [unrank(number, size, count) for number in numbers] == sets


@pytest.mark.parametrize(("size", "count"), [(1024, 64), (16384, 64), (16384, 256), (65536, 256), (256, 256)])
def test_large_sets_come_back(size: int, count: int) -> None:
    random = Random(0)
    for _ in range(5):
        members = sorted(random.sample(range(size), count))
        number = rank(members, size)
        assert number.bit_length() <= bits(size, count) and unrank(number, size, count) == members
    last = comb(size, count) - 1
    assert rank(unrank(last, size, count), size) == last
    assert unrank(0, size, count) == sorted(unrank(0, size, count)) and rank(unrank(0, size, count), size) == 0


@pytest.mark.parametrize(("count", "wanted"), [(32, 331), (64, 600), (80, 725), (128, 1076)])
def test_bits_are_the_published_ones(count: int, wanted: int) -> None:
    """Paper notes §6: 363, 664, 805 and 1204 with the signs."""
    assert bits(16384, count) == wanted


def test_bits_of_what_has_no_choice() -> None:
    assert (bits(64, 0), bits(64, 64), bits(1, 1), bits(64, 1)) == (0, 0, 0, 6)


def test_a_number_beyond_the_last_is_refused() -> None:
    with pytest.raises(BitstreamError, match="no set"):
        unrank(comb(16, 3), 16, 3)
    with pytest.raises(BitstreamError):
        unrank(1, 16, 0)
