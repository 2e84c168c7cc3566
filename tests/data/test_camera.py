"""What a moving camera sees, checked against closed forms; and the motion it says there is."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from gnvc_vd.data.camera import (
    LARGEST_SHRINK,
    Motion,
    draw_motion,
    draw_shrink,
    path_of,
    place_path,
    warp,
)
from gnvc_vd.data.samples import Draws
from tests.conftest import noise_clip, smooth_clip

H, W = 12, 20


def picture(kind: str, height: int = 64, width: int = 80, seed: int = 0) -> Tensor:
    made = noise_clip if kind == "noise" else smooth_clip
    return torch.from_numpy(made(height, width, 1, seed)[0]).permute(2, 0, 1).contiguous()


def flow(path: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel of a frame has gone in the next: T−1 2 h w, (x, y) in pixels."""
    maps = torch.cat([path, torch.tensor([[[0.0, 0, 1]]], dtype=path.dtype).expand(len(path), 1, 3)], 1)
    step = (torch.linalg.inv(maps[1:]) @ maps[:-1])[:, :2]
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)]).double()
    return (torch.einsum("tij,jhw->tihw", step, places) - places[:2]).float()


def at(path: Tensor, x: float, y: float) -> Tensor:
    """The path with its origin at a place of the picture."""
    path = path.clone()
    path[..., 2] += torch.tensor([x, y], dtype=path.dtype)
    return path


@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, 1), (2, -3), (-4, 1), (0, 0)])
def test_a_pan_by_whole_pixels_shows_exactly_those_pixels(right: int, down: int) -> None:
    """Of white noise, where the least interpolation would show; frame t begins `right`·t further."""
    noise = picture("noise")
    path = at(path_of(Motion(right, down), 5), 39.5, 31.5)
    seen = warp(noise, path, H, W)
    for t in range(5):
        left, top = 30 + right * (t - 2), 26 + down * (t - 2)
        wanted = noise[:, top : top + H, left : left + W].float()
        assert (seen[:, t] - wanted).abs().max() < 0.02
        assert torch.equal(seen[:, t].round(), wanted)


def test_a_pan_between_pixels_is_interpolated() -> None:
    waves = picture("smooth")
    path = at(path_of(Motion(0.5, 0.25), 3), 39.5, 31.5)
    seen = warp(waves, path, H, W)[:, 2]
    x, y = np.meshgrid(np.arange(W) + 30.5, np.arange(H) + 26.25)
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, 3)
    for c in range(3):
        exact = 128 + 45 * (np.sin(x / 17 + phase[c]) + np.cos(y / 13 + phase[c]))
        assert np.abs(seen[c].numpy() - exact).max() < 1.0  # the picture itself is rounded


def test_zoom_and_turn_are_about_the_middle() -> None:
    motion = Motion(turn=0.1, zoom=0.05)
    path = path_of(motion, 5, shrink=2.0, angle=0.3)
    for t in range(5):
        scale, angle = 2 * math.exp(0.05 * (t - 2)), 0.3 + 0.1 * (t - 2)
        wanted = scale * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        assert torch.allclose(path[t, :, :2].float(), wanted, atol=1e-6)
        assert path[t, :, 2].abs().max() < 1e-9


def test_pan_is_counted_in_the_frames_own_pixels() -> None:
    """Shrunk by 2 and turned a quarter, 1 pixel to the right in the frame is 2 pixels down in the picture."""
    path = path_of(Motion(right=1), 3, shrink=2.0, angle=math.pi / 2)
    assert torch.allclose(path[:, :, 2], torch.tensor([[0.0, -2.0], [0, 0], [0, 2]], dtype=torch.float64), atol=1e-9)


def test_shake_is_a_small_smooth_swing() -> None:
    path = path_of(Motion(shake=2.0, wave=0.5, phase=0.3), 33)
    assert path[..., 2].abs().max() <= 2.0 and path[..., 2].abs().max() > 1.5
    assert path[..., 2].diff(dim=0).abs().max() < 2.0 * 0.5 * 1.3 + 1e-6


