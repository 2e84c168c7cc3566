"""The contextual codec's measured start: at step 0 what closed forms say of a transform code, and all of it trains."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from gnvc_vd.conventions import UsageError
from gnvc_vd.entropy.cdf_tables import SMALLEST, STEP
from gnvc_vd.learned.bottleneck.contextual import BottleneckOutput, Contextual
from gnvc_vd.learned.bottleneck.contextual_start import measure
from gnvc_vd.presets import PRESETS, ContextualPreset
from gnvc_vd.train.losses import bits_per_pixel, rate_distortion, squared_error
from gnvc_vd.train.settings import Rate
from tests.learned.bottleneck.models import NANO

TINY = PRESETS["tiny"].contextual
WHOLE = replace(TINY, symbols=64)  # as many as a block has coefficients
MORE = replace(NANO, symbols=80, width=72)  # 16 of which mean nothing at the start
RATE = Rate(smallest=0.05, largest=12.0)
STAYS = 0.9  # correlation from latent to latent
STRONG, WEAK = torch.linspace(2.0, 1.0, 16), torch.linspace(0.3, 0.1, 48)
SCALES = torch.cat([STRONG, WEAK])


def fields(clips: int, count: int, seed: int = 0, side: int = 20) -> Tensor:
    """Latents whose 2×2 blocks are 64 independent normal processes of known scales, turned; off zero."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, clips, 64, side // 2, side // 2, generator=generator)
    processes = [noise[0]]
    for one in noise[1:]:
        processes.append(STAYS * processes[-1] + math.sqrt(1 - STAYS**2) * one)
    scaled = torch.stack(processes, 1) * SCALES[:, None, None]
    turn = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(99)))[0]
    return pixel_shuffle(torch.einsum("ck,btkhw->btchw", turn, scaled), 2).transpose(1, 2) + torch.linspace(
        -1, 1, 16
    ).view(1, 16, 1, 1, 1)


def codec(preset: ContextualPreset, rate: Rate = RATE, measured: bool = True) -> Contextual:
    torch.manual_seed(0)
    model = Contextual(preset, rate.thrift).eval()
    if measured:
        measure(model, fields(24, 4), rate.smallest, rate.largest)
    return model


@torch.no_grad()
def coded(model: Contextual, latents: Tensor, quality: int) -> BottleneckOutput:
    out: BottleneckOutput = model(latents, torch.full((len(latents), latents.shape[2]), quality))
    return out


def gain(rate: Rate, quality: int) -> float:
    middle = rate.smallest * (rate.largest / rate.smallest) ** (quality / 63)
    return 1.5 * math.sqrt(middle / 0.605)


def entropy(scale: float) -> float:
    """Bits of a normal number that is rounded."""
    edges = torch.arange(-400, 401, dtype=torch.float64) - 0.5
    mass = torch.special.ndtr(edges / scale).diff()
    return float(-(mass * mass.clamp_min(1e-300).log2()).sum())


def test_with_as_many_symbols_as_coefficients_the_error_is_the_quantisers() -> None:
    """step²/12 for each value, of anchors and of those predicted: nothing but rounding is lost, and nothing adds up."""
    fine = Rate(smallest=0.05, largest=500.0)
    x = fields(4, 5, seed=1)
    out = coded(codec(WHOLE, fine), x, 63)
    errors = (out.latents - x).square().mean((0, 1, 3, 4))
    wanted = 1 / gain(fine, 63) ** 2 / 12
    assert torch.allclose(errors, torch.full((5,), wanted), rtol=0.03)


def test_with_fewer_symbols_the_weakest_components_are_lost() -> None:
    model, x = codec(NANO, Rate(smallest=0.05, largest=500.0)), fields(24, 4)
    blocks = pixel_unshuffle(x[:, :, 0] - x[:, :, 0].mean((0, 2, 3), keepdim=True), 2)
    flat = blocks.transpose(0, 1).flatten(1).double()
    energies = torch.linalg.eigvalsh(flat @ flat.T / flat.shape[1])
    rounding = 16 / 64 / gain(Rate(smallest=0.05, largest=500.0), 63) ** 2 / 12
    out = coded(model, x, 63)
    errors = (out.latents - x).square().mean((0, 1, 3, 4))
    assert errors[0].item() == pytest.approx(float(energies[:-16].sum()) / 64 + rounding, rel=1e-3)
    # What is lost of anchors stays lost of the latents after them, whose strong components are the same ones.
    assert torch.allclose(errors[1:], (WEAK.square().sum() / 64 + rounding).expand(3), rtol=0.05)


@pytest.mark.parametrize("quality", [0, 40, 63])
def test_anchors_cost_the_entropy_of_rounded_normal_numbers(quality: int) -> None:
    x = fields(6, 1, seed=2)
    bits = coded(codec(WHOLE), x, quality).bits.mean().item()
    wanted = 100 * sum(entropy(scale * gain(RATE, quality)) for scale in SCALES.tolist())
    assert bits == pytest.approx(wanted, rel=0.05)


