"""Layers, photographs and made-up pictures as clips."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gnvc_vd.data import scenery
from gnvc_vd.data.camera import Motion, path_of, warp
from gnvc_vd.data.clips import ClipSpec, Mixture
from gnvc_vd.data.photos import PhotoClips
from gnvc_vd.data.procedural import ProceduralClips, dead_leaves, edges, gratings, texture
from gnvc_vd.data.samples import Draws
from gnvc_vd.data.scenery import attach_path, blob, moving_clip
from tests.conftest import noise_clip
from tests.data.material import photo

SPEC = ClipSpec(frames=5, height=32, width=48)


def flat(level: int) -> Tensor:
    return torch.full((3, 120, 160), level, dtype=torch.uint8)


def test_the_nearer_layer_hides_the_other_and_moves_with_its_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flat layers of 40 and 200: the clip is the mask. It moves 3 pixels a frame to the left, and nothing else does."""
    monkeypatch.setattr(scenery, "TWO_LAYERS", 1.0)
    monkeypatch.setattr(scenery, "GRAINY", 0.0)
    monkeypatch.setattr(scenery, "NEARER", (3.0, 3.0))
    monkeypatch.setattr(scenery, "draw_motion", lambda *_: Motion(right=1.0))
    monkeypatch.setattr(scenery, "draw_shrink", lambda *_: 1.0)
    spec = ClipSpec(5, 32, 48, flip=False)
    covered = []
    for number in range(12):
        draws = Draws(0, number)
        clip = moving_clip(draws, flat(40), flat(200), spec).int()
        covered.append(float((clip == 200).float().mean()))
        assert clip.min() >= 40 and clip.max() <= 200
        if not turned(0, number):
            for t in range(4):
                assert (clip[:, t + 1, :, :-3] - clip[:, t, :, 3:]).abs().max() <= 1
    assert 0.1 < np.mean(covered) < 0.6


def turned(seed: int, number: int) -> bool:
    """Whether `moving` gave this sample an angle (its first draw, where motion is given)."""
    return Draws(seed, number).chance(0.5)


