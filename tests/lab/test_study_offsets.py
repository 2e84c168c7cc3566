"""Offsets learned on problems whose answer is known, and what an arm of the study may train."""

import math
from typing import cast

import pytest
import torch
from torch import Tensor

from gnvc_vd.codecs.load import load
from gnvc_vd.conventions import QUALITIES
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.bottleneck.transform import Transform
from gnvc_vd.learned.codec import GnvcVd
from gnvc_vd.presets import preset
from gnvc_vd.report.curves import Row
from gnvc_vd.train import losses
from lab.study_offsets import (
    RATE,
    between,
    differentiable,
    flatten,
    learn,
    learn_latents,
    learn_slices,
    places_of,
    rate_distortion,
    slices_of,
    slope,
    table,
)

WEIGHTS = torch.tensor([4.0, 1.0, 0.25])  # of latents' errors: of the first most depends


def theory(offsets: Tensor) -> Tensor:
    """Rate and weighted distortion of quantisers of steps 2^−o: o bits, w 2^−2o; best where 2 ln 2 w 2^−2o = 1."""
    return (offsets + WEIGHTS * torch.exp2(-2 * offsets)).sum(-1)


def answer() -> Tensor:
    return torch.log2(2 * math.log(2) * WEIGHTS) / 2  # a bit finer for each fourfold weight


def test_offsets_learned_by_their_gradient_reach_the_known_shares_of_a_rate() -> None:
    offsets = torch.zeros(3, requires_grad=True)
    before = theory(offsets).item()
    learn(lambda: theory(offsets), [([offsets], 0.1)], 200)
    assert theory(offsets).item() < before - 0.1
    assert torch.allclose(offsets, answer(), atol=0.01)


def test_offsets_learned_by_differences_reach_them_through_a_real_quantiser() -> None:
    torch.manual_seed(0)
    samples = 4 * torch.randn(4000)

    def quantised(rows: Tensor) -> Tensor:
        """Entropy in bits of rounded samples, and their real error, for each row of offsets."""
        costs = []
        for row in rows:
            parts = []
            for offset, weight in zip(row, WEIGHTS, strict=True):
                step = torch.exp2(-offset)
                symbols = (samples / step).round()
                shares = torch.bincount((symbols - symbols.min()).long()) / len(samples)
                error = 12 * (samples - symbols * step).square().mean()  # of a unit step: one
                parts.append(torch.special.entr(shares).sum() / math.log(2) + weight * error)
            costs.append(torch.stack(parts).sum())
        return torch.stack(costs)

    offsets = torch.zeros(3, requires_grad=True)
    learn(lambda: (offsets * slope(quantised, offsets.detach(), 0.25)).sum(), [([offsets], 0.1)], 60)
    assert torch.allclose(offsets - offsets.mean(), answer() - answer().mean(), atol=0.1)
    assert quantised(offsets.detach()[None]) < quantised(torch.zeros(1, 3))


def test_differences_are_the_gradient_where_a_loss_is_quadratic() -> None:
    curve, centre = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, -1.0, 0.0])
    found = slope(lambda rows: (curve * (rows - centre).square()).sum(1), torch.ones(3), 2.0)
    assert torch.allclose(found, 2 * curve * (1 - centre))


def test_places_between_whole_qualities_are_linear_and_pass_the_gradient() -> None:
    places = torch.cumsum(torch.arange(QUALITIES, dtype=torch.float32), 0)
    levels = torch.tensor([0.0, 2.25, 63.0], requires_grad=True)
    assert between(places, levels).tolist() == [0.0, 3.75, places[-1].item()]
    (gradient,) = torch.autograd.grad(between(places, levels).sum(), [levels])
    assert gradient.tolist() == [1.0, 3.0, 63.0]


def test_the_contextual_codec_s_places_are_read_off_its_gains() -> None:
    torch.manual_seed(0)
    model = Contextual(preset("nano").contextual).eval()
    places = torch.linspace(2, 50, QUALITIES)
    model.freeze(places)
    assert (places_of(model) - places).abs().max() < 0.05


