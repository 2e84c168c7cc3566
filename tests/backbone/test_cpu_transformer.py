"""Decoding's own pass through Wan's transformer gives diffusers' velocities, but for rounding."""

import pytest
import torch
from torch import Tensor

from gnvc_vd.backbone.dit import WanDit, build_dit, keep_in_float32
from gnvc_vd.learned.refine.refiner import Refiner
from gnvc_vd.presets import AdaptorPreset, DitPreset

SIZES = {"layers": 3, "heads": 2, "head_dim": 16, "ffn_dim": 48, "text_dim": 8, "freq_dim": 32}
FEATURES, SIGMA = 6, 0.3


def refiner_of(adaptor: AdaptorPreset, text_tokens: int = 1, condition_channels: int = 0) -> Refiner:
    """With every tensor far from what it begins as: no gate, norm or hint that could be left out."""
    torch.manual_seed(0)
    preset = DitPreset(**SIZES, text_tokens=text_tokens, condition_channels=condition_channels)
    refiner = Refiner(WanDit(build_dit(preset), preset, torch.randn(1, 8)), adaptor, FEATURES)
    with torch.no_grad():
        for value in refiner.dit.model.parameters():
            value += 0.2 * torch.randn_like(value)
    return refiner.eval().requires_grad_(False)


def velocities(refiner: Refiner, clips: int = 2) -> tuple[Tensor, Tensor]:
    """As diffusers computes it, and as a decoder does."""
    drawn = torch.Generator().manual_seed(1)
    x, decoded = torch.randn(2, clips, 16, 3, 4, 6, generator=drawn)
    hints = refiner.hints(decoded, torch.randn(clips, FEATURES, 3, 4, 6, generator=drawn), SIGMA)
    with torch.no_grad():
        stock = refiner.velocity(x, SIGMA, hints)
    with torch.inference_mode():
        return stock, refiner.velocity(x, SIGMA, hints)


@pytest.mark.parametrize("layers", [(), (0,), (0, 2), (1, 2)])
@pytest.mark.parametrize("condition_channels", [0, 20])
def test_a_decoders_velocity_is_that_of_diffusers(layers: tuple[int, ...], condition_channels: int) -> None:
    stock, quick = velocities(refiner_of(AdaptorPreset(layers), condition_channels=condition_channels))
    assert not torch.equal(stock, quick)  # the other way was taken
    assert torch.allclose(stock, quick, rtol=1e-4, atol=1e-4 * stock.std().item())


def test_low_rank_corrections_count_there_too() -> None:
    stock, quick = velocities(refiner_of(AdaptorPreset((1,), lora_rank=2)))
    assert torch.allclose(stock, quick, rtol=1e-4, atol=1e-4 * stock.std().item())


def test_in_bfloat16_it_is_as_near_to_float32_as_diffusers() -> None:
    refiner = refiner_of(AdaptorPreset((0, 2)))
    exact = velocities(refiner, clips=8)[0]
    for name, value in refiner.dit.model.named_parameters():
        value.data = value if keep_in_float32(name) else value.bfloat16()
    stock, quick = ((found - exact).square().mean().sqrt().item() for found in velocities(refiner, clips=8))
    assert 0 < quick < 1.1 * stock < 0.1 * exact.std().item()


def test_a_prompt_of_several_tokens_goes_through_diffusers() -> None:
    assert torch.equal(*velocities(refiner_of(AdaptorPreset((0, 2)), text_tokens=3)))


def test_gradients_and_a_start_for_each_clip_go_through_diffusers() -> None:
    refiner = refiner_of(AdaptorPreset((0,)))
    x = torch.randn(2, 16, 3, 4, 6, requires_grad=True)
    hints = refiner.hints(x.detach(), torch.randn(2, FEATURES, 3, 4, 6), SIGMA)
    refiner.velocity(x, SIGMA, hints).sum().backward()
    assert x.grad is not None and x.grad.abs().min() > 0
    starts = torch.tensor([0.1, 0.9])
    with torch.inference_mode():
        both = refiner.velocity(x, starts, hints)
        alone = [refiner.velocity(x[clip : clip + 1], starts[clip].item(), hints[clip : clip + 1]) for clip in (0, 1)]
    assert torch.allclose(both, torch.cat(alone), rtol=1e-4, atol=1e-3)


def test_what_a_training_divides_or_casts_goes_through_diffusers() -> None:
    refiner = refiner_of(AdaptorPreset((0, 2)))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(*velocities(refiner))
    for block in refiner.dit.model.blocks:  # as FSDP does, whose blocks have classes of their own
        block.__class__ = type("FSDPWanTransformerBlock", (type(block),), {})
    assert torch.equal(*velocities(refiner))


def test_another_attention_that_is_asked_for_is_taken() -> None:
    refiner = refiner_of(AdaptorPreset((0, 2)))
    refiner.dit = WanDit(refiner.dit.model, refiner.dit.preset, refiner.dit.text[0], "_native_math")
    assert torch.equal(*velocities(refiner))
