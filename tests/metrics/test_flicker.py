"""The flicker spectrum on motion and flicker that are known."""

from collections.abc import Sequence

import numpy as np
import pytest

from gnvc_vd.conventions import Frame
from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.flicker import FlickerSpectrum, unexplained
from gnvc_vd.metrics.optical_flow import FlowEstimator, dis
from gnvc_vd.metrics.temporal import Step, Steps
from tests.metrics.clips import as_frame, e_warp, moving, noisy, pairs, pan, still, texture


def spectrum(reference: Sequence[Frame], test: Sequence[Frame], window: int, estimate: FlowEstimator) -> np.ndarray:
    measure = FlickerSpectrum(window, estimate)
    for pair in pairs(reference, test):
        measure.add(pair)
    found = measure.spectrum()
    assert measure.value() == pytest.approx(sum(found) - found[0])
    assert len(found) == window // 2 + 1
    return np.array(found)


def test_what_is_unexplained_is_the_change_of_the_error_in_luma_where_it_is_visible() -> None:
    grey = np.full((32, 40, 3), 100, np.uint8)
    first, second = grey.copy(), grey.copy()
    first[..., 2] += 50
    second += np.array([10, 20, 30], np.uint8)
    seen = np.ones((32, 40), bool)
    seen[:, 30:] = False
    found = unexplained(Step((grey, grey + 7), (first, second), still(grey, grey), seen))
    luma = 10 * 0.2126 + 20 * 0.7152 + 30 * 0.0722 - 50 * 0.0722 - 7
    assert found[:, :30] == pytest.approx(np.full((32, 30), luma), abs=1e-4)
    assert not found[:, 30:].any()


def flickering(frames: int, frequency: float, amplitude: float) -> tuple[list[Frame], list[Frame]]:
    grey = np.full((32, 48, 3), 100.0)
    wave = [np.rint(amplitude * np.cos(2 * np.pi * frequency * t)) for t in range(frames)]
    return [as_frame(grey)] * frames, [as_frame(grey + change) for change in wave]


@pytest.mark.parametrize("band", [1, 2, 4])
def test_a_flicker_is_found_at_its_frequency_with_its_closed_form(band: int) -> None:
    """A flicker a·cos(2πft) changes by 2a·sin(πf) a frame, in amplitude; half its square is energy (all at f = ½)."""
    frequency = band / 8
    found = spectrum(*flickering(17, frequency, 80), 8, still)
    energy = (2 * 80 * np.sin(np.pi * frequency)) ** 2 * (1 if band == 4 else 0.5)
    assert found[band] == pytest.approx(energy, rel=0.02)  # levels are rounded
    assert np.delete(found, band).max() < 0.001 * energy


def test_a_drift_is_band_0_and_a_copy_is_nothing() -> None:
    grey = np.full((32, 32, 3), 100.0)
    drifting = [as_frame(grey + 2 * t) for t in range(9)]
    found = spectrum([as_frame(grey)] * 9, drifting, 8, still)
    assert found == pytest.approx([4, 0, 0, 0, 0], abs=1e-6)
    clip = pan(texture(48, 64), 9, (2, 1))
    assert spectrum(clip, clip, 8, dis) == pytest.approx(np.zeros(5), abs=1e-9)


def test_all_bands_together_are_the_energy_of_what_motion_does_not_explain() -> None:
    """Parseval, with pixels out of sight: Σ_k S_k = Σ M e² / Σ M, block after block."""
    reference = pan(texture(40, 70), 11, (3, -2))
    test = noisy(reference, 5)
    found = spectrum(reference, test, 4, moving(3, -2))
    steps, blocks = Steps(moving(3, -2)), [[], []]  # type: ignore[var-annotated]
    for t, (x, y) in enumerate(zip(reference, test, strict=True)):
        step = steps.push(x, y)
        if step is not None and t <= 8:  # 10 steps are two blocks of 4, and 2 are left out
            blocks[(t - 1) // 4].append((np.square(unexplained(step)).sum(), step.visible.sum()))
    expected = np.mean([sum(e for e, _ in block) / sum(m for _, m in block) for block in blocks])
    assert found.sum() == pytest.approx(expected, rel=1e-5)
    assert int(steps._before is not None) and blocks[0][0][1] < 40 * 70  # some pixels were out of sight


def test_what_the_original_does_too_cancels() -> None:
    """e of noise that both carry is 0, though E_warp counts it."""
    clip = noisy([np.full((32, 32, 3), 100, np.uint8)] * 5, 9)
    assert e_warp(clip, clip, still) > 100
    assert spectrum(clip, clip, 4, still) == pytest.approx(np.zeros(3), abs=1e-12)
    with pytest.raises(UnavailableError, match="needs 17 frames"):
        FlickerSpectrum().value()
    with pytest.raises(ValueError, match="even"):
        FlickerSpectrum(7)
