"""Exact networks: the integers against plain integer arithmetic, the pretence against the integers."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gnvc_vd.entropy.integer import (
    FLOAT32_EXACT,
    REACH,
    UNITS,
    IntegerConv,
    IntegerLeaky,
    clamp_with_gradient,
    in_units,
    round_shift,
    saturate,
    straight_round,
)


def frozen(inputs: int, outputs: int, kernel: int = 3, extra_bits: int = 0, seed: int = 0) -> IntegerConv:
    torch.manual_seed(seed)
    layer = IntegerConv(inputs, outputs, kernel, extra_bits, reach=REACH << extra_bits).eval()
    nn.init.normal_(layer.bias)
    layer.freeze()
    return layer


def values(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(-REACH, REACH + 1, shape, generator=torch.Generator().manual_seed(seed))


def by_hand(layer: IntegerConv, x: Tensor) -> Tensor:
    """The same layer in numpy's int64, one shifted product after another."""
    batch, inputs, height, width = x.shape
    kernel, edge = layer.kernel, layer.kernel // 2
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    weight = layer.weight_integers.numpy().astype(np.int64).reshape(-1, inputs, kernel, kernel)
    sums = np.zeros((batch, len(weight), height, width), dtype=np.int64)
    for row in range(kernel):
        for column in range(kernel):
            part = padded[:, :, row : row + height, column : column + width]
            sums += np.einsum("oi,bihw->bohw", weight[:, :, row, column], part)
    sums += layer.bias_integers.numpy()[:, None, None]
    shift = layer.shift.numpy()[:, None, None] - layer.extra_bits
    return torch.from_numpy(np.clip((sums + (1 << (shift - 1))) >> shift, -layer.reach, layer.reach))


@pytest.mark.parametrize(("kernel", "extra_bits"), [(1, 0), (3, 0), (3, 4), (1, 4)])
def test_a_layer_is_plain_integer_arithmetic(kernel: int, extra_bits: int) -> None:
    layer = frozen(24, 10, kernel, extra_bits)
    x = values(3, 24, 5, 7)
    assert torch.equal(layer(x), by_hand(layer, x))
    assert layer(x).abs().max() <= layer.reach and layer(x).unique().numel() > 50


@pytest.mark.parametrize("mode", ["one thread", "autocast", "medium precision", "no oneDNN", "cast to bfloat16"])
def test_nothing_about_the_machine_changes_an_integer(mode: str) -> None:
    layer, x = frozen(128, 16), values(2, 128, 9, 6)
    wanted = by_hand(layer, x)
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        if mode == "one thread":
            torch.set_num_threads(1)
        if mode == "medium precision":
            torch.set_float32_matmul_precision("medium")
        if mode == "cast to bfloat16":
            layer.to(torch.bfloat16)
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"),
            torch.backends.mkldnn.flags(enabled=mode != "no oneDNN"),
        ):
            assert torch.equal(layer(x), wanted)
            assert torch.equal(layer(x[1:]), wanted[1:])
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def test_everything_saturated_stays_exact_beyond_what_float32_holds() -> None:
    layer, x = frozen(256, 4), REACH - torch.arange(256 * 9).view(1, 256, 3, 3) % 2
    layer.weight_integers.copy_(127 - torch.arange(layer.weight_integers.numel()).view(4, -1) % 3 // 2)
    layer.bias_integers.fill_((1 << 40) + 1)  # odd and far above 2^24: any float32 on the way would show
    layer.shift.fill_(1)
    layer.reach = 1 << 62
    assert 126 * 256 * 9 * REACH < layer.largest_sum() < 127 * 256 * 9 * REACH and layer.largest_sum() > FLOAT32_EXACT
    assert torch.equal(layer(x), by_hand(layer, x)) and torch.equal(layer(-x), by_hand(layer, -x))


@pytest.mark.parametrize("scale", [1e-6, 0.1, 1.0, 30.0])
def test_freezing_proves_that_sums_fit(scale: float) -> None:
    layer = IntegerConv(200, 8)
    with torch.no_grad():
        layer.weight.mul_(scale)
    layer.freeze()
    assert layer.largest_sum() < FLOAT32_EXACT
    assert layer.weight_integers.abs().max() <= 127


def test_weights_too_large_for_the_proof_are_refused() -> None:
    layer = IntegerConv(4000, 2)
    nn.init.constant_(layer.weight, 100.0)
    with pytest.raises(ArithmeticError, match="may reach"):
        layer.freeze()


def test_the_pretence_is_the_integers() -> None:
    """What training sees, times 64, is what coding computes, place by place."""
    network = nn.Sequential(frozen(16, 24), IntegerLeaky(), nn.PixelShuffle(2), frozen(6, 8, kernel=1, seed=2))
    x = values(2, 16, 6, 6) // 4
    with torch.no_grad():
        assert torch.equal((network(x / UNITS) * UNITS).long(), network(x))


def test_small_parts_against_their_closed_forms() -> None:
    x = torch.arange(-40, 41)
    assert torch.equal(IntegerLeaky()(x), torch.where(x >= 0, x, torch.div(x, 8, rounding_mode="floor")))
    assert round_shift(torch.tensor([-3, -2, -1, 0, 1, 2, 3]), 1).tolist() == [-1, -1, 0, 0, 1, 1, 2]
    assert straight_round(torch.tensor([-1.5, -0.5, 0.5, 1.5])).tolist() == [-1, 0, 1, 2]
    assert saturate(torch.tensor([-9999, 5, 9999])).tolist() == [-REACH, 5, REACH]
    shuffled = values(2, 12, 3, 5)
    assert torch.equal(nn.PixelShuffle(2)(shuffled), nn.functional.pixel_shuffle(shuffled.float(), 2).long())


def test_gradients_pass_rounding_and_lead_back_into_bounds() -> None:
    x = torch.tensor([-2.0, -2.0, 0.3, 2.0, 2.0], requires_grad=True)
    (clamp_with_gradient(straight_round(x), 1) * torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, -1, 1, 1, 0]


@pytest.mark.parametrize(("units", "reach"), [(UNITS, REACH), (UNITS << 4, 9)])  # none is out of bounds; some are
def test_units_and_bounds_in_one_are_rounding_and_bounds_one_after_the_other(units: int, reach: int) -> None:
    x = torch.tensor([-3.0, -3.0, -0.5 / units, 0.5 / units, 0.004, 3.0, 3.0])
    weights = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0])
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = in_units(one, units, reach)
    wanted = clamp_with_gradient(straight_round(other * units) / units, reach / units)
    assert torch.equal(found, wanted)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    assert one.grad is not None and other.grad is not None and torch.equal(one.grad, other.grad)
    assert one.grad.count_nonzero() == (7 if reach == REACH else 5)


def test_a_leaky_layer_has_the_slopes_of_a_leaky_line() -> None:
    """Of floats too it is rounded down to whole units; its gradient is that of max(x, x/8), and x/8's at nothing."""
    x = (torch.arange(-20, 21).float() / UNITS).requires_grad_()
    out = IntegerLeaky()(x)
    assert torch.equal((out * UNITS).long(), IntegerLeaky()(torch.arange(-20, 21)))
    out.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1 / 8] * 21 + [1] * 20
