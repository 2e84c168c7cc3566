"""Temporal differences and the flicker spectrum where both are known."""

import numpy as np
import pytest
import torch

from gnvc_vd.metrics.fidelity import MsSsim, psnr_rgb
from gnvc_vd.metrics.pairs import FrameMean, as_tensor
from gnvc_vd.metrics.perceptual import st_lpips
from lab.flicker import TemporalDifference, temporal_difference
from tests.metrics.clips import as_frame, e_warp, noisy, pairs, pan, still, texture
from tests.metrics.test_flicker import spectrum


def test_temporal_difference_is_its_closed_form_and_the_same_frame_by_frame() -> None:
    def change(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x - y).mean((1, 2, 3)).abs()

    levels = torch.tensor([[0.0, 0.2, 0.1], [0.0, 0.0, 0.0]])  # of two clips
    x = levels.view(2, 1, 3, 1, 1).expand(2, 3, 3, 4, 4)
    y = 2 * x
    assert temporal_difference(change, x, y).tolist() == pytest.approx([0.15, 0.0])  # mean of |0.2 − 0.4|, |0.1 − 0.2|
    with pytest.raises(ValueError, match="T > 1"):
        temporal_difference(change, x[:, :, :1], y[:, :, :1])

    clip = pan(texture(40, 48), 4, (1, 0))
    test = noisy(clip, 8)
    distance = st_lpips("alex")
    measure = TemporalDifference(distance)
    for pair in pairs(clip, test):
        measure.add(pair)
    stacks = [torch.stack([as_tensor(frame) for frame in frames], dim=2) for frames in (clip, test)]
    assert measure.value() == pytest.approx(float(temporal_difference(distance, *stacks)), rel=1e-4)


def test_flicker_at_constant_psnr_is_seen_by_the_temporal_measures_alone() -> None:
    """The same error pattern, of ±6 levels: held still in one clip, its sign changing every frame in the other."""
    picture = 40 + texture(176, 176) * 0.7
    x = [as_frame(picture)] * 9
    pattern = 6 * np.where(texture(176, 176, seed=9)[..., :1] > 127, 1, -1)
    rng = np.random.default_rng(2)
    grain = [rng.integers(-1, 2, picture.shape) for _ in x]
    steady = [as_frame(picture + pattern + g) for g in grain]
    flicker = [as_frame(picture + pattern * (-1) ** t + g) for t, g in enumerate(grain)]

    distance, similarity = st_lpips("alex"), MsSsim()
    figures = []
    for test in (steady, flicker):
        both = pairs(x, test)
        psnr, change = FrameMean(psnr_rgb), TemporalDifference(distance)
        for pair in both:
            psnr.add(pair)
        for pair in both[:3]:
            change.add(pair)
        with torch.inference_mode():
            alike, lpips = (float(np.mean([float(of(*p.tensors)) for p in both[:2]])) for of in (similarity, distance))
        bands = spectrum(x, test, 8, still)
        figures.append((psnr.value(), alike, lpips, e_warp(x[:4], test[:4]), change.value(), bands))
    (psnr_a, alike_a, lpips_a, warp_a, change_a, bands_a), (psnr_b, alike_b, lpips_b, warp_b, change_b, bands_b) = (
        figures
    )
    assert psnr_b == pytest.approx(psnr_a, abs=0.01)
    assert alike_b == pytest.approx(alike_a, rel=0.005)
    assert lpips_b == pytest.approx(lpips_a, rel=0.03)
    assert warp_b > 50 * warp_a  # measured: 109
    assert change_b > 100 * change_a  # measured: 334
    assert bands_b[-1] > 400 * bands_a[-1]  # measured: 821
    assert bands_b[:-1] == pytest.approx(bands_a[:-1], rel=1e-6)  # and at no other frequency
