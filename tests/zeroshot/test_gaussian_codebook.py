"""Gaussian atoms are the counter's quantiles, each alone the same, and what is chosen and added up is the published."""

import pytest
import torch

from gnvc_vd.common.noise import FIXED_POINT, philox, quantiles
from gnvc_vd.zeroshot.codebook import Choice
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.gaussian_codebook import GaussianCodebook
from gnvc_vd.zeroshot.parameters import MODES, Mode
from lab.gaussian_prior import gaussian_prior
from lab.gvc_figures import drawn_atoms
from tests.conftest import smooth_clip
from tests.zeroshot.test_codec import ends_agree, how

KEY, STREAM = (7, 0x47564304), (3, 5, 11)


def book(size: int = 256, places: int = 640, stream: tuple[int, int, int] = STREAM) -> GaussianCodebook:
    return GaussianCodebook(size, places, KEY, stream)


def test_an_atom_is_what_the_counters_words_say() -> None:
    (atom,) = book().atoms(torch.tensor([77]))
    for place in (0, 1, 9, 639):
        block, half = divmod(place, 8)
        word = int(torch.stack(philox((torch.tensor([block]), 77, 3 * 65536 + 5, 11), KEY))[half // 2])
        assert int(atom[place]) == int(quantiles()[word >> 16 if half % 2 else word & 0xFFFF])


def test_any_atom_is_the_same_alone_and_in_a_book_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = book().atoms(torch.arange(256))
    assert torch.equal(book().atoms(torch.tensor([77, 3])), whole[[77, 3]])
    assert torch.equal(book(4096, 100).atoms(torch.arange(256)), whole[:, :100])
    residual = torch.randn(640, generator=torch.Generator().manual_seed(1))
    chosen = book().select(residual, 9)
    z = book().assemble(chosen)
    monkeypatch.setattr("gnvc_vd.zeroshot.gaussian_codebook.DRAWN_AT_ONCE", 5000)  # seven at a time
    assert book().select(residual, 9) == chosen and torch.equal(book().assemble(chosen), z)


def test_atoms_are_normal_and_independent() -> None:
    drawn = book(512, 4096).atoms(torch.arange(512)).double() / FIXED_POINT
    assert abs(float(drawn.mean())) < 0.003 and float(drawn.var()) == pytest.approx(1, abs=0.005)
    assert float(drawn.pow(4).mean()) == pytest.approx(3, abs=0.05)
    beside = (drawn @ drawn.T / 64)[~torch.eye(512, dtype=torch.bool)]
    assert abs(float(beside.mean())) < 0.01 and float(beside.std()) == pytest.approx(1, abs=0.02)
    for stream in ((3, 5, 12), (3, 6, 11), (4, 5, 11)):
        other = book(64, 4096, stream).atoms(torch.arange(64)).double() / FIXED_POINT
        assert float((drawn[:64] @ other.T / 64).std()) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("count", [1, 2, 17])
def test_the_strongest_products_are_chosen_and_their_signed_sum_has_unit_deviation(count: int) -> None:
    codebook = book()
    residual = torch.randn(640, generator=torch.Generator().manual_seed(1))
    drawn = codebook.atoms(torch.arange(256)).double() / FIXED_POINT
    brute = drawn @ residual.double()
    choice = codebook.select(residual, count)
    assert set(choice.atoms) == set(brute.abs().topk(count).indices.tolist())
    assert list(choice.signs) == brute[list(choice.atoms)].sign().int().tolist()
    summed = (drawn[list(choice.atoms)] * torch.tensor(choice.signs)[:, None]).sum(0)
    z = codebook.assemble(choice)
    assert torch.allclose(z.double(), summed / summed.std(), atol=1e-6)
    assert codebook.select(torch.zeros(640), 2) == Choice((0, 1), (1, 1))


def test_their_sum_leans_as_sums_of_drawn_atoms_do() -> None:
    cosines = []
    for number in range(8):
        residual = torch.randn(2048, generator=torch.Generator().manual_seed(number))
        codebook = book(512, 2048, (number, 0, 0))
        z = codebook.assemble(codebook.select(residual, 16))
        cosines.append(float(z @ residual / (z.norm() * residual.norm())))
    assert sum(cosines) / 8 == pytest.approx(drawn_atoms(2048, 512, 16, "normal", 8), abs=0.03)  # 3 σ


@pytest.mark.parametrize("mode", MODES)
def test_both_ends_hold_the_same_latents(monkeypatch: pytest.MonkeyPatch, mode: Mode) -> None:
    ends_agree(Gvc(gaussian_prior()), monkeypatch, how(mode, gaussian=True, tail_step=64), smooth_clip(16, 32, 10))


def test_a_codebook_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        book(3)
