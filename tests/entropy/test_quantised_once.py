"""Weights quantised once a pass: the same numbers and gradients as quantised at every call, and nothing left behind."""

import copy
import inspect
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gnvc_vd.entropy.integer import IntegerConv, IntegerLeaky, quantise_once
from gnvc_vd.learned.bottleneck.contextual import BottleneckOutput, Contextual
from tests.learned.bottleneck.models import NANO, latents

ANEW = inspect.unwrap(Contextual.forward)  # quantises at every call
QUALITY = torch.tensor([[5, 5, 5], [60, 60, 60]])


def half(x: Tensor) -> Tensor:
    """Instead of noise, so that two passes are comparable."""
    return torch.full_like(x, 0.5)


@pytest.fixture
def model() -> Contextual:
    torch.manual_seed(0)
    made = Contextual(NANO).train()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return made


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[int]]:
    """How often each layer quantised its weights."""
    counts = Counter[int]()
    quantise = IntegerConv._quantise

    def counting(layer: IntegerConv) -> tuple[Tensor, Tensor]:
        counts[id(layer)] += 1
        return quantise(layer)

    monkeypatch.setattr(IntegerConv, "_quantise", counting)
    yield counts


def loss(out: BottleneckOutput) -> Tensor:
    return out.bits.mean() + out.latents.square().mean() + out.features.square().mean()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def layers(model: nn.Module) -> list[IntegerConv]:
    return [one for one in model.modules() if isinstance(one, IntegerConv)]


def test_a_pass_says_the_same_bit_by_bit_and_teaches_the_same(model: Contextual) -> None:
    x = latents(2, 3, 8, 8)
    once, anew = model(x, QUALITY, half), ANEW(model, x, QUALITY, half)
    assert all(torch.equal(here, there) for here, there in zip(once, anew, strict=True))
    loss(once).backward()
    mine = gradients(model)
    loss(anew).backward()
    theirs = gradients(model)
    assert mine.keys() == theirs.keys() == dict(model.named_parameters()).keys()
    for name, wanted in theirs.items():
        torch.testing.assert_close(mine[name], wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())


def test_every_layer_quantises_once_a_pass_and_anew_in_the_next(model: Contextual, counted: Counter[int]) -> None:
    x, wanted = latents(2, 3, 8, 8), {id(layer) for layer in layers(model)}
    model(x, QUALITY)
    assert counted == dict.fromkeys(wanted, 1)
    with torch.no_grad():
        for layer in layers(model):
            layer.weight.mul_(0.5)
    changed = model(x, QUALITY, half)
    assert counted == dict.fromkeys(wanted, 2)
    assert torch.equal(changed.bits, ANEW(model, x, QUALITY, half).bits)
    assert max(counted.values()) == 2 + 2  # outside such a pass once a latent, and two are predicted


def test_nothing_is_held_after_a_pass_that_failed(model: Contextual) -> None:
    with pytest.raises(ValueError, match="zip"):
        model(latents(2, 3, 8, 8), QUALITY[:, :2])  # noticed after two latents
    assert not any(layer.holds or layer.held for layer in layers(model))
    copy.deepcopy(model)


def test_a_pass_within_a_pass_leaves_the_outer_one_its_weights(counted: Counter[int]) -> None:
    layer, x = IntegerConv(3, 4), torch.randn(1, 3, 4, 4)
    with quantise_once(layer):
        layer(x)
        with quantise_once(nn.Sequential(layer)):
            layer(x)
        layer(x)
        assert counted[id(layer)] == 1
    layer(x)
    layer(x)
    assert counted[id(layer)] == 3 and layer.held is None


@pytest.mark.parametrize("blind", [torch.no_grad, torch.inference_mode])
def test_weights_that_were_made_without_gradients_teach_nobody(blind: type[torch.no_grad]) -> None:
    layer, x = IntegerConv(3, 4), torch.randn(1, 3, 4, 4)
    with quantise_once(layer):
        with blind():
            layer(x)
        layer(x).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_pass_teaches_the_same(reentrant: bool) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(IntegerConv(3, 4), IntegerLeaky(), IntegerConv(4, 3)), torch.randn(1, 3, 6, 6)

    def twice(x: Tensor) -> Tensor:
        with quantise_once(model):
            out: Tensor = model(model(x))
            return out

    twice(x).square().sum().backward()
    wanted = gradients(model)
    again = checkpoint(twice, x.requires_grad_(), use_reentrant=reentrant)
    again.square().sum().backward()
    found = gradients(model)
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], one, rtol=1e-5) for name, one in wanted.items())
