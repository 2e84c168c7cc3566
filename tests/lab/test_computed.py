"""Computed costs against closed forms."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

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


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_checkpointed_layer_keeps_its_input_alone(checkpointed: bool) -> None:
    """Each further layer of width 400 between 100s keeps what its backward needs, or only what it was given."""

    def peak(count: int) -> int:
        with FakeTensorMode():
            layers = [nn.Sequential(nn.Linear(100, 400), nn.ReLU(), nn.Linear(400, 100)) for _ in range(count)]
            given = torch.empty(50, 100, requires_grad=True)

            def work() -> None:
                x = given
                for layer in layers:
                    x = checkpoint(layer, x, use_reentrant=False) if checkpointed else layer(x)
                x.sum().backward()

            return compute(work, gradients=True).peak_bytes

    assert (peak(9) - peak(5)) / 4 == 4 * 50 * (100 if checkpointed else 100 + 400)


def test_what_is_let_go_no_longer_counts() -> None:
    x = torch.empty(1000, device="meta")

    def steps(count: int) -> None:
        for _ in range(count):
            (x + 1).mul_(2)

    assert compute(lambda: steps(1)).peak_bytes == compute(lambda: steps(9)).peak_bytes == 4000
