"""Computed costs against closed forms."""

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lab.computed import compute


def test_operations_and_peak_of_a_chain_are_the_closed_form() -> None:
    with torch.device("meta"):
        layers = nn.Sequential(nn.Linear(100, 400, bias=False), nn.ReLU(), nn.Linear(400, 100, bias=False))
        x = torch.empty(50, 100)
    found = compute(lambda: layers(x))
    assert found.operations == 2 * 2 * 50 * 100 * 400
    assert found.peak_bytes == 4 * 50 * (400 + 400)  # before and after the ReLU


def test_attention_counts_its_products_and_never_holds_the_scores() -> None:
    with FakeTensorMode():
        q = torch.empty(1, 2, 1000, 16)
        found = compute(lambda: nn.functional.scaled_dot_product_attention(q, q, q))
    assert found.operations == 2 * (2 * 2 * 1000 * 1000 * 16)
    assert found.peak_bytes < 4 * 2 * 1000 * 1000


def test_what_is_let_go_no_longer_counts() -> None:
    x = torch.empty(1000, device="meta")

    def steps(count: int) -> None:
        for _ in range(count):
            (x + 1).mul_(2)

    assert compute(lambda: steps(1)).peak_bytes == compute(lambda: steps(9)).peak_bytes == 4000
