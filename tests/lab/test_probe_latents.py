"""The ideal transform code against the closed forms of rate–distortion theory."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.metrics.block_transform import dct
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.metrics.ideal import IdealCode
from gnvc_vd.video.pixels import pixels_of
from lab.probe_latents import COLOURS, LATTICES, judge, own_lattices


def white(deviations: Tensor, side: int = 64, seed: int = 0) -> Tensor:
    """Independent Gaussians, a deviation for each channel."""
    noise = torch.randn(4, 16, 4, side, side, generator=torch.Generator().manual_seed(seed))
    return noise * deviations.view(1, 16, 1, 1, 1)


def test_the_transform_is_orthonormal() -> None:
    for count in (1, 4, 7, 8):
        assert torch.allclose(dct(count) @ dct(count).T, torch.eye(count, dtype=torch.float64), atol=1e-12)
    assert dct(4)[1].tolist() == pytest.approx([math.sqrt(0.5) * math.cos(math.pi * (n + 0.5) / 4) for n in range(4)])


def test_white_noise_costs_half_a_bit_for_each_halving_of_its_variance() -> None:
    latents = white(torch.full((16,), 2.0))
    count = latents.numel()
    code = IdealCode(latents)
    coded = code.at_bits(count * 1.0)  # one bit each: D = σ² / 4
    assert coded.bits == pytest.approx(count, rel=1e-3)
    assert coded.level == pytest.approx(4.0 / 4, rel=0.02)
    assert (coded.latents - latents).square().mean().item() == pytest.approx(1.0, rel=0.02)
    assert coded.latents.square().mean().item() == pytest.approx(4.0 - 1.0, rel=0.02)


def test_water_does_not_cover_what_is_above_it_nor_pay_for_what_is_below() -> None:
    deviations = torch.tensor([4.0] * 8 + [0.1] * 8)
    latents = white(deviations)
    coded = IdealCode(latents).at_bits(latents.numel() / 2 * 1.5)  # all of it for the eight loud channels
    errors = (coded.latents - latents).square().mean((0, 2, 3, 4))
    assert errors[:8].mean().item() == pytest.approx(16 / 4**1.5, rel=0.05)
    assert errors[8:].mean().item() == pytest.approx(0.01, rel=0.05)  # left out: the error is their variance


def test_channels_that_repeat_one_another_and_still_pictures_are_free() -> None:
    single = torch.randn(1, 1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    repeated = single.expand(1, 16, 4, 32, 32) * torch.linspace(0.5, 2, 16).view(1, 16, 1, 1, 1)
    still = single[:, :, :1].expand(1, 1, 4, 32, 32)
    level = 0.01
    alone = IdealCode(torch.cat([single, torch.zeros(1, 15, 4, 32, 32)], dim=1)).bits(level)
    energy = float(torch.linspace(0.5, 2, 16).square().sum())
    assert IdealCode(repeated.contiguous()).bits(level * energy) == pytest.approx(alone, rel=0.02)
    frozen = IdealCode(torch.cat([still, torch.zeros(1, 15, 4, 32, 32)], dim=1)).bits(level)
    assert frozen < 0.4 * alone  # a quarter of the coefficients, each of four times the variance


def test_all_bits_give_everything_back_for_any_size() -> None:
    latents = torch.randn(1, 16, 3, 13, 18, generator=torch.Generator().manual_seed(1))
    coded = IdealCode(latents).at_bits(40.0 * latents.numel())
    assert coded.latents.shape == latents.shape and torch.allclose(coded.latents, latents, atol=1e-3)


def test_a_vae_is_judged_uncoded_and_by_rate() -> None:
    """More bits of the same latents bring the picture nearer to the uncoded one."""
    vae = load_backbone("nano").vae
    clip = torch.randint(0, 256, (3, 5, 64, 64), generator=torch.Generator().manual_seed(0)).byte()
    uncoded, much, little = judge(vae, clip, (20.0, 0.01), Fraction(25))
    assert (uncoded.bpp, much.bpp, little.bpp) == (None, 20.0, 0.01)
    assert much.figures["psnr_rgb"] == pytest.approx(uncoded.figures["psnr_rgb"], abs=0.05)
    assert much.figures["st_lpips_alex"] == pytest.approx(uncoded.figures["st_lpips_alex"], abs=0.02)
    assert little.figures["vmaf"] is not None and little.figures != much.figures
    ratio = np.mean([psnr(one, other) for one, other in zip(pixels_of(clip), uncoded.frames, strict=True)])
    assert uncoded.figures["psnr_rgb"] == pytest.approx(ratio, abs=1e-9)


def test_the_pattern_that_a_vae_gives_plain_pictures_is_its_own() -> None:
    """A decoder that adds ±6 levels to every other pixel has that as its lattice, and none otherwise."""

    class Plain:
        mean = torch.zeros(1)
        added = 0.0

        def encode(self, video: Tensor) -> Tensor:
            return video

        def decode(self, latents: Tensor) -> Tensor:
            chequers = torch.arange(48)[:, None].add(torch.arange(48)) % 2 * 2.0 - 1
            return latents + self.added / 127.5 * chequers

    vae = Plain()
    assert own_lattices(vae, 2, 48) == dict.fromkeys(LATTICES, 0)  # type: ignore[arg-type]
    vae.added = 6.0
    assert own_lattices(vae, 2, 48) == pytest.approx(dict.fromkeys(LATTICES, 6), abs=0.1)  # type: ignore[arg-type]
    assert all(20 < level < 235 for colour in COLOURS for level in colour)  # none is cut off
