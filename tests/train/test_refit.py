"""Qualities placed along a trained scale, on curves that are known and on a codec."""

import copy
import math

import numpy as np
import pytest
import torch

from gnvc_vd.conventions import QUALITIES, GnvcError
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.presets import preset
from gnvc_vd.train.refit import LEVELS, place_evenly, rates_of
from lab.moving_fields import moving_fields
from tests.learned.bottleneck.models import latents, trained_like

SCALE = list(range(64))


def on_curve(scale: list[int], rates: list[float], places: list[float]) -> np.ndarray:
    """Log rate at places of a curve that is linear in it."""
    return np.interp(places, scale, np.log(rates))


def test_a_curve_that_is_even_already_stays() -> None:
    places, expected = place_evenly(SCALE, [0.01 * 1.05**level for level in SCALE])
    assert places == pytest.approx(SCALE, abs=1e-9)
    assert expected == pytest.approx([0.01 * 1.05**level for level in SCALE])


def test_log_rate_rises_evenly_along_a_bent_curve() -> None:
    rates = [0.005 + 0.1 * (level / 63) ** 3 for level in SCALE]
    places, expected = place_evenly(SCALE, rates)
    assert places[0] == 0 and places[-1] == 63 and bool(np.all(np.diff(places) > 0))
    assert np.diff(np.log(expected)) == pytest.approx([math.log(0.105 / 0.005) / 63] * 63)
    assert on_curve(SCALE, rates, places) == pytest.approx(np.log(expected))
    closed = [63 * (0.005 * (21 ** (quality / 63) - 1) / 0.1) ** (1 / 3) for quality in range(64)]
    assert places == pytest.approx(closed, abs=0.05)


def test_where_the_rate_falls_the_places_jump_and_the_lowest_quality_is_the_lowest_rate() -> None:
    rates = [0.02, 0.015, 0.01, 0.012, 0.03, 0.05, 0.04, 0.025, 0.045, 0.08]
    scale = list(range(len(rates)))
    places, expected = place_evenly(scale, rates, count=50)
    assert places[0] == 2 and expected[0] == pytest.approx(0.01)
    assert places[-1] == 9 and expected[-1] == pytest.approx(0.08)
    assert bool(np.all(np.diff(places) > 0)) and np.diff(np.log(expected)) == pytest.approx([math.log(8) / 49] * 49)
    assert on_curve(scale, rates, places) == pytest.approx(np.log(expected), abs=1e-9)
    first = max(place for place in places if place <= 5)  # the fall from 5 to 7, and the rise that led to it
    assert np.exp(on_curve(scale, rates, [first])) == pytest.approx(0.025, rel=0.05)
    assert min(place for place in places if place > first) >= 7


def test_what_costs_more_than_the_last_place_is_not_used() -> None:
    places, expected = place_evenly([0, 1, 2, 3], [0.01, 0.05, 0.03, 0.02], count=5)
    assert expected[-1] == pytest.approx(0.02) and places[-1] == 3
    assert all(place <= 0.5 for place in places[:-1])


@pytest.mark.parametrize("rates", [[0.03, 0.02, 0.01], [0.02, 0.02, 0.02], [0.0, 0.0, 0.0]])
def test_a_rate_that_never_rises_is_refused(rates: list[float]) -> None:
    with pytest.raises(GnvcError, match="does not rise"):
        place_evenly([0, 1, 2], rates)


def test_a_codecs_rates_rise_evenly_at_the_placed_qualities_and_it_is_left_as_it_was() -> None:
    torch.manual_seed(3)
    model = Contextual(preset("nano").contextual)
    with torch.no_grad():  # a scale that falls at first and then is uneven
        for gains in (model.anchor_entropy.gains, model.entropy.gains):
            gains.knots.copy_(torch.tensor([0.9, 0.5, -0.3, -0.4, 0.0, 1.2, 1.0, 0.9])[:, None].expand_as(gains.knots))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fields = moving_fields(2, 2, 8, 8, torch.Generator().manual_seed(1))
    raw = rates_of(model, fields, LEVELS)
    assert min(raw) < raw[0]  # it does fall
    found = place_evenly(LEVELS, rates_of(model, fields, LEVELS))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval().freeze(torch.tensor(found.places))
    rates = []
    for quality in range(0, QUALITIES, 7):
        payloads, _ = model.compress(fields, [quality] * 2)
        rates.append(sum(payload.estimated_bits for payload in payloads) / (2 * 5 * 64 * 64))
    assert rates == sorted(rates) and rates[0] == pytest.approx(min(raw), rel=0.02)
    expected = [found.expected[quality] for quality in range(0, QUALITIES, 7)]
    assert rates == pytest.approx(expected, rel=0.08)


def test_a_transform_codecs_qualities_are_moved_with_all_that_depends_on_them() -> None:
    """Rates rise evenly; a moved quality codes and decodes as the trained one where it lies now."""
    model = trained_like(kind="transform")
    fields = 3 * latents(2, 5, 20, 20, seed=4)
    found = place_evenly(LEVELS, rates_of(model, fields, LEVELS))
    moved = copy.deepcopy(model)
    moved.freeze(torch.tensor(found.places))
    rates = []
    for quality in range(0, QUALITIES, 7):
        payloads, _ = moved.compress(fields, [quality] * 5)
        rates.append(sum(payload.estimated_bits for payload in payloads) / (2 * 17 * 160 * 160))
    assert rates == pytest.approx([found.expected[quality] for quality in range(0, QUALITIES, 7)], rel=0.1)
    whole = torch.arange(QUALITIES).flip(0)
    moved.freeze(whole)  # quality 10 where 53 was
    for one, other in zip(moved.compress(fields, [10] * 5)[1], model.compress(fields, [53] * 5)[1], strict=True):
        assert torch.equal(one.latent, other.latent) and torch.equal(one.feature, other.feature)
