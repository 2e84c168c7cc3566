"""What a sample number shows depends on nothing but the number and the seed."""

import logging
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from gnvc_vd.common.noise import philox
from gnvc_vd.conventions import GnvcError
from gnvc_vd.data.samples import ATTEMPTS, Draws, ItemClips, UnsuitableError, item_of, order
from gnvc_vd.video import VideoError


def test_every_pass_shows_every_item_once_in_its_own_order() -> None:
    for count in (1, 2, 3, 7, 100):
        passes = [tuple(item_of(turn * count + place, count, seed=5) for place in range(count)) for turn in range(6)]
        assert all(sorted(one) == list(range(count)) for one in passes)
        if count == 100:
            assert len(set(passes)) == 6
            assert tuple(order(count, 6, 0).tolist()) not in passes


def test_orders_are_fair() -> None:
    """Which of 3 items comes first, and which order of all 6 it is, over 600 passes."""
    orders = Counter(tuple(order(3, 9, turn).tolist()) for turn in range(600))
    assert len(orders) == 6 and stats.chisquare(list(orders.values())).pvalue > 1e-3


def test_numbers_reach_far() -> None:
    far = (1 << 62) + 12345
    assert 0 <= item_of(far, 90_000, 0) < 90_000
    with pytest.raises(IndexError):
        item_of(-1, 10, 0)
    with pytest.raises(IndexError):
        item_of(1 << 63, 10, 0)


def test_draws_are_philox_words_of_seed_and_number() -> None:
    seed, number = (7 << 32) | 3, (2 << 32) | 11
    draws = Draws(seed, number, purpose=5)
    first = [draws.word() for _ in range(6)]
    blocks = [[int(word) for word in philox((block, 11, 2, 5), (3, 7))] for block in (0, 1)]
    assert first == [*blocks[0][::-1], *blocks[1][::-1][:2]]


def test_draws_differ_by_seed_number_and_purpose() -> None:
    streams = {
        Draws(*which).word() for which in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1 << 32, 0, 0), (0, 1 << 32, 0)]
    }
    assert len(streams) == 6


def test_draws_are_evenly_spread() -> None:
    sixes = Counter(Draws(1, number).below(6) for number in range(1200))
    assert set(sixes) == set(range(6)) and stats.chisquare(list(sixes.values())).pvalue > 1e-3
    parts = [Draws(2, number).uniform(-1, 3) for number in range(1200)]
    assert stats.kstest((np.array(parts) + 1) / 4, "uniform").pvalue > 1e-3
    assert abs(np.mean([Draws(3, number).chance(0.25) for number in range(1200)]) - 0.25) < 0.05
    fields = [torch.randn(4, generator=Draws(4, number).generator()) for number in (0, 1, 0)]
    assert torch.equal(fields[0], fields[2]) and not torch.equal(fields[0], fields[1])


class BadItems(ItemClips):
    """Items 2 and 5 of 8 are bad; the others show themselves and a number of their own."""

    def __init__(self) -> None:
        super().__init__([f"item {i}" for i in range(8)], seed=1)

    def _clip(self, item: int, draws: Draws) -> Tensor:
        if item == 2:
            raise VideoError("torn")
        if item == 5:
            raise UnsuitableError("short")
        return torch.tensor([item, draws.below(1000)])


def test_bad_items_are_replaced_by_the_same_ones_whatever_came_before() -> None:
    items = BadItems()
    forward = [items[number].tolist() for number in range(64)]
    backward = [BadItems()[number].tolist() for number in reversed(range(64))][::-1]
    again = [items[number].tolist() for number in range(64)]
    assert forward == backward == again
    assert not {2, 5} & {item for item, _ in forward}
    for number, (item, _) in enumerate(forward):
        wanted = item_of(number, 8, 1)
        assert item == wanted or wanted in (2, 5)
    assert items.skipped == {"item 2": "cannot be read", "item 5": "is too short or too small"}


def test_each_bad_item_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    items = BadItems()
    with caplog.at_level(logging.WARNING):
        for number in range(64):
            items[number]
    assert sorted(caplog.messages) == ["item 2 is skipped: torn", "item 5 is skipped: short"]


def test_nothing_but_bad_items_ends_with_a_sentence() -> None:
    tried = []

    class Torn(ItemClips):
        def _clip(self, item: int, draws: Draws) -> Tensor:
            tried.append(item)
            raise VideoError("torn")

    with pytest.raises(GnvcError, match=r"100 items were tried for sample 3 .* which cannot be read"):
        Torn(["a", "b"], 0)[3]
    assert len(tried) == ATTEMPTS
    with pytest.raises(GnvcError, match="without items"):
        Torn([], 0)


def test_bugs_are_not_taken_for_bad_items() -> None:
    class Wrong(ItemClips):
        def _clip(self, item: int, draws: Draws) -> Tensor:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        Wrong(["a"], 0)[0]
