"""The transform codec: orthonormal whatever is learned, good before it is trained, exact, and hostile bytes refused."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.conventions import GnvcError
from gnvc_vd.entropy.integer import FLOAT32_EXACT, REACH, UNITS, IntegerConv
from gnvc_vd.learned.bottleneck.pyramid import Pyramid, join_bands, split_bands, spread
from gnvc_vd.learned.bottleneck.slices import BANDS, LONGEST, SliceEntropy, rows_of
from gnvc_vd.learned.bottleneck.symbol_coding import PARAMETER_REACH
from gnvc_vd.learned.bottleneck.transform import Transform
from gnvc_vd.metrics.block_transform import dct
from gnvc_vd.presets import TransformPreset
from gnvc_vd.train.losses import bits_per_pixel

SMALL = TransformPreset(prior=24, state=16, width=16, blocks=1)


def latents(clips: int, count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth over time and places, channels of different strength: what a transform is for."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(clips, 16, count + 4, height + 4, width + 4, generator=generator)
    smooth = torch.nn.functional.avg_pool3d(noise, 5, 1)
    return 6 * smooth * torch.linspace(0.3, 2, 16)[:, None, None, None] + 0.2


def codec(trained: bool = True, seed: int = 0) -> Transform:
    """Measured; and with weights off zero everywhere, as if it had been trained."""
    torch.manual_seed(seed)
    model = Transform(SMALL)
    model.measure(latents(8, LONGEST, 12, 12, seed=9), 0.05, 12.0)
    if trained:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    model.freeze()
    return model.eval()


@pytest.mark.parametrize("count", range(1, LONGEST + 1))
@pytest.mark.parametrize("training", [True, False])
def test_the_rotation_keeps_every_distance_and_turns_back(count: int, training: bool) -> None:
    model = codec()
    with torch.no_grad():
        model.rotation.turn.copy_(torch.randn(64, 64))
    model.freeze()
    model.train(training)
    one, other = latents(2, count, 4, 6, 1), latents(2, count, 4, 6, 2)
    slices = model.rotation(one), model.rotation(other)
    assert slices[0].shape == (2, count, 64, 2, 3)
    there, here = (slices[0] - slices[1]).square().sum(), (one - other).square().sum()
    assert there.item() == pytest.approx(here.item(), rel=1e-4)
    assert torch.allclose(model.rotation.latents(model.rotation.inverse(slices[0])), one, atol=1e-4)
    basis = model.rotation.learned_basis()
    assert torch.allclose(basis @ basis.T, torch.eye(64), atol=1e-5)


def test_the_lowest_slice_is_the_mean_over_time() -> None:
    model = codec(trained=False)
    x = latents(1, 4, 4, 4)
    flat = torch.nn.functional.pixel_unshuffle(x.mean(2) - model.rotation.mean[:, None, None], 2)
    wanted = torch.einsum("ij,bjhw->bihw", model.rotation.measured, flat) * 2  # √4: the transform is orthonormal
    assert torch.allclose(model.rotation(x)[:, 0], wanted, atol=1e-4)
    assert torch.allclose(dct(4)[0], torch.full((4,), 0.5, dtype=torch.float64))


def test_it_begins_as_the_principal_components_with_their_scales() -> None:
    model, training = codec(trained=False), latents(8, LONGEST, 12, 12, seed=9)
    slices = model.rotation(training).transpose(1, 2).transpose(0, 1).flatten(1).double()
    covariance = slices @ slices.T / slices.shape[1]
    outside = covariance - torch.diag(covariance.diagonal())
    assert outside.abs().max() < 1e-4 * covariance.diagonal().max()
    assert (covariance.diagonal().diff() <= 1e-6).all()  # strongest first
    for length, number in ((4, 3), (9, 8)):
        power = model.rotation(training[:, :, :length])[:, number].square().mean((0, 2, 3))
        scale = model.higher.log_scale[model.higher.rows[length, number]].exp()
        assert torch.allclose(scale.square(), power, rtol=1e-3, atol=1e-5)
    for length, band, entropy in ((1, 0, model.smooth), (4, 0, model.smooth), (7, 2, model.details)):
        power = split_bands(model.rotation(training[:, :, :length])[:, 0])[:, band].square().mean((0, 2, 3))
        assert torch.allclose((2 * entropy.log_scale[entropy.rows[length, band]]).exp(), power, rtol=1e-3, atol=1e-5)


def test_untrained_an_error_of_symbols_is_the_error_of_latents() -> None:
    """The correction begins as nothing."""
    model, x = codec(trained=False).train(), latents(3, 7, 8, 8)
    quality = torch.tensor([0, 32, 63])
    out = model(x, quality[:, None].expand(-1, 7))
    slices = model.rotation(out.latents) - model.rotation(x)
    steps = torch.stack([model.smooth.gain(quality, (7, 0))[:, 0, 0, 0] ** -1])
    assert torch.allclose(slices.square().sum((1, 2, 3, 4)), (out.latents - x).square().flatten(1).sum(1), rtol=1e-3)
    assert (slices[:, 1:].abs().flatten(1).amax(1) <= 0.51 * steps * 1.001).all()
    assert (split_bands(slices[:, 0]).abs().flatten(1).amax(1) <= 0.51 * steps * 1.001).all()


def test_untrained_it_costs_what_independent_gaussians_of_the_measured_scales_cost() -> None:
    """At a high rate: h(y) + log2(gain) bits a coefficient, by the scales that were measured."""
    model = codec(trained=False).train()
    generator, count = torch.Generator().manual_seed(3), 7
    bands = torch.randn(1, 4, 64, 4, 4, generator=generator) * model._band_scales()[count - 1].exp()[:, :, None, None]
    rows = [model.higher.log_scale[model.higher.rows[count, number]] for number in range(1, count)]
    scales = torch.stack(rows).exp()
    higher = scales[None, :, :, None, None] * torch.randn(1, count - 1, 64, 8, 8, generator=generator)
    slices = torch.cat([join_bands(bands, (8, 8))[:, None], higher], dim=1)
    x = model.rotation.latents(model.rotation.inverse(slices))
    bits = model(x, torch.full((1, count), 63)).bits.sum()
    gain = model.smooth.gain(torch.tensor([63]), (7, 0))[0, 0, 0, 0]
    scales = torch.cat([model._band_scales()[count - 1].exp(), scales])
    each = (0.5 * np.log2(2 * np.pi * np.e) + torch.log2(scales * gain)).clamp_min(0).sum(1)
    entropy = (each * torch.tensor([16.0] * 4 + [64.0] * (count - 1))).sum()
    assert bits.item() == pytest.approx(entropy.item(), rel=0.03)


@pytest.mark.parametrize(("rotation", "count"), [(7, 7), (1, 3), (3, 8), (9, 9), (7, 16), (2, 2)])
def test_latents_come_back_as_the_encoder_has_them(rotation: int, count: int) -> None:
    model, x = codec(), latents(2, count, 6, 10)
    for quality in (0, 40, 63):
        payloads, known = model.compress(x, [quality] * count, rotation)
        sent = [one.data for one in payloads], [one.symbol_hash for one in payloads]
        back = list(model.decompress(*sent, (6, 10), [quality] * count, rotation))
        assert len(back) == len(known) == count
        for there, here in zip(known, back, strict=True):
            assert torch.equal(there.latent, here.latent) and torch.equal(there.feature, here.feature)
        for one in payloads:
            assert 0 < 8 * len(one.data) - one.estimated_bits <= 80


def test_a_clip_is_the_same_alone_and_beside_others() -> None:
    model, x = codec(), latents(3, 7, 6, 6)
    together, _ = model.compress(x, [30] * 7)
    for clip in range(3):
        (alone,), _ = model.compress(x[clip : clip + 1], [30] * 7)
        sent = ([alone.data], [alone.symbol_hash], (6, 6), [30] * 7)
        assert len(list(model.decompress(*sent))) == 7
        assert abs(len(alone.data) - len(together[clip].data)) <= 8  # the float side may round otherwise


def test_what_trains_behaves_as_what_codes() -> None:
    model, x = codec(), latents(2, 7, 8, 8, seed=5)
    for quality in (0, 32, 63):
        payloads, known = model.compress(x, [quality] * 7)
        model.train()
        with torch.no_grad():
            out = model(x, torch.full((2, 7), quality))
        model.eval()
        coded = torch.stack([one.latent for one in known], 2)
        there, here = ((one - x).square().mean().item() for one in (out.latents, coded))
        assert here == pytest.approx(there, rel=0.03)
        assert sum(one.estimated_bits for one in payloads) == pytest.approx(out.bits.sum().item(), rel=0.02)


def test_a_higher_quality_costs_more_and_errs_less() -> None:
    model, x = codec(trained=False), latents(2, 7, 8, 8)
    rates, errors = [], []
    for quality in range(0, 64, 9):
        payloads, known = model.compress(x, [quality] * 7)
        rates.append(sum(len(one.data) for one in payloads))
        errors.append((torch.stack([one.latent for one in known], 2) - x).square().mean().item())
    assert rates == sorted(set(rates)) and errors == sorted(set(errors), reverse=True)


def test_every_sum_of_products_stays_exact() -> None:
    model = codec()
    layers = [layer for layer in model.modules() if isinstance(layer, IntegerConv)]
    assert len(layers) > 15 and max(layer.largest_sum() for layer in layers) < FLOAT32_EXACT


def test_the_largest_integers_do_not_overflow() -> None:
    """Saturated everywhere: the arithmetic of means and whitening against Python's own integers."""
    entropy: SliceEntropy = codec().higher
    for name in ("gain", "inverse", "scale", "inverse_scale"):
        getattr(entropy, f"{name}_integers").fill_(Transform.bounds[f"{name}_integers"][1])
    gain, scale = (Transform.bounds[f"{name}_integers"][1] for name in ("gain", "scale"))
    quality, at = torch.tensor([63]), (7, 3)
    for raw in (PARAMETER_REACH, -PARAMETER_REACH):
        exact = ((raw * scale + (1 << 7) >> 8) * gain + (1 << 27)) >> 28
        found = entropy._mean(torch.full((1, 64), raw), at, quality, torch.arange(64))
        assert found.unique().tolist() == [max(-(1 << 24) + 1, min((1 << 24) - 1, exact))]
    symbols = torch.full((1, 64, 1, 1), UNITS << 24)
    assert entropy.whiten(symbols, at, quality).unique().tolist() == [REACH]
    assert entropy.whiten(-symbols, at, quality).unique().tolist() == [-REACH]