def test_what_shrinks_does_not_alias() -> None:
    """A checkerboard seen from four times as far is grey; without the filter it is black and white."""
    board = (torch.arange(96)[:, None] + torch.arange(96)) % 2 * 255
    path = at(path_of(Motion(0.3, 0.2), 3, shrink=4.0), 47.5, 47.5)
    seen = warp(board[None].to(torch.uint8), path, H, W)
    assert (seen - 127.5).abs().max() < 8
    waves = picture("smooth", 128, 160)
    path = at(path_of(Motion(), 1, shrink=4.0), 79.5, 63.5)
    means = waves.float().view(3, 32, 4, 40, 4).mean((2, 4))[:, 10:22, 10:30]
    assert (warp(waves, path, H, W)[:, 0] - means).abs().max() < 1.5


@pytest.mark.parametrize("motion", [Motion(2, -1), Motion(0.5, 0.3, turn=0.02, zoom=0.01, shake=1, wave=0.4)])
def test_flow_leads_from_each_frame_to_the_next(motion: Motion) -> None:
    waves = picture("smooth", 128, 160)
    path = at(path_of(motion, 5, 1.3, 0.2), 80, 64)
    seen, moved = warp(waves, path, 32, 48), flow(path, 32, 48)
    assert moved.shape == (4, 2, 32, 48)
    if motion.turn == 0:
        assert torch.allclose(moved[:, 0], torch.tensor(-2.0), atol=1e-5)
        assert torch.allclose(moved[:, 1], torch.tensor(1.0), atol=1e-5)
    y, x = torch.meshgrid(torch.arange(32), torch.arange(48), indexing="ij")
    for t in range(4):
        there = torch.stack([(x + moved[t, 0]) * 2 / 47 - 1, (y + moved[t, 1]) * 2 / 31 - 1], -1)
        fetched = grid_sample(seen[:, t + 1][None], there[None], align_corners=True)[0]
        assert (fetched - seen[:, t])[:, 5:-5, 5:-5].abs().max() < 1.5


def test_paths_stay_in_the_picture_and_reach_all_of_it() -> None:
    corners = torch.tensor([[-9.5, -5.5], [9.5, 5.5], [-9.5, 5.5], [9.5, -5.5]], dtype=torch.float64)
    low, high = torch.full((2,), math.inf), torch.full((2,), -math.inf)
    for number in range(200):
        draws = Draws(0, number)
        motion = draw_motion(draws, H, W)
        path = place_path(path_of(motion, 9, draw_shrink(draws, H, W, (64, 80)), 0.1), draws, H, W, (64, 80))
        seen = torch.einsum("tij,cj->tci", path[..., :2], corners) + path[:, None, :, 2]
        assert seen.min() > -1e-9 and seen[..., 0].max() <= 79 + 1e-9 and seen[..., 1].max() <= 63 + 1e-9
        low, high = torch.minimum(low, seen.amin((0, 1))), torch.maximum(high, seen.amax((0, 1)))
    assert low.max() < 1 and high[0] > 78 and high[1] > 62


def test_a_path_too_wide_for_its_picture_is_made_smaller() -> None:
    path = place_path(path_of(Motion(right=10), 9), Draws(0, 0), H, W, (64, 50))
    assert math.isclose(float(path[0, 0, 0]), 49 / (80 + W - 1), rel_tol=1e-9)
    assert math.isclose(float(path[8, 0, 2] - path[0, 0, 2]), 80 * 49 / (80 + W - 1), rel_tol=1e-9)


def test_drawn_motions_have_still_ones_slow_ones_and_fast_ones() -> None:
    motions = [draw_motion(Draws(1, number), 100, 200) for number in range(300)]
    speeds = np.array([math.hypot(motion.right, motion.down) for motion in motions])
    assert 10 <= (speeds == 0).sum() <= 60 and speeds.max() <= 4 and speeds.max() > 3 and np.median(speeds) < 1.5
    shrinks = [draw_shrink(Draws(2, number), 10, 10, (400, 4000)) for number in range(100)]
    assert min(shrinks) >= 1 and max(shrinks) <= LARGEST_SHRINK and max(shrinks) > 6
    assert draw_shrink(Draws(2, 0), 10, 10, (11, 11)) == 1