def test_each_symbol_s_table_has_the_scale_that_was_measured() -> None:
    """At any quality and whatever was seen, times its gain; and its mean is zero."""
    model, x, quality = codec(WHOLE), fields(24, 4), torch.tensor([20])
    first = x[:, :, 0] - x[:, :, 0].mean((0, 2, 3), keepdim=True)
    for entropy_model, wanted in ((model.anchor_entropy, first[:, :, None]), (model.entropy, x.diff(dim=2))):
        flat = pixel_unshuffle(wanted.transpose(1, 2), 2).transpose(1, 2).transpose(0, 1).flatten(1).double()
        scales = torch.linalg.eigvalsh(flat @ flat.T / flat.shape[1]).flip(0).sqrt()
        base = torch.randn(1, WHOLE.prior, 2, 2)
        with torch.no_grad():
            means, tables = entropy_model._mean_and_level(entropy_model.first, base, torch.zeros(1, 64, 2, 2), quality)
        found = SMALLEST * torch.exp(STEP * tables[0, :, 0, 0].double())
        assert not means.any()
        torch.testing.assert_close(found, scales * gain(RATE, 20), rtol=2e-3, atol=0)


def test_predicted_latents_cost_the_entropy_of_their_differences() -> None:
    """At a fine quality, where what the one before lost is little."""
    fine = Rate(smallest=0.05, largest=200.0)
    bits = coded(codec(WHOLE, fine), fields(6, 4, seed=2), 63).bits[:, 1:].mean().item()
    left = math.sqrt(2 * (1 - STAYS))
    wanted = 100 * sum(entropy(left * scale * gain(fine, 63)) for scale in SCALES.tolist())
    assert bits == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize("preset", [NANO, TINY, WHOLE])
def test_it_begins_far_ahead_of_a_random_codec(preset: ContextualPreset) -> None:
    """Its lowest quality errs less than a random codec's highest, for fewer bits than the random one's lowest."""
    x = fields(4, 3, seed=3)
    begun, random = codec(preset), codec(preset, measured=False)
    assert coded(begun, x, 0).bits.mean() < coded(random, x, 0).bits.mean()
    assert squared_error(coded(begun, x, 0).latents, x).mean() < squared_error(coded(random, x, 63).latents, x).mean()


@pytest.mark.parametrize("preset", [NANO, TINY, WHOLE, MORE])
def test_after_a_step_or_two_all_of_it_trains(preset: ContextualPreset) -> None:
    """Every output of every layer, those of channels too that the start keeps out."""
    model = codec(preset).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, quality = fields(4, 3, seed=4), torch.tensor([3, 20, 41, 60])
    for _ in range(3):
        optimiser.step()  # nothing the first time: there are no gradients yet
        optimiser.zero_grad()
        out = model(x, quality[:, None].expand(-1, 3))
        bpp, error = bits_per_pixel(out.bits, x), squared_error(out.latents, x)
        rate_distortion(bpp, error, quality, RATE).mean().backward()
    assert dead_rows(model) == {}


def dead_rows(model: Contextual) -> dict[str, list[int]]:
    """Outputs of layers that no gradient reaches, but for those that cannot have one.

    A symbol that means nothing yet is 0 and has the narrowest table, which cannot become narrower. What is made of ẑ
    learns nothing while all ẑ are 0, as they may be in so few blocks; that ẑ should be others does reach the analysis.
    """
    narrowest = range(model.preset.symbols + 64, 2 * model.preset.symbols)
    found = {}
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        dead = (gradient.abs().flatten(1).sum(1) if gradient.ndim > 1 else gradient) == 0
        excused = narrowest if ".first.2." in name or ".second.2." in name else range(0)
        if name.endswith("entropy.synthesis.0.weight"):
            excused = range(len(dead))
        rows = [row for row in dead.nonzero().flatten().tolist() if row not in excused]
        if rows:
            found[name] = rows
    return found


def test_its_integers_code_what_its_floats_foresee() -> None:
    model, x = codec(WHOLE), fields(2, 3, seed=5)
    for quality in (0, 30, 63):
        foreseen = coded(model.train(False), x, quality)
        model.freeze()
        payloads, shown = model.compress(x, [quality] * 3)
        sent = [one.data for one in payloads], [one.symbol_hash for one in payloads]
        back = list(model.decompress(*sent, (20, 20), [quality] * 3))  # the symbol hash is the proof
        assert all(torch.equal(here.latent, there.latent) for here, there in zip(shown, back, strict=True))
        assert torch.stack([one.latent for one in back], 2).sub(foreseen.latents).square().mean() < 1e-3
        for one, bits in zip(payloads, foreseen.bits.sum(1).tolist(), strict=True):
            assert one.estimated_bits == pytest.approx(bits, rel=0.02)
            assert 0 < 8 * len(one.data) - one.estimated_bits < 100


def test_clips_of_one_latent_have_no_differences_to_measure() -> None:
    with pytest.raises(UsageError, match="two latents"):
        measure(Contextual(NANO), fields(2, 1), 0.05, 12.0)
