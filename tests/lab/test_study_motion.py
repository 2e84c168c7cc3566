"""The study of motion: bases and canvases that lose nothing, choices that cost what they say, and its table."""

from pathlib import Path

import pytest
import torch

import gnvc_vd
from gnvc_vd.codecs.load import save
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.latents import LatentIndex, encoder_identity, precompute
from gnvc_vd.data.procedural import ProceduralClips
from gnvc_vd.metrics.block_transform import dct
from lab import study_motion
from lab.motion_proxy import choice_bits, choose_basis, follow_motion, lowest, split_basis, whole
from tests.learned.bottleneck.models import nano_codec

VIDEO = str(Path(gnvc_vd.__file__).parent / "assets" / "clips" / "city.mp4")


def test_a_split_basis_is_orthonormal_and_says_in_its_second_row_which_part_is_brighter() -> None:
    for first, second in ((3, 4), (4, 3), (1, 6)):
        basis = split_basis(first, second)
        assert torch.allclose(basis @ basis.T, torch.eye(7, dtype=torch.float64), atol=1e-12)
        step = torch.cat([torch.ones(first), torch.zeros(second)]).double()
        assert (basis @ step)[2:].abs().max() < 1e-12


def test_places_choose_the_split_that_makes_them_cheap() -> None:
    blocks = torch.zeros(1, 7, 64, 2, 4)
    blocks[:, 3:, :, :, 2:] = 3.0  # the right half jumps after three latents
    (part,) = choose_basis(blocks, 1.0, [dct(7), split_basis(3, 4)], group=2)
    assert part.basis[0].tolist() == [[0, 0, 1, 1]] * 2
    assert part.values[0, 2:, :, :, 2:].abs().max() < 1e-4
    assert part.values.square().sum().item() == pytest.approx(blocks.square().sum().item(), rel=1e-5)


def test_a_choice_that_never_varies_costs_little_and_one_of_chance_a_bit() -> None:
    chance = torch.randint(2, (1, 40, 40), generator=torch.Generator().manual_seed(0))
    assert choice_bits(torch.zeros_like(chance), 2).item() < 10
    assert choice_bits(chance, 2).item() == pytest.approx(1600, rel=0.03)


def test_followed_motion_leaves_the_lowest_slice_alone() -> None:
    wide = 3 * torch.randn(16, 12, 26, generator=torch.Generator().manual_seed(0))
    latents = torch.stack([wide[:, :, 6 - t : 22 - t] for t in range(7)])[None]
    blocks = torch.nn.functional.pixel_unshuffle(latents, 2)
    (still,), (moved,) = whole(blocks, 1.0, dct(7)), follow_motion(blocks, 1.0, torch.eye(64), group=2)
    inside = (slice(None), slice(1, None), slice(None), slice(None), slice(4, 5))
    assert moved.values[inside].abs().max() < 1e-4 < 1 < still.values[inside].abs().max()


def test_haar_of_an_even_slice_is_in_its_first_quarter() -> None:
    (turned,) = lowest(torch.ones(1, 7, 64, 4, 4), 1.0, levels=2)
    assert turned.values.shape == (1, 4, 64, 2, 2) and turned.values[:, 1:].abs().max() < 1e-5
    assert torch.allclose(turned.values[:, 0], torch.tensor(2 * 7**0.5))


def test_it_prints_both_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_motion, "QUALITIES", (0, 63))
    codec = nano_codec("transform")
    save(codec, tmp_path / "model", "study")
    vae, spec = codec.backbone.vae, ClipSpec(frames=25, height=32, width=32)
    index = LatentIndex(encoder_identity(vae), spec, "made up", count=3, half=True, shard=3)
    precompute(ProceduralClips(spec), vae, tmp_path / "latents", index)
    common = [str(tmp_path / "model"), VIDEO, "--latents", str(tmp_path / "latents")]
    assert study_motion.main([*common, "--size", "64x64", "--steps", "2", "--only", "Haar"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    named = [line.split(" | ")[0][2:] for line in rows]
    assert named[-3:] == [study_motion.ROTATION, study_motion.LOWEST, "the lowest slice, Haar of 2×2"]
    assert named.count("city 64×64") == named.count("city 64×64, canvas") == len(study_motion.QUALITIES)
