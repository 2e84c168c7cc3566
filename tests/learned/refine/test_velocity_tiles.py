"""Tiles cover a picture evenly, fade into each other, and cost what the picture does."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from gnvc_vd.learned.refine.velocity_tiles import OVERLAP, fade, spans, velocity_in_tiles


@pytest.mark.parametrize("largest", [8, 20, 32])
def test_spans_are_few_equal_even_and_overlap(largest: int) -> None:
    for length in range(2, 300, 2):
        parts = spans(length, largest)
        sizes = {part.stop - part.start for part in parts}
        assert len(sizes) == 1 and max(sizes) <= largest
        assert parts[0].start == 0 and parts[-1].stop == length
        assert all(part.start % 2 == part.stop % 2 == 0 for part in parts)
        assert all(before.stop - after.start >= OVERLAP for before, after in pairwise(parts))
        fewer = len(parts) - 1
        assert fewer == 0 or fewer * largest - (fewer - 1) * OVERLAP < length


def test_weights_of_two_neighbours_fade_and_add_up_to_one() -> None:
    first, second = spans(28, 16)
    assert (first, second) == (slice(0, 16), slice(12, 28))
    weights = torch.zeros(28)
    weights[first] += fade(first, 28)
    assert weights[11:17].tolist() == [1, 0.875, 0.625, 0.375, 0.125, 0]
    weights[second] += fade(second, 28)
    assert torch.equal(weights, torch.ones(28))


def test_a_velocity_that_looks_at_its_own_place_is_the_same_in_tiles() -> None:
    x, hints = torch.randn(2, 3, 2, 30, 44), torch.randn(2, 5, 2, 30, 44)
    places = 0

    def velocity(x: Tensor, hints: Tensor) -> Tensor:
        nonlocal places
        places += x[0, 0, 0].numel()
        return 2 * x + hints.sum(1, keepdim=True)

    whole = velocity(x, hints)
    assert torch.allclose(velocity_in_tiles(velocity, x, hints, 128), whole, atol=1e-5)
    assert whole[0, 0, 0].numel() < places - whole[0, 0, 0].numel() < 2 * whole[0, 0, 0].numel()
    assert torch.equal(velocity_in_tiles(velocity, x, hints, 352), whole)  # at once


def test_tiles_of_different_velocities_are_cross_faded() -> None:
    calls = iter([0.0, 1.0])
    x = torch.zeros(1, 1, 1, 4, 28)
    blended = velocity_in_tiles(lambda x, _: torch.full_like(x, next(calls)), x, x, 128)
    assert blended[0, 0, 0, 2, 11:17].tolist() == pytest.approx([0, 0.125, 0.375, 0.625, 0.875, 1])
