"""Philox against its authors' known answers, and what is made of it."""

from statistics import NormalDist

import pytest
import torch

from gnvc_vd.common.noise import normal, philox, quantiles, words

KNOWN = [  # counter, key, answer: the Random123 distribution's kat_vectors, philox4x32 10
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_published_answers(counter: tuple[int, ...], key: tuple[int, int], answer: object) -> None:
    assert tuple(int(word) for word in philox([torch.tensor(c) for c in counter], key)) == answer
    assert tuple(int(word) for word in philox(counter, key)) == answer


def test_any_element_is_addressable_alone() -> None:
    whole = words(1000, (5, 7), (1, 2, 3))
    alone = torch.stack(philox((torch.tensor([617]), 1, 2, 3), (5, 7)), dim=-1)
    assert torch.equal(whole[617:618], alone)
    assert torch.equal(normal((20, 13), (5, 7), (1, 2, 3)).flatten(), normal((1000,), (5, 7), (1, 2, 3))[:260])


def test_streams_and_keys_are_unlike() -> None:
    first = normal((4096,), (1, 0), (0, 0, 0))
    for other in (normal((4096,), (2, 0), (0, 0, 0)), normal((4096,), (1, 0), (0, 1, 0))):
        assert abs(torch.corrcoef(torch.stack([first, other]))[0, 1]) < 0.05


def test_normal_numbers_are_normal_and_exact() -> None:
    x = normal((1 << 20,), (3, 1), (0, 0, 0)).double()
    assert torch.equal(x * 65536, (x * 65536).round())
    assert abs(x.mean()) < 4e-3 and abs(x.square().mean() - 1) < 5e-3
    assert abs(x.pow(4).mean() - 3) < 0.05
    below = (x[:, None] < torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])).double().mean(0)
    assert torch.allclose(below, torch.special.ndtr(torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])).double(), atol=2e-3)


def test_the_table_is_odd_and_keeps_its_integers() -> None:
    table = quantiles()
    assert torch.equal(table, -table.flip(0)) and (table.diff() >= 0).all()
    for place in (0, 1, 32768, 40000, 49152, 65535):
        assert int(table[place]) == round(NormalDist().inv_cdf((place + 0.5) / 65536) * 65536)
