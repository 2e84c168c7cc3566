"""The study of colours: what a layer takes away and costs, on errors that are known."""

from pathlib import Path

import pytest
import torch

import gnvc_vd
from lab import study_colours
from lab.study_colours import OPPONENTS, binary_entropy, code_length, colour_error, layer_of, psnr

CITY, BUNNY = (str(Path(gnvc_vd.__file__).parent / "assets" / "clips" / f"{name}.mp4") for name in ("city", "bunny"))


def test_brightness_has_no_colour_and_psnr_is_of_red_green_and_blue() -> None:
    grey = torch.einsum("oc,cthw->othw", OPPONENTS, torch.full((3, 1, 8, 8), 17.0))
    assert grey[:, 0, 0, 0].tolist() == pytest.approx([17, 0, 0], abs=1e-5)
    assert psnr(grey) == pytest.approx(23.5213, abs=1e-3)  # 20 log10(255 / 17)


def test_an_error_of_colours_is_that_of_means_of_squares() -> None:
    error = torch.zeros(3, 2, 16, 16)
    error[1, :, :8] = 4.0
    checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2
    error[2] = 9.0 - 18.0 * checks
    assert colour_error(error, 8) == pytest.approx(2.0)  # half of Cb is off by 4, of Cr no mean is
    assert colour_error(error, 16) == pytest.approx(2**0.5)


def test_a_layer_takes_away_a_tint_for_one_number_and_leaves_details() -> None:
    details = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    details -= (
        details.unflatten(0, (2, 32))
        .unflatten(2, (2, 32))
        .mean((1, 3))
        .repeat_interleave(32, 0)
        .repeat_interleave(32, 1)
    )
    error = torch.zeros(3, 5, 64, 64)
    error[1] = 3.0 + details
    layer = layer_of(error, 32, 1, step=6.0)  # four cells of 3: their lowest wave is 6
    assert torch.allclose(layer.error[1], details.expand(5, -1, -1), atol=1e-4)
    assert 1 < layer.bytes < 4
    assert torch.equal(layer_of(error, 32, 1, step=100.0).error, error)


def test_spans_follow_what_changes() -> None:
    error = torch.zeros(3, 8, 32, 32)
    error[2, :4], error[2, 4:] = 5.0, -5.0
    assert layer_of(error, 32, 2, step=0.01).error.abs().max() < 0.01
    assert torch.equal(layer_of(error, 32, 1, step=0.01).error, error)


def test_brightness_is_left_unless_asked_for() -> None:
    error = torch.full((3, 1, 32, 32), 4.0)
    assert layer_of(error, 32, 1, 4.0).error[0].eq(4).all()
    assert layer_of(error, 32, 1, 4.0, brightness=True).error.abs().max() < 1e-5


def test_a_codes_length_is_the_entropy_of_its_distribution() -> None:
    torch.manual_seed(0)
    sizes = torch.distributions.Geometric(0.4).sample((12_000,)) + 1
    symbols = torch.cat([torch.zeros(28_000), sizes * (2 * torch.randint(0, 2, (12_000,)) - 1)])
    expected = 40_000 * (binary_entropy(0.7) + 0.3 * (1 + binary_entropy(0.4) / 0.4))
    assert code_length(symbols) == pytest.approx(expected, rel=0.01)
    assert code_length(torch.zeros(100)) == 8


def test_the_study_prints_a_row_for_each_step_and_refuses_what_does_not_fit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert study_colours.main([CITY, BUNNY, "--cell", "20", "--steps", "4", "9e9"]) == 0
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines() if "|" in line
    ]
    *_, (_, none, nothing, *before), (_, four, some, *after), (_, most, parameters, *far) = rows
    assert (none, four, most, nothing) == ("none", "4", "9e+09", "0") and far == before
    assert float(after[0]) > float(before[0]) + 0.5 and float(after[2]) < 4 < float(before[2])
    assert float(some) > 50 > float(parameters)
    for unfit in ([CITY, BUNNY], [CITY, str(tmp_path / "none.mkv")]):
        assert study_colours.main(unfit) == 1
        assert capsys.readouterr().err.count("study_colours: ") == 1
