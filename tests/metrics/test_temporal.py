"""E_warp on motion and occlusion that are known."""

import numpy as np
import pytest

from gnvc_vd.conventions import Frame
from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.temporal import Step, Steps, warping_error
from tests.metrics.clips import as_frame, e_warp, moving, pan, still, texture


def test_e_warp_of_still_pictures_is_their_mean_squared_change() -> None:
    grey = np.full((32, 40, 3), 100, np.uint8)
    clip = [grey, grey + 3, grey + 3, grey - 1]
    assert e_warp([grey] * 4, clip, still) == pytest.approx((9 + 0 + 16) / 3)  # levels squared, mean over steps
    red = grey.copy()
    red[..., 0] += 6
    assert e_warp([grey] * 2, [grey, red], still) == pytest.approx(36 / 3)  # and over channels


def test_a_pan_with_its_true_flow_has_no_error_and_with_dis_almost_none() -> None:
    clip = pan(texture(96, 128), 4, (3, -2))
    assert e_warp(clip, clip, moving(3, -2)) == pytest.approx(0, abs=1e-18)
    assert e_warp(clip, clip, moving(3, 2)) > 100
    unmoved = float(np.square(clip[1].astype(float) - clip[0]).mean())
    assert e_warp(clip, clip) < 0.01 * unmoved  # DIS, the wrapped edge and all: 100 times less than without motion


def test_occlusion_is_masked() -> None:
    """A square passes over a still texture: what it covers and leaves would count hundreds of levels squared."""
    background, square = as_frame(texture(64, 96)), as_frame(texture(20, 16, seed=5))
    clip = []
    for t in range(2):
        clip.append(background.copy())
        clip[-1][20:40, 30 + 8 * t : 46 + 8 * t] = square

    def estimate(first: Frame, second: Frame) -> np.ndarray:
        start, step = (30, 8) if first is clip[0] else (38, -8)
        flow = still(first, second)
        flow[20:40, start : start + 16, 0] = step
        return flow

    steps = Steps(estimate)
    steps.push(clip[0], clip[0])
    step = steps.push(clip[1], clip[1])
    assert step is not None and warping_error(step) == pytest.approx(0, abs=1e-18)
    assert int((~step.visible).sum()) == 20 * 8
    seen = Step(step.reference, step.test, step.flow, np.ones_like(step.visible))
    assert (warping_error(seen) or 0) > 20


def test_a_step_that_shows_nothing_of_the_same_does_not_count() -> None:
    grey = np.full((32, 32, 3), 100, np.uint8)
    step = Step((grey, grey), (grey, grey + 5), still(grey, grey), np.zeros((32, 32), bool))
    assert warping_error(step) is None
    with pytest.raises(UnavailableError, match="two frames"):
        e_warp([grey], [grey])
    with pytest.raises(UnavailableError, match="two frames in which part of the picture stays visible"):
        e_warp([grey] * 3, [grey] * 3, moving(40, 0))
