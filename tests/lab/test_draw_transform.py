"""What the picture of the transform shows is what the transform does."""

from pathlib import Path

import pytest
import torch

from lab.draw_transform import draw, mosaic, transform_steps


def latents(clips: int = 2, count: int = 7) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    channels = torch.tensor([*[1.0] * 8, *[2.0] * 7, 8.0])[:, None, None, None]
    return channels * torch.randn(clips, 16, count, 4, 6, generator=random) + 0.5


def test_energies_are_shares_of_the_first_clips_and_none_is_lost() -> None:
    clips = latents()
    found = transform_steps(clips)
    centred = clips[0] - clips.mean((0, 2, 3, 4))[:, None, None, None]
    assert found.slices.square().sum() == pytest.approx(float(centred.square().sum()), rel=1e-4)
    assert torch.allclose(found.latents, centred[15], atol=1e-5)  # the channel of the largest deviation
    assert found.frequencies.square().sum() == pytest.approx(float(found.latents.square().sum()), rel=1e-4)
    for energies in (found.latent_energies, found.slice_energies):
        assert energies.shape == (7,) and float(energies.sum()) == pytest.approx(1, rel=1e-4)


def test_of_what_stands_still_the_first_slice_has_everything() -> None:
    found = transform_steps(latents()[:, :, :1].expand(-1, -1, 7, -1, -1).contiguous())
    assert found.latent_energies.tolist() == pytest.approx([1 / 7] * 7, rel=1e-4)
    assert found.slice_energies.tolist() == pytest.approx([1] + [0] * 6, abs=1e-6)


def test_a_mosaic_has_the_components_row_by_row() -> None:
    picture = mosaic(torch.arange(64.0)[:, None, None].expand(-1, 2, 3))
    assert picture.shape == (16, 24)
    assert picture[::2, ::3].flatten().tolist() == list(range(64)) and picture[1, 2] == 0 and picture[3, 5] == 9


def test_it_is_drawn(tmp_path: Path) -> None:
    draw(torch.zeros(3, 25, 32, 48, dtype=torch.uint8), transform_steps(latents()), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
