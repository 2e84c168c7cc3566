"""An untrained adaptor changes nothing, at any depth; a trained one hears what it is given; windows continue."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from gnvc_vd.backbone.dit import WanDit, build_dit
from gnvc_vd.conventions import GnvcError
from gnvc_vd.presets import PRESETS, AdaptorPreset, DitPreset
from gnvc_vd.refine.adaptor import is_branch
from gnvc_vd.refine.refiner import Refiner

LAYERS, FEATURES = 4, 6
SIZES = {"layers": LAYERS, "heads": 2, "head_dim": 16, "ffn_dim": 48, "text_dim": 8, "text_tokens": 2, "freq_dim": 32}
SUBSETS = [layers for count in range(LAYERS + 1) for layers in combinations(range(LAYERS), count)]


def dit_of(condition_channels: int = 0) -> WanDit:
    torch.manual_seed(0)
    preset = DitPreset(**SIZES, condition_channels=condition_channels)
    return WanDit(build_dit(preset), preset, torch.randn(1, 8)).eval().requires_grad_(False)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clip(latents: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    decoded, features = noise(2, 16, latents, 4, 6), noise(2, FEATURES, latents, 4, 6, seed=2)
    return decoded, features, noise(2, 16, latents, 4, 6, seed=3)


def disturbed(refiner: Refiner) -> Refiner:
    torch.manual_seed(4)
    with torch.no_grad():
        for value in refiner.branch().values():
            value.add_(0.1 * torch.randn_like(value))
    return refiner


@pytest.mark.parametrize("layers", SUBSETS)
def test_an_untrained_adaptor_is_the_identity_bit_for_bit(layers: tuple[int, ...]) -> None:
    dit, (decoded, features, x) = dit_of(condition_channels=20), clip()
    refiner = Refiner(dit, AdaptorPreset(layers), FEATURES)
    hints = refiner.hints(decoded, features)
    for sigma in (0.3, torch.tensor([0.06, 0.9])):
        assert torch.equal(refiner.velocity(x, sigma, hints), dit.velocity(x, sigma))


@pytest.mark.parametrize("layers", SUBSETS[1:])
def test_every_layer_of_a_trained_adaptor_is_heard(layers: tuple[int, ...]) -> None:
    """Silencing any one hint changes the velocity: diffusers adds each where the list says, also without layer 0."""
    dit, (decoded, features, x) = dit_of(), clip()
    refiner = disturbed(Refiner(dit, AdaptorPreset(layers), FEATURES))
    hints = refiner.hints(decoded, features)
    with torch.no_grad():
        whole = refiner.velocity(x, 0.3, hints)
        assert not torch.equal(whole, dit.velocity(x, 0.3))
        assert not torch.equal(whole, refiner.velocity(x, 0.3, refiner.hints(decoded, features + 1)))
        for index in range(len(layers)):
            silenced = disturbed(Refiner(dit, AdaptorPreset(layers), FEATURES))
            for name, value in silenced.branch().items():
                if name.startswith(f"vace_blocks.{index}.proj_out"):
                    value.zero_()
            assert not torch.equal(whole, silenced.velocity(x, 0.3, hints))


def test_an_adaptor_may_see_f_alone() -> None:
    decoded, features, x = clip()
    alone, both = (disturbed(Refiner(dit_of(), AdaptorPreset((1,), sees), FEATURES)) for sees in (False, True))
    for refiner, hears in ((alone, False), (both, True)):
        changed = refiner.velocity(x, 0.3, refiner.hints(decoded + 1, features))
        assert torch.equal(changed, refiner.velocity(x, 0.3, refiner.hints(decoded, features))) != hears


@pytest.mark.parametrize("layers", [(4,), (2, 1), (1, 1), (-1,)])
def test_impossible_layers_are_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(GnvcError, match="each once and in order"):
        Refiner(dit_of(), AdaptorPreset(layers), FEATURES)


def test_only_the_adaptor_trains_and_the_backbone_is_shared() -> None:
    dit, (decoded, features, start) = dit_of(), clip()
    refiner = Refiner(dit, AdaptorPreset((1, 3)), FEATURES)
    refiner.checkpointing()
    assert refiner.dit.model.blocks[0].ffn.net[2].weight.data_ptr() == dit.model.blocks[0].ffn.net[2].weight.data_ptr()
    disturbed(refiner)
    refiner(decoded, features, start, 0.3, 2).square().mean().backward()
    for name, parameter in refiner.dit.model.named_parameters():
        assert parameter.requires_grad == is_branch(name)
        assert (parameter.grad is not None) == is_branch(name), name


def test_refining_moves_along_the_velocity_and_zero_velocity_returns_the_start() -> None:
    decoded, features, start_noise = clip()
    refiner = Refiner(dit_of(), AdaptorPreset(()), FEATURES)
    one = refiner(decoded, features, start_noise, 0.3, 1)
    start = 0.7 * decoded + 0.3 * start_noise
    assert torch.allclose(one, start - 0.3 * refiner.velocity(start, 0.3, None), atol=1e-6)
    assert not torch.equal(one, refiner(decoded, features, start_noise, 0.3, 5))


@pytest.mark.parametrize("layers", [(), (0, 2)])
def test_a_continuation_window_sees_its_context_and_drops_it(layers: tuple[int, ...]) -> None:
    refiner = disturbed(Refiner(dit_of(), AdaptorPreset(layers), FEATURES))
    decoded, features, start = clip(latents=4)
    context = noise(2, 16, 1, 4, 6, seed=5)
    with torch.no_grad():
        refined = refiner(decoded, features, start, 0.3, 2, context)
        other = refiner(decoded, features, start, 0.3, 2, context + 0.5)
    assert refined.shape[2] == 3 and not torch.allclose(refined, other, atol=1e-4)


def test_the_real_preset_has_the_published_count() -> None:
    preset = PRESETS["wan2.1-1.3b"]
    assert preset.adaptor.layers == tuple(range(0, 30, 2)) and len(preset.adaptor.layers) == 15
