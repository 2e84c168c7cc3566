"""The light VAE: a stream equal to the whole, causal, with Wan's latent shape."""

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gnvc_vd.backbone.light_vae import START_LOG_VARIANCE, Decoder, FrameCache, LightVae, Merge, Split
from gnvc_vd.backbone.streaming import chunk_clip, stream_steps
from gnvc_vd.backbone.weights import (
    Backbone,
    Options,
    load_backbone,
    random_backbone,
    save_backbone,
    with_light_decoder,
)
from gnvc_vd.conventions import GnvcError
from gnvc_vd.data.latents import encoder_identity
from gnvc_vd.presets import VaePreset, preset

PRESET = VaePreset(16, tuple(0.1 * i for i in range(16)), tuple(0.5 + 0.1 * i for i in range(16)))


@pytest.fixture
def vae() -> LightVae:
    torch.manual_seed(0)
    made = LightVae(PRESET).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def video(frames: int, height: int = 32, width: int = 48) -> Tensor:
    return 2 * torch.rand(2, 3, frames, height, width, generator=torch.Generator().manual_seed(1)) - 1


@pytest.mark.parametrize("frames", [1, 5, 9, 25])
def test_a_stream_is_the_whole(vae: LightVae, frames: int) -> None:
    clip = video(frames)
    latents = vae.encode(clip)
    assert latents.shape == (2, 16, 1 + (frames - 1) // 4, 4, 6)
    by_steps = torch.cat(list(stream_steps(vae.encode_step, chunk_clip(clip))), dim=2)
    assert torch.allclose(by_steps, latents, atol=1e-5)
    shown = torch.cat(list(stream_steps(vae.decode_step, latents.split(1, dim=2))), dim=2)
    assert shown.shape == clip.shape and torch.equal(shown, vae.decode(latents))
    at_once = vae.reconstruction(latents * vae.std + vae.mean).clamp(-1, 1)
    assert torch.allclose(shown, at_once, atol=1e-5)


def test_a_step_leaves_the_state_it_was_given(vae: LightVae) -> None:
    first, *rest = chunk_clip(video(9))
    _, state = vae.encode_step(None, first)
    once, again = (vae.encode_step(state, rest[0])[0] for _ in range(2))
    assert torch.equal(once, again)


def test_nothing_sees_the_future(vae: LightVae) -> None:
    clip, changed = video(13), video(13)
    changed[:, :, 5:] = 0
    assert torch.equal(vae.encode(clip)[:, :, :2], vae.encode(changed)[:, :, :2])
    assert not torch.allclose(vae.encode(clip)[:, :, 2:], vae.encode(changed)[:, :, 2:])
    latents = vae.encode(clip)
    other = latents.clone()
    other[:, :, 2:] = 0
    assert torch.equal(vae.decode(latents)[:, :, :5], vae.decode(other)[:, :, :5])


def test_the_past_is_seen(vae: LightVae) -> None:
    """Each latent knows the one before it: what would flicker can be told from what moves."""
    clip = video(9)
    changed = clip.clone()
    changed[:, :, 4] = 0
    assert not torch.allclose(vae.encode(clip)[:, :, 2], vae.encode(changed)[:, :, 2])


def test_latents_are_normalised_means_and_the_posterior_begins_narrow() -> None:
    torch.manual_seed(0)
    fresh, clip = LightVae(PRESET), video(5)
    mean, log_variance = fresh.posterior(clip)
    assert torch.allclose(fresh.encode(clip) * fresh.std + fresh.mean, mean, atol=1e-5)
    assert log_variance.mean().item() == pytest.approx(START_LOG_VARIANCE, abs=0.5)


@pytest.mark.parametrize(("time", "space", "width", "into"), [(2, 1, 6, 6), (1, 2, 4, 8), (2, 2, 6, 4)])
def test_merging_starts_near_a_mean_and_splitting_near_a_repetition(
    time: int, space: int, width: int, into: int
) -> None:
    merge, split = started(Merge, width, into, time, space), started(Split, into, width, time, space)
    x = torch.randn(1, 4, 4, 6, width, generator=torch.Generator().manual_seed(2))
    merged = merge(x, FrameCache(()))
    assert merged.shape == (1, 4 // time, 4 // space, 6 // space, into)
    assert merged.mean().item() == pytest.approx(x.mean().item(), abs=1e-5)
    repeated = split(merged, FrameCache(()))
    assert repeated.shape == x.shape
    assert torch.allclose(merge(repeated, FrameCache(())), merged, atol=1e-5)
    first = split(merged[:, :1], FrameCache(None))
    assert torch.equal(first, repeated[:, time - 1 : time])
    assert torch.equal(merge(x[:, :1], FrameCache(None)), merge(x[:, :1].expand(-1, time, -1, -1, -1), FrameCache(())))


def started(kind: type[Merge] | type[Split], width: int, into: int, time: int, space: int) -> Merge | Split:
    """A layer without the random part of its start."""
    torch.manual_seed(0)
    layer = kind(width, into, time, space)
    torch.manual_seed(0)
    random = nn.Linear(layer.matrix.in_features, layer.matrix.out_features)
    with torch.no_grad():
        layer.matrix.weight -= random.weight
        layer.matrix.bias.zero_()
    return layer


def test_sizes_that_do_not_fit_are_refused(vae: LightVae) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        vae.encode_step(None, torch.zeros(1, 3, 1, 20, 16))
    with pytest.raises(ValueError, match="expected B 3 1"):
        vae.encode_step(None, torch.zeros(1, 3, 4, 16, 16))


def test_a_model_folder_keeps_a_light_vae(tmp_path: Path) -> None:
    backbone = random_backbone(preset("tiny"))
    assert isinstance(backbone.vae, LightVae)
    save_backbone(backbone, tmp_path / "model", "ours")
    loaded = load_backbone(tmp_path / "model")
    assert isinstance(loaded.vae, LightVae) and loaded.vae_preset == preset("tiny").vae
    assert torch.equal(loaded.vae.encode(video(5)), backbone.vae.encode(video(5)))
    for half in ("encode", "decode"):  # each in a type of its own
        low = load_backbone(tmp_path / "model", Options(**{f"vae_{half}r": torch.bfloat16})).vae
        latents = backbone.vae.encode(video(5))
        pairs = {name: (getattr(low, name), getattr(backbone.vae, name)) for name in ("encode", "decode")}
        for name, given in (("encode", video(5)), ("decode", latents)):
            rounded, exact = (each(given) for each in pairs[name])
            apart = (rounded - exact).abs().max()
            assert rounded.dtype == torch.float32 and (0 < apart < 0.1 * exact.std() if name == half else apart == 0)


@pytest.fixture
def lightly_decoded() -> Backbone:
    """Wan's encoder at nano size and a light decoder whose blocks say something."""
    made = with_light_decoder(random_backbone(preset("nano")), 16)
    torch.manual_seed(0)
    for parameter in made.vae.model.get_submodule("decoder").parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_a_light_decoder_behind_wans_encoder_streams_as_a_whole(lightly_decoded: Backbone, frames: int) -> None:
    vae, wans = lightly_decoded.vae, random_backbone(preset("nano")).vae
    clip = video(frames)
    latents = vae.encode(clip)
    assert torch.equal(latents, wans.encode(clip)) and encoder_identity(vae) == encoder_identity(wans)
    shown = vae.decode(latents)
    assert shown.shape == clip.shape and not torch.allclose(shown, wans.decode(latents), atol=0.1)
    at_once = vae.reconstruction(latents * vae.std + vae.mean)
    assert torch.allclose(shown, at_once.clamp(-1, 1), atol=1e-5)
    alone = cast(Decoder, vae.model.decoder)(latents[:, :, :1] * vae.std + vae.mean, FrameCache(None))
    assert torch.allclose(alone.clamp(-1, 1), shown[:, :, :1], atol=1e-5)


def test_a_model_folder_keeps_wans_encoder_with_a_light_decoder(lightly_decoded: Backbone, tmp_path: Path) -> None:
    save_backbone(lightly_decoded, tmp_path / "model", "ours")
    described = json.loads((tmp_path / "model" / "model.json").read_text())["backbone"]["vae"]
    assert (described["architecture"], described["base_dim"], described["light_decoder"]) == ("wan", 8, 16)
    parts = {name.partition(".")[0] for name in load_file(tmp_path / "model" / "vae.safetensors")}
    assert parts == {"encoder", "quant_conv", "decoder"}
    loaded, before = load_backbone(tmp_path / "model"), lightly_decoded
    assert loaded.vae_preset == replace(preset("nano").vae, light_decoder=16)
    latents = before.vae.encode(video(5))
    assert torch.equal(loaded.vae.encode(video(5)), latents)
    assert torch.equal(loaded.vae.decode(latents), before.vae.decode(latents))
    low = load_backbone(tmp_path / "model", Options(vae_decoder=torch.bfloat16)).vae
    assert low.decoder_type == torch.bfloat16 and torch.equal(low.encode(video(5)), latents)
    assert 0 < (low.decode(latents) - before.vae.decode(latents)).abs().max() < 0.1


def test_a_vae_of_no_known_kind_is_refused(lightly_decoded: Backbone, tmp_path: Path) -> None:
    save_backbone(lightly_decoded, tmp_path / "light", "ours")
    described = tmp_path / "light" / "model.json"
    for width, sentence in (("15", "even width"), ("0", "not between 1 and 256"), ("10000", "not between 1 and 256")):
        text = described.read_text()
        described.write_text(text.replace('"light_decoder": 16', f'"light_decoder": {width}'))
        with pytest.raises(GnvcError, match=sentence):
            load_backbone(tmp_path / "light")
        described.write_text(text)
    save_backbone(random_backbone(preset("tiny")), tmp_path / "model", "ours")
    described = tmp_path / "model" / "model.json"
    for was, now in (
        ('"light"', '"heavy"'),
        ('"base_dim": 64', '"base_dim": 63'),
        ('"light_decoder": null', '"light_decoder": 16'),
    ):
        text = described.read_text()
        described.write_text(text.replace(was, now))
        with pytest.raises(GnvcError, match=r"no VAE 'heavy'|63 is odd|goes with the architecture 'wan'"):
            load_backbone(tmp_path / "model")
        described.write_text(text)
