"""An untrained adaptor changes nothing, at any depth; a trained one hears what it is given; windows continue."""

from itertools import combinations
from pathlib import Path

import pytest
import torch
from diffusers import WanVACETransformer3DModel
from torch import Tensor

from gnvc_vd.backbone.dit import WanDit, build_dit
from gnvc_vd.conventions import GnvcError
from gnvc_vd.learned.refine.adaptor import is_trained
from gnvc_vd.learned.refine.refiner import Refiner
from gnvc_vd.presets import PRESETS, AdaptorPreset, DitPreset

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
        for value in refiner.adaptor().values():
            value.add_(0.1 * torch.randn_like(value))
    return refiner


@pytest.mark.parametrize("layers", SUBSETS)
def test_an_untrained_adaptor_is_the_identity_bit_for_bit(layers: tuple[int, ...]) -> None:
    dit, (decoded, features, x) = dit_of(condition_channels=20), clip()
    refiner = Refiner(dit, AdaptorPreset(layers), FEATURES)
    hints = refiner.hints(decoded, features, 0.3)
    for sigma in (0.3, torch.tensor([0.06, 0.9])):
        assert torch.equal(refiner.velocity(x, sigma, hints), dit.velocity(x, sigma))


@pytest.mark.parametrize("layers", SUBSETS[1:])
def test_every_layer_of_a_trained_adaptor_is_heard(layers: tuple[int, ...]) -> None:
    """Silencing any one hint changes the velocity: diffusers adds each where the list says, also without layer 0."""
    dit, (decoded, features, x) = dit_of(), clip()
    refiner = disturbed(Refiner(dit, AdaptorPreset(layers), FEATURES))
    hints = refiner.hints(decoded, features, 0.3)
    with torch.no_grad():
        whole = refiner.velocity(x, 0.3, hints)
        assert not torch.equal(whole, dit.velocity(x, 0.3))
        assert not torch.equal(whole, refiner.velocity(x, 0.3, refiner.hints(decoded, features + 1, 0.3)))
        for index in range(len(layers)):
            silenced = disturbed(Refiner(dit, AdaptorPreset(layers), FEATURES))
            for name, value in silenced.adaptor().items():
                if name.startswith(f"vace_blocks.{index}.proj_out"):
                    value.zero_()
            assert not torch.equal(whole, silenced.velocity(x, 0.3, hints))


def test_an_adaptor_may_see_f_alone() -> None:
    decoded, features, x = clip()
    alone, both = (disturbed(Refiner(dit_of(), AdaptorPreset((1,), sees), FEATURES)) for sees in (False, True))
    for refiner, hears in ((alone, False), (both, True)):
        changed = refiner.velocity(x, 0.3, refiner.hints(decoded + 1, features, 0.3))
        assert torch.equal(changed, refiner.velocity(x, 0.3, refiner.hints(decoded, features, 0.3))) != hears


def test_an_adaptor_may_be_told_where_refinement_starts() -> None:
    decoded, features, x = clip()
    starts = torch.tensor([0.1, 0.3])
    told, untold = (
        disturbed(Refiner(dit_of(), AdaptorPreset((1,), sees_start=sees), FEATURES)) for sees in (True, False)
    )
    for refiner, hears in ((told, True), (untold, False)):
        found = [refiner.velocity(x, 0.05, refiner.hints(decoded, features, start)) for start in (0.1, 0.3)]
        assert torch.equal(*found) != hears
        both = refiner.velocity(x, 0.05, refiner.hints(decoded, features, starts))
        assert torch.allclose(both, torch.cat([found[0][:1], found[1][1:]]), atol=1e-5)


@pytest.mark.parametrize("layers", [(4,), (2, 1), (1, 1), (-1,)])
def test_impossible_layers_are_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(GnvcError, match="each once and in order"):
        Refiner(dit_of(), AdaptorPreset(layers), FEATURES)


def test_only_the_adaptor_trains_and_the_backbone_is_shared() -> None:
    dit, (decoded, features, start) = dit_of(), clip()
    refiner = Refiner(dit, AdaptorPreset((1, 3)), FEATURES)
    refiner.dit.model.enable_gradient_checkpointing()
    own = dict(refiner.dit.model.named_parameters())
    assert all(own[name] is parameter for name, parameter in dit.model.named_parameters())
    disturbed(refiner)
    refiner(decoded, features, start, 0.3, 2).square().mean().backward()
    for name, parameter in refiner.dit.model.named_parameters():
        assert parameter.requires_grad == is_trained(name)
        assert (parameter.grad is not None) == is_trained(name), name


