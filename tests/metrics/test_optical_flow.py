"""Flow on known motion, warping against its closed form, occlusion against the true one."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.optical_flow import dis, raft, visible, warp
from tests.metrics.clips import as_frame, pan, texture


def uniform(height: int, width: int, x: float, y: float) -> NDArray[np.float32]:
    return np.broadcast_to(np.array([x, y], np.float32), (height, width, 2)).copy()


def test_dis_finds_a_known_shift_in_pixels_of_x_and_y() -> None:
    first, second = pan(texture(96, 128), 2, (3, -2))
    flow = dis(first, second)
    assert flow.shape == (96, 128, 2)
    inner = flow[16:-16, 16:-16]
    assert np.abs(inner - (3, -2)).mean() < 0.1


def test_dis_does_not_depend_on_the_threads_and_leaves_them_alone() -> None:
    first, second = pan(texture(96, 128, seed=3), 2, (5, 3))
    threads = cv2.getNumThreads()
    try:
        flows = []
        for count in (1, 2, 4):
            cv2.setNumThreads(count)
            flows.append(dis(first, second))
            assert cv2.getNumThreads() == count
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(flow, flows[0]) for flow in flows)


def test_small_pictures_are_refused_and_the_smallest_works() -> None:
    frame = as_frame(texture(32, 32))
    assert np.abs(dis(frame, frame)).max() < 0.05
    with pytest.raises(UnavailableError, match="at least 32 pixels each way, not 32×31"):
        dis(frame[:31], frame[:31])


def test_warping_reads_at_p_plus_flow() -> None:
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 9, 11)))
    whole = warp(z, uniform(9, 11, 2, -1))
    torch.testing.assert_close(whole[:, :, 1:, :-2], z[:, :, :-1, 2:])
    torch.testing.assert_close(whole[:, :, 1:, -1], z[:, :, :-1, -1])  # outside, the edge goes on
    half = warp(z, uniform(9, 11, 0.25, 0.5))
    a, b, c, d = z[..., :-1, :-1], z[..., :-1, 1:], z[..., 1:, :-1], z[..., 1:, 1:]
    torch.testing.assert_close(half[..., :-1, :-1], 0.5 * (0.75 * a + 0.25 * b) + 0.5 * (0.75 * c + 0.25 * d))


def test_what_leaves_the_picture_is_not_visible() -> None:
    seen = visible(uniform(20, 30, 4, -3), uniform(20, 30, -4, 3))
    expected = np.zeros((20, 30), bool)
    expected[3:, :-4] = True
    assert np.array_equal(seen, expected)


def test_what_a_moving_square_covers_is_not_visible() -> None:
    """A square over a still background moves 6 to the right: the 6 columns in front of it are covered."""
    forward, backward = uniform(40, 60, 0, 0), uniform(40, 60, 0, 0)
    forward[10:30, 20:36], backward[10:30, 26:42] = (6, 0), (-6, 0)
    expected = np.ones((40, 60), bool)
    expected[10:30, 36:42] = False
    assert np.array_equal(visible(forward, backward), expected)


def test_the_threshold_is_the_one_that_is_written_down() -> None:
    """|F + B|² ≤ 0.01 (|F|² + |B|²) + 0.5, either side of equality."""
    for excess, seen in ((0.98, True), (1.02, False)):
        miss = 0.7455 * excess  # the root of 0.99 m² + 0.04 m = 0.58, which is equality for |F| = 2
        forward, backward = uniform(9, 9, 2, 0), uniform(9, 9, -2 + miss, 0)
        allowed = 0.01 * (4 + (2 - miss) ** 2) + 0.5
        assert (miss**2 <= allowed) is seen
        assert bool(visible(forward, backward)[4, 4]) is seen


def test_raft_is_torchvisions_on_the_users_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    network = raft_large(weights=None).eval()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / "part")
    name = f"raft_large-{hashlib.sha256((folder / 'part').read_bytes()).hexdigest()[:8]}.pth"
    (folder / "part").rename(folder / name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("gnvc_vd.metrics.optical_flow.RAFT_LARGE", name)
    first, second = pan(texture(128, 132), 2, (3, 1))
    found = raft()(first, second)
    padded = [np.pad(frame, ((0, 0), (0, 4), (0, 0)), mode="edge") for frame in (first, second)]
    both = [torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1 for frame in padded]
    with torch.inference_mode():
        expected = network(*both)[-1][0, :, :, :132].permute(1, 2, 0).numpy()
    assert found.shape == (128, 132, 2) and np.abs(expected).max() > 0.01
    assert found == pytest.approx(expected, abs=1e-4)
    with pytest.raises(UnavailableError, match="at least 128 pixels"):
        raft()(first[:100], second[:100])


def test_raft_without_weights_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"raft_large_C_T_SKHT_V2-ff5fadd5\.pth"):
        raft()
