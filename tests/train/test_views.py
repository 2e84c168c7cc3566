"""Views of clips are what flips, transposes and slices would make of them, and each is drawn in time."""

import pytest
import torch

from gnvc_vd.metrics.perceptual import st_lpips
from gnvc_vd.train.plan import BatchDraws
from gnvc_vd.train.views import View, draw_frames, frames_at, halve

CPU = torch.device("cpu")


def draws(count: int) -> BatchDraws:
    return BatchDraws(0, range(count), CPU)


def test_a_view_is_a_corner_mirrored_and_turned() -> None:
    count, clips = 40, torch.arange(40 * 2.0 * 19 * 17).view(40, 1, 2, 19, 17)
    found, drawn = View(clips, draws(count)).of(clips), draws(count).uniform(5).tolist()
    for clip, view, (top, left, *changes) in zip(clips, found, drawn, strict=True):
        mirrored, upside_down, turned = (one < 0.5 for one in changes)
        row, column = int(10 * top), int(8 * left)
        wanted = clip[..., row : row + 10, column : column + 10]
        wanted = wanted.flip(-1) if mirrored else wanted
        wanted = wanted.flip(-2) if upside_down else wanted
        assert torch.equal(view, wanted.transpose(-1, -2) if turned else wanted)


def test_every_corner_is_seen_in_every_symmetry_in_time() -> None:
    count = 8000
    clips = torch.arange(16 * 16.0).view(1, 1, 1, 16, 16).expand(count, -1, -1, -1, -1)
    found = View(clips, draws(count)).of(clips)[:, 0, 0]
    corners = torch.stack([found[:, 0, 0], found[:, 0, -1], found[:, -1, 0]], dim=1)
    assert len(corners.unique(dim=0)) == 64 * 8


def test_gradients_reach_what_is_seen_and_nothing_else() -> None:
    clips = torch.zeros(3, 2, 4, 16, 16, requires_grad=True)
    view, frames = View(clips, draws(3)), draw_frames(clips, 2, draws(3))
    view.of(frames_at(clips, frames)).sum().backward()
    assert clips.grad is not None and set(clips.grad.unique().tolist()) == {0.0, 1.0}
    assert clips.grad.sum() == 3 * 2 * 2 * 9 * 9


def test_frames_are_drawn_alike_often_in_order_and_once() -> None:
    found = draw_frames(torch.zeros(2000, 1, 9, 1, 1), 3, draws(2000))
    assert (found.diff(dim=1) > 0).all()
    shares = found.flatten().bincount(minlength=9) / 2000
    assert shares.tolist() == pytest.approx([1 / 3] * 9, abs=0.05)


def test_half_the_size_is_the_mean_of_four_and_a_small_clip_one_that_a_network_can_see() -> None:
    clip = torch.rand(1, 3, 2, 51, 53)
    assert torch.allclose(halve(clip)[0, 0, 1, 3, 4], clip[0, 0, 1, 6:8, 8:10].mean())
    small = torch.rand(2, 3, 1, 32, 32)
    seen = View(small, draws(2)).of(small)
    assert halve(seen) is seen and st_lpips("alex")(seen, seen).abs().max() < 1e-6
