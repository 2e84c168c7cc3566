"""The velocity is diffusers' own transformer, called the way Wan was trained."""

import pytest
import torch
from torch import Tensor

from gnvc_vd.backbone.dit import WanDit, build_dit
from gnvc_vd.backbone.image_condition import Condition
from gnvc_vd.conventions import GnvcError
from gnvc_vd.presets import CONDITION_CHANNELS, DitPreset

SIZES = {"layers": 2, "heads": 2, "head_dim": 16, "ffn_dim": 48, "text_dim": 8, "text_tokens": 5, "freq_dim": 32}
TEXT_TO_VIDEO = DitPreset(**SIZES)
CONDITIONED = DitPreset(**SIZES, condition_channels=CONDITION_CHANNELS)
IMAGE_TO_VIDEO = DitPreset(**SIZES, condition_channels=CONDITION_CHANNELS, image_dim=24)
TWO_FRAMES = DitPreset(**SIZES, condition_channels=CONDITION_CHANNELS, image_dim=24, image_tokens=2 * 257)


def dit_of(preset: DitPreset, attention: str = "native") -> WanDit:
    torch.manual_seed(0)
    text = torch.randn(3, preset.text_dim)
    return WanDit(build_dit(preset), preset, text, attention).eval().requires_grad_(False)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_velocity_is_the_transformer_at_a_thousand_sigma_with_the_padded_prompt() -> None:
    dit, x = dit_of(TEXT_TO_VIDEO), noise(2, 16, 3, 4, 6)
    text = torch.cat([dit.text[:, :3], torch.zeros(1, 2, 8)], dim=1).expand(2, -1, -1)
    theirs = dit.model(x, torch.tensor([300.0, 60.0]), text, return_dict=False)[0]
    assert torch.equal(dit.velocity(x, torch.tensor([0.3, 0.06])), theirs)
    assert torch.equal(dit.velocity(x, 0.3)[:1], dit.velocity(x, torch.tensor([0.3, 0.06]))[:1])


@pytest.mark.parametrize("preset", [CONDITIONED, IMAGE_TO_VIDEO, TWO_FRAMES])
def test_no_condition_is_exact_zeros_and_a_condition_matters(preset: DitPreset) -> None:
    dit, x = dit_of(preset), noise(1, 16, 2, 4, 4)
    zeros = torch.zeros(1, CONDITION_CHANNELS, 2, 4, 4)
    tokens = preset.image_tokens or 257
    image = None if preset.image_dim is None else torch.zeros(1, tokens, preset.image_dim)
    assert torch.equal(dit.velocity(x, 0.5), dit.velocity(x, 0.5, Condition(zeros, image)))
    assert not torch.equal(dit.velocity(x, 0.5), dit.velocity(x, 0.5, Condition(zeros + 1, image)))
    if image is not None:
        assert not torch.equal(dit.velocity(x, 0.5), dit.velocity(x, 0.5, Condition(zeros, noise(*image.shape))))


def test_condition_channels_lie_behind_the_noisy_ones() -> None:
    dit, x, given = dit_of(CONDITIONED), noise(1, 16, 1, 2, 2), noise(1, CONDITION_CHANNELS, 1, 2, 2, seed=2)
    theirs = dit.model(torch.cat([x, given], dim=1), torch.tensor([700.0]), dit.text, return_dict=False)[0]
    assert torch.equal(dit.velocity(x, 0.7, Condition(given)), theirs)


def test_wrong_shapes_are_refused() -> None:
    dit, x = dit_of(TEXT_TO_VIDEO), noise(1, 16, 1, 2, 2)
    with pytest.raises(ValueError, match="even h and w"):
        dit.velocity(noise(1, 16, 1, 3, 2), 0.5)  # diffusers would drop a row without a word
    with pytest.raises(ValueError, match="takes no condition"):
        dit.velocity(x, 0.5, Condition(noise(1, CONDITION_CHANNELS, 1, 2, 2)))
    with pytest.raises(ValueError, match="expected 20 condition channels"):
        dit_of(CONDITIONED).velocity(x, 0.5, Condition(noise(1, 16, 1, 2, 2)))


def test_attention_kernels_agree_and_an_absent_one_is_named() -> None:
    x = noise(1, 16, 2, 4, 4)
    native, by_hand = dit_of(TEXT_TO_VIDEO, "native"), dit_of(TEXT_TO_VIDEO, "_native_math")
    assert torch.equal(native.velocity(x, 0.5), dit_of(TEXT_TO_VIDEO).velocity(x, 0.5))
    assert (native.velocity(x, 0.5) - by_hand.velocity(x, 0.5)).abs().max() < 1e-5
    for backend in ("sage", "no-such-kernel"):
        with pytest.raises(GnvcError, match=f"{backend}.* cannot be used"):
            dit_of(TEXT_TO_VIDEO, backend)
