"""A layer's noise points where something is missing, costs what GVC counts, and its bits are the decoder's all."""

import math

import pytest
import torch

from gnvc_vd.backbone import flow
from lab.study_layer import SIZE, Base, chosen, read_off, shape_layer, steered


def base() -> Base:
    torch.manual_seed(0)
    clean = torch.randn(1, 16, 2, 8, 8)
    return Base(clean, clean + 0.5 * torch.randn_like(clean), torch.zeros(1, 1, 2, 8, 8), 1000)


def test_chosen_noise_has_unit_variance_points_at_what_is_missing_and_costs_atoms_and_signs() -> None:
    missing = base().clean
    z, bits = chosen(missing, 0, 4)
    assert torch.allclose(z.square().mean((1, 3, 4)), torch.ones(1, 2), atol=1e-5)
    powers = (one.square().sum((1, 3, 4)) for one in (z, missing))
    cosines = (z * missing).sum((1, 3, 4)) / math.prod(power.sqrt() for power in powers)
    assert (cosines > 0.1).all()  # of 1024 coordinates; what is drawn blindly has 0.03 or less
    assert bits == 2 * (math.ceil(math.log2(math.comb(SIZE, 4))) + 4)


def test_a_direction_at_its_best_length_lowers_the_error_by_its_cosine() -> None:
    given = base()
    bits, reached = shape_layer(given, 4)
    missing = given.clean - given.decoded
    z, of_atoms = chosen(missing, 0, 4)
    assert bits == of_atoms + 16
    kept = missing.square().sum((1, 3, 4)) - (missing * z).sum((1, 3, 4)) ** 2 / z.square().sum((1, 3, 4))
    assert torch.allclose((given.clean - reached).square().sum((1, 3, 4)), kept, rtol=1e-4)


def test_a_perfect_model_reaches_the_clean_latents_and_pays_for_every_step() -> None:
    given = base()
    bits, reached = steered(given, lambda x, sigma: (x - given.clean) / sigma, 0.3, 3, 4)
    assert torch.allclose(reached, given.clean, atol=1e-5)
    assert bits == 3 * chosen(given.clean, 0, 4)[1]
    blind = steered(given, lambda x, sigma: torch.zeros_like(x), 0.3, 1, 4)[1]
    z, _ = chosen(given.clean - given.decoded, 0, 4)
    assert torch.allclose(blind, flow.start_point(given.decoded, z, 0.3))


def test_a_curve_is_read_off_between_its_points_in_the_logarithm_of_the_rate() -> None:
    assert read_off([(100, {"a": 1.0}), (400, {"a": 3.0})], 200) == {"a": pytest.approx(2.0)}