def test_flat_gains_have_one_mean_and_channels_keep_their_own_share() -> None:
    torch.manual_seed(0)
    model = Transform(preset("nano").transform)
    for one in slices_of(model):
        torch.nn.init.normal_(one.knots)
        torch.nn.init.normal_(one.band_gain)
    smooth, details, higher = slices_of(model)
    wanted = (smooth.knots + smooth.band_gain).mean(2)
    shares = higher.knots - higher.knots.mean(2, keepdim=True)
    flatten(model)
    for one in (smooth, details, higher):
        means = (one.knots + one.band_gain).mean(2)
        assert torch.allclose(means, wanted.expand_as(means), atol=1e-5)
    assert torch.allclose(higher.knots - higher.knots.mean(2, keepdim=True), shares, atol=1e-5)


@pytest.fixture(scope="module")
def codec() -> GnvcVd:
    return load("nano")


def test_the_loss_of_a_frozen_codec_is_that_of_its_payloads(codec: GnvcVd) -> None:
    latents, levels = 0.5 * torch.randn(2, 16, 3, 8, 8, generator=torch.Generator().manual_seed(0)), [40, 30, 20]
    payloads, decoded = codec.bottleneck.compress(latents, levels)
    places = places_of(codec.bottleneck)
    offsets = torch.tensor([10.0, 0.0, -10.0])
    with torch.no_grad():
        found = rate_distortion(differentiable(codec.bottleneck), latents, torch.full((2,), 30), offsets, places)
    bits = torch.tensor([[payload.estimated_bits] for payload in payloads])
    error = losses.squared_error(torch.stack([one.latent for one in decoded], 2), latents)
    bpp = losses.bits_per_pixel(bits, latents)
    wanted = losses.rate_distortion(bpp, error, places[torch.full((2,), 30)], RATE)
    assert torch.allclose(found, wanted, rtol=0.02)


def test_offsets_of_latents_are_whole_and_leave_the_codec_as_it_was(codec: GnvcVd) -> None:
    bottleneck = cast(Contextual, codec.bottleneck)
    latents = torch.randn(4, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in bottleneck.state_dict().items()}
    offsets = learn_latents(bottleneck, latents, 0, 12)
    assert len(offsets) == 3 and abs(sum(offsets)) <= 1 and any(offsets)
    assert all(torch.equal(value, before[name]) for name, value in bottleneck.state_dict().items())


def test_slices_train_from_flat_gains_and_only_with_offsets_do_these_move() -> None:
    torch.manual_seed(0)
    bottleneck = Transform(preset("nano").transform)
    latents = torch.randn(4, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    bottleneck.measure(latents, 0.005, 12.0)
    bottleneck.freeze()
    moved = {}
    for offsets in (False, True):
        trained = learn_slices(bottleneck.eval(), latents, 0, 3, offsets)
        moved[offsets] = [bool(one.band_gain.any()) for one in slices_of(trained)]
        assert not torch.equal(trained.rotation.turn, bottleneck.rotation.turn)
        payloads, _ = trained.compress(latents, [20] * 3)  # with integers of its own
        assert len(payloads) == 4
    assert moved == {False: [False] * 3, True: [True] * 3}
    assert not any(one.band_gain.any() for one in slices_of(bottleneck))


def test_a_table_has_the_mean_of_seeds_and_their_spread() -> None:
    def rows(name: str, part: float) -> list[Row]:
        return [Row(name, "clip", at, 0, part * 0.001 * 2**at, 1.0, {"psnr_rgb": 20.0 + at}) for at in range(4)]

    made = [*rows("flat-0", 1), *rows("flat-1", 1), *rows("flat+offsets-0", 0.9), *rows("flat+offsets-1", 0.7)]
    *_, line = table(made, ["psnr_rgb"])
    assert line == "| clip | -20.0 ± 14.1 % |"
