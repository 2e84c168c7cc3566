"""A quick training on moving Gaussian fields: rate and distortion go the right way, and contexts earn their bits."""

import pytest
import torch

from gnvc_vd.learned.bottleneck.contextual import Contextual
from lab.moving_fields import moving_fields
from lab.train_synthetic import Point, measure, retrain, train
from tests.learned.bottleneck.models import NANO

LEVELS = (0, 21, 42, 63)


@pytest.fixture(scope="module")
def trained() -> Contextual:
    torch.manual_seed(0)
    model = Contextual(NANO)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small layers: two threads only wait for one another
    train(model, 300, clips=4, latents=3)
    torch.set_num_threads(threads)
    return model


def bits(points: list[Point]) -> float:
    return sum(point.estimated_bpp for point in points)


@pytest.mark.slow
def test_quality_buys_a_lower_error_with_a_higher_rate(trained: Contextual) -> None:
    points = measure(trained, LEVELS)
    rates, errors = [point.bpp for point in points], [point.error for point in points]
    assert rates == sorted(rates) and errors == sorted(errors, reverse=True)
    assert rates[-1] > 2 * rates[0] and errors[-1] < 0.8 * errors[0] and errors[-1] < 0.5
    for point in points:  # what freezing and the coder cost: the tables' 16 bits and a few bytes for each payload
        assert point.bpp is not None and abs(point.bpp - point.estimated_bpp) < 0.02 * point.estimated_bpp + 3e-5


@pytest.mark.slow
def test_the_past_saves_bits_against_anchors_only(trained: Contextual) -> None:
    """At the first quality that errs no more than anchors at the lowest do: the past moves along its own curve."""
    (anchors,) = measure(trained, (0,), anchors_only=True)
    with_past = next(one for one in measure(trained, range(0, 32, 2)) if one.error <= anchors.error)
    assert with_past.estimated_bpp < 0.9 * anchors.estimated_bpp


@pytest.mark.slow
def test_decoded_neighbours_save_bits(trained: Contextual) -> None:
    torch.set_num_threads(1)
    options = {"clips": 4, "latents": 3}
    whole, blind = (measure(retrain(trained, 150, spatial=spatial, **options), LEVELS) for spatial in (True, False))
    assert bits(whole) < 0.97 * bits(blind)


def test_fields_move_and_have_unit_variance() -> None:
    fields = moving_fields(2, 6, 32, 32, torch.Generator().manual_seed(0))
    assert fields.shape == (2, 16, 6, 32, 32) and fields.std().item() == pytest.approx(1, abs=1e-4)
    # Shifted by the one whole-place motion that fits best, a latent foretells the next better than unshifted.
    first, second = fields[0, :, 0], fields[0, :, 1]
    moved = [(torch.roll(first, (dy, dx), (1, 2)) - second).square().mean() for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    assert min(moved) < second.square().mean()