def test_the_far_layer_keeps_its_own_slower_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise behind, flat in front: what is not covered moves by 1 pixel a frame, exactly."""
    monkeypatch.setattr(scenery, "TWO_LAYERS", 1.0)
    monkeypatch.setattr(scenery, "GRAINY", 0.0)
    monkeypatch.setattr(scenery, "draw_motion", lambda *_: Motion(right=1.0))
    monkeypatch.setattr(scenery, "draw_shrink", lambda *_: 1.0)
    spec = ClipSpec(5, 32, 48, flip=False)
    behind = torch.from_numpy(noise_clip(120, 160, 1)[0] // 2).permute(2, 0, 1).contiguous()
    checked = 0
    for number in (n for n in range(20) if not turned(0, n)):
        clip = moving_clip(Draws(0, number), behind, flat(255), spec).int()
        first, second = clip[:, 0, :, 1:], clip[:, 1, :, :-1]
        both = (first < 128).all(0) & (second < 128).all(0)
        same = ((first - second).abs().amax(0) <= 3) | ~both
        checked += int(both.sum())
        assert same.float().mean() > 0.93  # the mask's soft edge moves on
    assert checked > 3000


def test_masks_have_the_share_and_the_edge_they_should() -> None:
    shares = []
    for number in range(30):
        mask = blob(Draws(3, number), 32, 48)
        assert mask.shape == (1, 64, 96) and mask.min() == 0 and mask.max() == 1
        soft = ((mask > 0.02) & (mask < 0.98)).float().mean()
        assert soft < 0.12
        shares.append(float(mask.mean()))
    assert min(shares) > 0.08 and max(shares) < 0.68 and max(shares) - min(shares) > 0.25


def test_a_glued_mask_lies_on_the_middle_frame() -> None:
    path = path_of(Motion(2, 1, 0.05, 0.02), 5, 3.0, 0.4)
    mask = blob(Draws(0, 0), 32, 48)
    seen = warp(mask, attach_path(path, 32, 48), 32, 48)
    assert torch.allclose(seen[:, 2], mask[:, 16:48, 24:72], atol=1e-3)


def test_photographs_become_clips_the_same_in_any_process(tmp_path: Path) -> None:
    for k in range(3):
        photo(tmp_path / "inner" / f"{k}.png", 120 + 10 * k, 160, seed=k)
    alone = torch.stack([PhotoClips(tmp_path, SPEC)[number] for number in range(8)])
    assert alone.shape == (8, 3, 5, 32, 48) and alone.dtype == torch.uint8
    assert len({clip.numpy().tobytes() for clip in alone}) == 8
    shared = PhotoClips(tmp_path, SPEC)
    assert torch.equal(torch.cat(list(DataLoader(shared, 4, sampler=range(8), num_workers=2))), alone)


def test_memory_is_bounded_and_changes_nothing(tmp_path: Path) -> None:
    for k in range(4):
        photo(tmp_path / f"{k}.png", 100, 100, seed=k)
    bounded = PhotoClips(tmp_path, SPEC, memory=70_000)  # two photographs of 30 kB
    free = PhotoClips(tmp_path, SPEC)
    assert all(torch.equal(bounded[number], free[number]) for number in range(6))
    assert len(bounded._kept) == 2 and len(free._kept) == 4


def test_large_photographs_are_shrunk_when_they_are_read(tmp_path: Path) -> None:
    photo(tmp_path / "large.png", 300, 600)
    clips = PhotoClips(tmp_path, SPEC, longest_side=150)
    clips[0]
    assert clips._kept[0].shape == (3, 75, 150)


def test_bad_photographs_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "tiny.png", 32, 48)
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    with caplog.at_level(logging.WARNING):
        clips = PhotoClips(tmp_path, SPEC)
        shown = [clips[number] for number in range(9)]
        again = [PhotoClips(tmp_path, SPEC)[number] for number in reversed(range(9))][::-1]
    assert all(torch.equal(one, other) for one, other in zip(shown, again, strict=True))
    assert clips.skipped == {"tiny.png": "is too short or too small", "torn.jpg": "cannot be read"}


@pytest.mark.parametrize("make", [texture, dead_leaves, gratings, edges])
def test_made_up_pictures_are_many_and_not_flat(make) -> None:  # type: ignore[no-untyped-def]
    pictures = [make(Draws(0, number), 56, 72) for number in range(6)]
    assert len({one.numpy().tobytes() for one in pictures}) == 6
    for one in pictures:
        assert one.shape == (3, 56, 72) and one.dtype == torch.uint8 and one.float().std() > 5
    again = make(Draws(0, 2), 56, 72)
    assert torch.equal(again, pictures[2])


def test_textures_have_falling_spectra() -> None:
    """Most of the power lies in the lowest quarter of the frequencies, where white noise has a sixteenth of it."""
    for number in range(4):
        grey = texture(Draws(1, number), 64, 64).float().mean(0)
        power = torch.fft.rfft2(grey - grey.mean()).abs().square()
        low = power[:9, :9].sum() + power[-8:, :9].sum()
        assert low / power.sum() > 0.4


def test_dead_leaves_are_discs_of_one_colour() -> None:
    picture = dead_leaves(Draws(0, 0), 96, 96).int()
    same = (picture[:, :, 1:] == picture[:, :, :-1]).all(0).float().mean()
    assert 0.6 < same < 0.95
    assert len(torch.unique(picture.flatten(1), dim=1).T) > 50


def test_procedural_clips_never_end_and_never_repeat() -> None:
    clips = ProceduralClips(SPEC)
    numbers = [0, 1, 2, 3, 1 << 40]
    shown = [clips[number] for number in numbers]
    assert len({clip.numpy().tobytes() for clip in shown}) == 5 and shown[0].shape == (3, 5, 32, 48)
    loader = DataLoader(clips, 1, sampler=numbers, num_workers=2)
    assert all(torch.equal(one[0], two) for one, two in zip(loader, shown, strict=True))
    assert clips.skipped == {}
    with pytest.raises(IndexError):
        clips[-1]


def test_some_clips_have_noise_that_is_new_in_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenery, "TWO_LAYERS", 0.0)
    for share, low, high in ((0.0, 0.0, 0.01), (1.0, 0.3, scenery.STRONGEST_GRAIN * 2)):
        monkeypatch.setattr(scenery, "GRAINY", share)
        for number in range(5):
            clip = moving_clip(Draws(0, number), flat(120), flat(120), SPEC).float()
            assert low <= clip.diff(dim=1).abs().mean() <= high


def test_sources_mix(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    photos, made_up = PhotoClips(tmp_path, SPEC), ProceduralClips(SPEC)
    mixture = Mixture([(photos, 0.8), (made_up, 0.2)])
    for number in range(12):
        part, own = mixture.source_of(number)
        assert torch.equal(mixture[number], (photos, made_up)[part][own])
