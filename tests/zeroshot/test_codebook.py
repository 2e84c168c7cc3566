"""Atoms are ±1, independent, addressable alone; the search is the brute one's, and exact."""

import math
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from gnvc_vd.common.noise import philox
from gnvc_vd.zeroshot.codebook import Choice, Codebook, hadamard

KEY, STREAM = (7, 0x47564300), (3, 5, 11)


def book(size: int = 256, places: int = 640, stream: tuple[int, int, int] = STREAM) -> Codebook:
    return Codebook(size, places, KEY, stream)


def atoms(codebook: Codebook, numbers: Iterable[int]) -> Tensor:
    """Each alone: M D, ±1."""
    return torch.stack([codebook.assemble(Choice((number,), (1,))) for number in numbers]).int()


def everything(codebook: Codebook) -> Tensor:
    return atoms(codebook, range(codebook.size))


def test_an_atom_is_what_the_counters_words_say() -> None:
    (atom,) = atoms(book(), [0b1011_0101])
    for place in (0, 1, 255, 639):
        word = int(torch.stack(philox((torch.tensor([place // 4]), *STREAM), KEY))[place % 4])
        parity = bin(0b1011_0101 & word).count("1") + (word >> 31)
        assert int(atom[place]) == (-1) ** parity


def test_any_atom_is_addressable_alone_and_the_same_in_a_book_of_any_size() -> None:
    whole = everything(book())
    assert set(whole.unique().tolist()) == {-1, 1}
    assert torch.equal(atoms(book(), [77, 3]), whole[[77, 3]])
    assert torch.equal(everything(book(1 << 12))[:256], whole)
    assert torch.equal(everything(book(places=100)), whole[:, :100])


def test_atoms_are_as_independent_as_drawn_ones() -> None:
    drawn = everything(book(512, 4096)).double()
    products = drawn @ drawn.T / 64
    beside = products[~torch.eye(512, dtype=torch.bool)]
    assert abs(float(beside.mean())) < 0.15 and abs(float(beside.std()) - 1) < 0.1  # 511 distinct: one for each a ^ b
    assert float(beside.abs().max()) < 4.5
    other = everything(book(512, 4096, (3, 5, 12))).double()
    assert abs(float((drawn @ other.T / 64).std()) - 1) < 0.02
    assert abs(float(drawn.mean())) < 0.01


def test_the_transform_is_hadamards_matrix() -> None:
    numbers = torch.arange(32)
    common = numbers[:, None] & numbers
    matrix = torch.tensor([[(-1) ** bin(int(one)).count("1") for one in row] for row in common])
    x = torch.randint(-1000, 1000, (32,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(hadamard(x), matrix @ x)


@pytest.mark.parametrize(("size", "places"), [(1, 5), (64, 30), (256, 640), (4096, 1001)])
def test_all_products_are_those_of_the_atoms(size: int, places: int) -> None:
    codebook = book(size, places)
    residual = torch.randn(places, generator=torch.Generator().manual_seed(1))
    brute = everything(codebook).double() @ residual.double()
    found = codebook.products(residual)
    scale = float(residual.abs().double().sum()) / (1 << 29)
    assert (found.double() * scale - brute).abs().max() < places * scale
    count = min(size, 9)
    choice = codebook.select(residual, count)
    assert sorted(choice.atoms) == list(choice.atoms)
    assert set(choice.atoms) == set(brute.abs().topk(count).indices.tolist())
    assert list(choice.signs) == torch.where(brute[list(choice.atoms)] < 0, -1, 1).tolist()


def test_equal_products_go_to_the_lower_number_and_zero_is_positive() -> None:
    codebook = book(16, 64)
    choice = codebook.select(torch.zeros(64), 3)
    assert choice == Choice((0, 1, 2), (1, 1, 1))
    broken = torch.full((64,), math.nan)
    assert codebook.select(broken, 1).atoms == (0,)


@pytest.mark.parametrize("count", [1, 2, 17])
def test_what_is_assembled_is_the_signed_sum_at_unit_variance(count: int) -> None:
    codebook = book()
    numbers = tuple(13 * one for one in range(count))
    signs = tuple(-1 if one % 3 == 1 else 1 for one in range(count))
    z = codebook.assemble(Choice(numbers, signs))
    summed = (atoms(codebook, numbers) * torch.tensor(signs)[:, None]).sum(0).double()
    assert torch.allclose(z.double(), summed / summed.square().mean().sqrt(), atol=1e-6)
    assert float(z.double().square().mean()) == pytest.approx(1, abs=1e-6)


def test_a_sum_of_atoms_looks_gaussian_and_leans_as_theory_says() -> None:
    """cos(z, r) ≈ √M · E|the top-M of K normals| / √D: 0.081 at 480p, M = 64, K = 16384."""
    codebook = book(16384, 99840)
    residual = torch.randn(99840, generator=torch.Generator().manual_seed(2))
    z = codebook.assemble(codebook.select(residual, 64))
    cosine = float(z @ residual / (z.norm() * residual.norm()))
    assert cosine == pytest.approx(0.081, abs=0.002)
    assert abs(float(z.mean())) < 0.02 and float(z.pow(4).mean()) == pytest.approx(3, abs=0.2)
    spectrum = torch.fft.rfft(z).abs().square() / len(z)
    assert float(spectrum[1:200].mean()) == pytest.approx(1, abs=0.3)  # white at its lowest frequencies too


def test_a_codebook_of_another_size_is_refused() -> None:
    for size in (0, 3, 1 << 17):
        with pytest.raises(ValueError, match="power of two"):
            book(size)