def test_bands_cover_all_frequencies_of_every_length() -> None:
    model = codec(trained=False).higher
    for length, number in rows_of("higher"):
        assert 0 <= model.band_of((length, number)) <= BANDS
    assert [model.band_of((7, number)) for number in range(7)] == list(range(7))
    assert len(rows_of("smooth")) == 9 and len(rows_of("higher")) == 45


def test_damaged_payloads_are_refused() -> None:
    model, x = codec(), latents(1, 4, 6, 6)
    (payload,), _ = model.compress(x, [40] * 4)
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(payload.data)
        broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
        if rng.integers(2):
            broken = broken[: 4 * rng.integers(2, len(broken) // 4)]
        with pytest.raises(BitstreamError):
            list(model.decompress([bytes(broken)], [payload.symbol_hash], (6, 6), [40] * 4))


def test_a_quality_for_each_latent_is_refused_in_a_sentence() -> None:
    model = codec()
    with pytest.raises(GnvcError, match="one quality for a whole GOP"):
        model.compress(latents(1, 2, 4, 4), [30, 40])


def test_training_lowers_the_cost_from_the_first_steps() -> None:
    """Fifty steps on smooth fields: what training is for, and that gradients reach all of it."""
    torch.manual_seed(0)
    model = Transform(SMALL)
    clips = latents(32, 7, 8, 8, seed=1)
    model.measure(clips, 0.05, 12.0)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=4e-3, weight_decay=0.0)
    quality, losses = torch.tensor([10, 25, 40, 55]), []
    weight = 0.05 * 240 ** (quality / 63)
    for step in range(50):
        batch = clips[torch.arange(4) + 4 * (step % 8)]
        out = model(batch, quality[:, None].expand(-1, 7), rotation=(7, 3)[step % 2])
        error = (out.latents - batch).square().flatten(1).mean(1)
        loss = ((bits_per_pixel(out.bits, batch) + weight * error) / weight.sqrt()).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        losses.append(loss.item())
    without = [name for name, one in model.named_parameters() if one.requires_grad and not one.grad.abs().sum()]
    assert without == []  # by now something has passed every layer that began as nothing
    assert np.mean(losses[-8:]) < 0.93 * np.mean(losses[:8])


def test_bands_are_a_haar_transform_of_four_places() -> None:
    """Orthonormal, back to what it was, and by hand at one place."""
    slice_ = torch.randn(2, 64, 6, 10, generator=torch.Generator().manual_seed(0))
    bands = split_bands(slice_)
    assert bands.shape == (2, 4, 64, 3, 5)
    assert bands.square().sum().item() == pytest.approx(slice_.square().sum().item(), rel=1e-5)
    assert torch.allclose(join_bands(bands, (6, 10)), slice_, atol=1e-5)
    a, b, c, d = slice_[1, 7, 2, 4], slice_[1, 7, 2, 5], slice_[1, 7, 3, 4], slice_[1, 7, 3, 5]
    wanted = torch.stack([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]) / 2
    assert torch.allclose(bands[1, :, 7, 1, 2], wanted, atol=1e-6)


def test_odd_sides_repeat_their_last_place() -> None:
    slice_ = torch.randn(1, 64, 5, 3, generator=torch.Generator().manual_seed(0))
    bands = split_bands(slice_)
    assert bands.shape[3:] == (3, 2) and torch.allclose(join_bands(bands, (5, 3)), slice_, atol=1e-5)
    assert torch.allclose(bands[:, 2, :, 2], torch.zeros(1), atol=1e-6)  # the last row beside itself: no detail down


def test_bands_on_the_slice_s_own_grid_are_whitened_by_its_scale() -> None:
    """Integers against the same in exact fractions; and floats that pretend to be them, to a unit's rounding."""
    pyramid, rng = Pyramid(), torch.Generator().manual_seed(1)
    log_scales = torch.randn(LONGEST, 4, 64, generator=rng)
    pyramid.freeze(log_scales)
    bands = torch.randint(-90, 91, (1, 4, 64, 2, 2), generator=rng)
    found = pyramid.values(bands, log_scales, 7, (4, 4))
    scales = log_scales[6].double().exp()
    own = scales.square().mean(0).sqrt()
    exact = join_bands(bands * scales[None, :, :, None, None], (4, 4)) / own[:, None, None]
    assert (found - exact).abs().max() < 2.5 and (found != 0).any()  # four roundings of half a unit, and one more
    floats = pyramid.values(bands / UNITS, log_scales, 7, (4, 4)) * UNITS
    assert (floats - found).abs().max() <= 1
    assert pyramid.values(torch.full_like(bands, REACH), log_scales, 7, (4, 4)).abs().max() <= REACH


def test_errors_of_bands_are_shared_by_the_places_that_they_make() -> None:
    errors = torch.arange(1.0, 5.0)[None, :, None, None, None].expand(1, 4, 64, 2, 3)
    assert torch.equal(spread(errors, (3, 5)), torch.full((1, 64, 3, 5), 2.5))


def test_what_stands_still_is_predicted() -> None:
    """Nine latents that are alike, in rotations of three: of a predicted slice the quantiser's error is coded."""
    model, still = codec(trained=False), latents(1, 1, 8, 8).expand(-1, -1, 9, -1, -1).contiguous()
    sizes, errors = [], []
    for share in (0.0, 1.0):
        with torch.no_grad():
            model.rotation.carry.fill_(share)
        payloads, known = model.compress(still, [50] * 9, 3)
        sizes.append(payloads[0].estimated_bits)
        errors.append([(one.latent - still[:, :, 0]).square().mean().item() for one in known])
    alone = model.compress(still[:, :, :3], [50] * 3, 3)[0][0].estimated_bits
    assert sizes[1] - alone < 0.8 * (sizes[0] - alone)
    assert max(errors[1]) < 1.05 * errors[1][0]


@pytest.mark.parametrize("rotation", [1, 3, 9])
def test_a_long_gop_does_not_drift(rotation: int) -> None:
    """97 frames: what another machine's floats differ by does not grow from rotation to rotation.

    Its correction runs in another precision, its blocks are off by a millionth; l̂ stays within a few times that.
    """
    model, x = codec(), latents(1, 25, 8, 8)
    payloads, known = model.compress(x, [40] * 25, rotation)
    sent = [payloads[0].data], [payloads[0].symbol_hash], (8, 8), [40] * 25, rotation
    plain = torch.stack([one.latent for one in known], 2)
    other = copy.deepcopy(model)
    other.rotation.basis.mul_(1 + 1e-6)
    drifted = torch.stack([one.latent for one in other.decompress(*sent)], 2)
    apart = (drifted - plain).abs().amax((0, 1, 3, 4))
    assert 0 < apart.max() < 1e-4 and apart[-rotation:].max() < 4 * apart[:9].max()
    coarse = copy.deepcopy(model)
    coarse.correction.to(torch.bfloat16)
    rough = (torch.stack([one.latent for one in coarse.decompress(*sent)], 2) - plain).abs().amax((0, 1, 3, 4))
    assert rough[9:].max() < 2 * rough[:9].max() + 1e-6