@pytest.mark.parametrize("layers", [(), (1, 3)])
def test_low_rank_corrections_begin_at_nothing_and_train_beside_the_branch(layers: tuple[int, ...]) -> None:
    dit, (decoded, features, x) = dit_of(), clip()
    refiner = Refiner(dit, AdaptorPreset(layers, lora_rank=2), FEATURES)
    hints = refiner.hints(decoded, features, 0.3)
    assert torch.equal(refiner.velocity(x, 0.3, hints), dit.velocity(x, 0.3))
    trained = {name for name, parameter in refiner.dit.model.named_parameters() if parameter.requires_grad}
    low_rank = {name for name in trained if "lora" in name}
    # Two factors for each of four projections, in two attentions of every block of the backbone and of no other.
    assert len(low_rank) == 2 * 4 * 2 * LAYERS and all(name.startswith("blocks.") for name in low_rank)
    assert trained == set(refiner.adaptor())
    other = Refiner(dit, AdaptorPreset(layers, lora_rank=2), FEATURES)
    other.load_adaptor(disturbed(refiner).adaptor(), "elsewhere")
    with torch.no_grad():
        moved = refiner.velocity(x, 0.3, hints)
        assert torch.equal(moved, other.velocity(x, 0.3, hints)) and not torch.allclose(moved, dit.velocity(x, 0.3))


def published_vace(folder: Path, dit: WanDit, layers: tuple[int, ...] = (0, 2)) -> WanVACETransformer3DModel:
    """What a VACE release looks like: the backbone, blocks at some layers that were trained, other conditions."""
    torch.manual_seed(7)
    config = {name: value for name, value in dict(dit.model.config).items() if not name.startswith("_")}
    model = WanVACETransformer3DModel(**config, vace_layers=list(layers), vace_in_channels=96)
    model.eval().requires_grad_(False)
    model.load_state_dict(dit.model.state_dict(), strict=False)
    for parameter in model.vace_patch_embedding.parameters():
        parameter.data.zero_()
    model.save_pretrained(folder)
    return model


def test_an_adaptor_starts_from_vace_weights(tmp_path: Path) -> None:
    dit, (decoded, features, x) = dit_of(), clip()
    published = published_vace(tmp_path / "transformer", dit)
    refiner = Refiner(dit, AdaptorPreset((0, 2)), FEATURES, vace=tmp_path)
    control = torch.zeros(2, 96, 3, 4, 6)
    expected = WanDit(published, dit.preset, dit.text[0]).velocity(x, 0.3, control=control)
    assert torch.equal(refiner.velocity(x, 0.3, refiner.hints(decoded, features, 0.3)), expected)
    assert not torch.allclose(expected, dit.velocity(x, 0.3))
    alone = Refiner(dit, AdaptorPreset((2,)), FEATURES, vace=tmp_path).adaptor()
    theirs = published.state_dict()
    assert torch.equal(alone["vace_blocks.0.ffn.net.2.weight"], theirs["vace_blocks.1.ffn.net.2.weight"])
    assert torch.equal(alone["vace_blocks.0.proj_in.weight"], theirs["vace_blocks.0.proj_in.weight"])


def test_vace_weights_keep_their_precision_beside_a_bfloat16_backbone(tmp_path: Path) -> None:
    theirs = published_vace(tmp_path, dit_of()).state_dict()
    own = Refiner(dit_of().to(torch.bfloat16), AdaptorPreset((0, 2)), FEATURES, vace=tmp_path).adaptor()
    name = "vace_blocks.1.ffn.net.2.weight"
    assert torch.equal(own[name], theirs[name]) and not torch.equal(theirs[name], theirs[name].bfloat16().float())


def test_vace_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    dit = dit_of()
    published_vace(tmp_path / "vace", dit)
    with pytest.raises(GnvcError, match=r"none for \[1\]"):
        Refiner(dit, AdaptorPreset((0, 1)), FEATURES, vace=tmp_path / "vace")
    with pytest.raises(GnvcError, match=r"nowhere: missing; .*fetch_weights"):
        Refiner(dit, AdaptorPreset((0,)), FEATURES, vace=tmp_path / "nowhere")
    dit.model.save_pretrained(tmp_path / "plain")
    with pytest.raises(GnvcError, match="not a VACE transformer"):
        Refiner(dit, AdaptorPreset((0,)), FEATURES, vace=tmp_path / "plain")
    wider = DitPreset(**SIZES | {"ffn_dim": 64})
    with pytest.raises(GnvcError, match="do not fit"):
        Refiner(WanDit(build_dit(wider), wider, torch.zeros(1, 8)), AdaptorPreset((0,)), FEATURES, tmp_path / "vace")


def test_a_bfloat16_backbone_has_a_bfloat16_adaptor() -> None:
    dit, (decoded, features, noisy) = dit_of(), clip()
    exact = disturbed(Refiner(dit, AdaptorPreset((0, 2)), FEATURES))
    low = Refiner(dit_of().to(torch.bfloat16), AdaptorPreset((0, 2)), FEATURES)
    low.load_adaptor(exact.adaptor(), "elsewhere")
    with torch.no_grad():
        wanted, found = (one(decoded, features, noisy, 0.3, 2) for one in (exact, low))
    assert 0 < (wanted - found).abs().mean() < 0.02 * wanted.std()


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
