"""Tables and likelihoods against the normal distribution, and against compressai's."""

import math

import numpy as np
import pytest
import torch
from compressai.entropy_models import GaussianConditional

from gnvc_vd.entropy import likelihoods
from gnvc_vd.entropy.cdf_tables import (
    LARGEST,
    LEVELS,
    SMALLEST,
    STEP,
    TOTAL,
    Tables,
    normal_tables,
    quantise_pmf,
    tables_of,
)
from gnvc_vd.entropy.integer import clamp_with_gradient, straight_round


def test_tables_are_normal_distributions_in_sixteen_bits() -> None:
    tables = tables_of(normal_tables())
    assert len(tables.frequencies) == LEVELS
    for level in (0, 20, 40, 63):
        frequencies, scale = tables.frequencies[level], SMALLEST * math.exp(STEP * level)
        reach = int(tables.reach[level])
        assert frequencies.sum() == TOTAL and frequencies.min() >= 1 and len(frequencies) == 2 * reach + 3
        assert np.array_equal(frequencies, frequencies[::-1])
        symbols = np.arange(-reach, reach + 1)
        mass = np.array([math.erf((s + 0.5) / scale / 2**0.5) - math.erf((s - 0.5) / scale / 2**0.5) for s in symbols])
        assert np.abs(frequencies[1:-1] / TOTAL - mass / 2).max() < len(frequencies) / TOTAL
    assert scale == pytest.approx(LARGEST)


def test_a_table_s_bits_are_its_frequencies() -> None:
    tables = Tables([np.array([1, TOTAL - 3, 1, 1][:3]) + np.array([0, 1, 0]), quantise_pmf(np.ones(5))])
    assert tables.bits[1] == pytest.approx(-math.log2((TOTAL - 2) / TOTAL))
    assert tables.cumulative[0] == [0, 1, TOTAL - 1, TOTAL, TOTAL]
    with pytest.raises(ValueError, match="sum to"):
        Tables([np.array([1, 2, 3])])


def test_likelihoods_are_compressai_s() -> None:
    torch.manual_seed(0)
    values, scales = 5 * torch.randn(1, 4, 50), 0.11 + 10 * torch.rand(1, 4, 50)
    _, theirs = GaussianConditional(None)(values, scales, training=False)
    ours = likelihoods.bits(torch.round(values), scales)
    likely = theirs > 1e-4
    assert likely.sum() > 100
    assert torch.allclose(ours[likely], -theirs.log2()[likely], atol=1e-3)
    assert likelihoods.bits(torch.tensor(1e9), torch.tensor(0.11)) == 16


def test_scales_are_the_tables_and_gradients_reach_the_index() -> None:
    level = torch.tensor([0.0, 31.4, 63.0, 80.0], requires_grad=True)
    scale = likelihoods.scale_of(level)
    assert scale.tolist() == pytest.approx([SMALLEST, SMALLEST * math.exp(31 * STEP), LARGEST, LARGEST], rel=1e-5)
    scale.sum().backward()
    assert level.grad is not None and (level.grad > 0).all()


def test_gradients_in_closed_form_are_those_of_the_formulas() -> None:
    """At bounds too, in both directions of the gradient: many masses here are below a table's smallest bin."""
    torch.manual_seed(0)
    residual, level = 8 * torch.randn(4000, dtype=torch.float64), 40 * torch.randn(4000, dtype=torch.float64) + 30
    inputs, above = (residual.requires_grad_(), level.requires_grad_()), torch.randn(4000, dtype=torch.float64)
    scale = SMALLEST * torch.exp(STEP * clamp_with_gradient(straight_round(level), 0, LEVELS - 1))
    distance = residual.abs()
    mass = torch.special.ndtr((0.5 - distance) / scale) - torch.special.ndtr((-0.5 - distance) / scale)
    bits = -torch.log(clamp_with_gradient(mass, 1 / TOTAL, 1.0)) / math.log(2)
    ours = likelihoods.bits(residual, likelihoods.scale_of(level))
    assert torch.equal(ours, bits) and 100 < (mass < 1 / TOTAL).sum() < 3000
    for wanted, found in zip(*(torch.autograd.grad(one, inputs, above) for one in (bits, ours)), strict=True):
        assert (found - wanted).abs().max() < 1e-12 * wanted.abs().max()


def test_thrift_takes_the_cheaper_of_the_nearest_integer_and_the_next_towards_zero() -> None:
    torch.manual_seed(0)
    residual = 4 * torch.randn(4000, dtype=torch.float64)
    scale = SMALLEST * torch.exp(STEP * torch.randint(LEVELS, (4000,)).double())
    found, nearest = likelihoods.round_symbols(residual, scale, thrift=1 / 15), residual.round()

    def price(symbols: torch.Tensor) -> torch.Tensor:
        return likelihoods.bits(symbols, scale) / 15 + (residual - symbols).square()

    lower = nearest - nearest.sign()
    assert torch.allclose(price(found), torch.minimum(price(nearest), price(lower)), rtol=0, atol=1e-12)
    assert ((found == nearest) | (found == lower)).all() and (found != nearest).sum() > 100
    assert torch.equal(likelihoods.round_symbols(-residual, scale, thrift=1 / 15), -found)
    assert torch.equal(likelihoods.round_symbols(residual, None), nearest)


def test_thrift_leaves_zero_where_a_one_costs_more_than_it_mends() -> None:
    """The errors of 0 and 1 differ by 2 r − 1: zero is kept up to r = (1 + (bits of 1 − bits of 0) thrift) / 2."""
    thrift, zero = 1 / 15, math.erf(0.5 / 0.4 / 2**0.5)
    one = 0.5 * (math.erf(1.5 / 0.4 / 2**0.5) - zero)
    kept = (1 + math.log2(zero / one) * thrift) / 2
    assert 0.55 < kept < 0.75
    residual = torch.tensor([0.5, kept - 1e-3, kept + 1e-3, 1.0], dtype=torch.float64)
    narrow, wide = (torch.tensor(scale, dtype=torch.float64) for scale in (0.4, LARGEST))
    assert likelihoods.round_symbols(residual, narrow, thrift).tolist() == [0, 0, 1, 1]
    assert likelihoods.round_symbols(residual, wide, thrift).tolist() == [0, 1, 1, 1]
