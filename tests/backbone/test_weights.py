"""Weights load from every layout to the same numbers, and hostile folders are refused in a sentence."""

import gc
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import WanVACETransformer3DModel

import gnvc_vd
from gnvc_vd.backbone.dit import build_dit
from gnvc_vd.backbone.weights import (
    Backbone,
    Options,
    load_backbone,
    new_vae,
    random_backbone,
    save_backbone,
)
from gnvc_vd.conventions import GnvcError
from gnvc_vd.presets import PRESETS


@pytest.fixture(scope="module")
def nano() -> Backbone:
    return load_backbone("nano")


@pytest.fixture
def folder(nano: Backbone, tmp_path: Path) -> Path:
    save_backbone(nano, tmp_path / "model", "saved nano")
    return tmp_path / "model"


def same(first: Backbone, second: Backbone) -> bool:
    x = torch.randn(2, 16, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    return torch.equal(first.dit.velocity(x, 0.3), second.dit.velocity(x, 0.3)) and torch.equal(
        first.vae.decode(x), second.vae.decode(x)
    )


@pytest.mark.parametrize(
    ("name", "vae", "dit"),
    [
        ("wan2.1-1.3b", 126_892_531, 1_418_996_800),
        ("wan2.1-14b-t2v", 126_892_531, 14_288_491_584),
        ("wan2.1-14b-i2v", 126_892_531, 16_394_878_784),
        ("wan2.1-14b-flf2v", 126_892_531, 16_395_536_704),
    ],
)
def test_presets_have_the_published_parameter_counts(name: str, vae: int, dit: int) -> None:
    with torch.device("meta"):
        built = new_vae(PRESETS[name].vae, Options()), build_dit(PRESETS[name].dit)
    assert [sum(parameter.numel() for parameter in part.parameters()) for part in built] == [vae, dit]


def test_the_paper_s_adaptor_brings_the_published_count() -> None:
    """Fifteen VACE layers on the 1.3 B transformer: the 2.15 B of the paper."""
    sizes = PRESETS["wan2.1-1.3b"].dit
    with torch.device("meta"):
        model = WanVACETransformer3DModel(
            num_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            attention_head_dim=sizes.head_dim,
            ffn_dim=sizes.ffn_dim,
            text_dim=sizes.text_dim,
            vace_layers=list(range(0, sizes.layers, 2)),
        )
    assert sum(parameter.numel() for parameter in model.parameters()) == 2_153_972_032


def test_a_codec_that_is_not_trained_is_said_so(folder: Path) -> None:
    with pytest.raises(GnvcError, match="no trained codec yet"):
        gnvc_vd.load(folder)


def test_nano_is_the_same_every_time_and_leaves_the_random_state_alone(nano: Backbone) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = load_backbone("nano")
    assert torch.equal(before, torch.get_rng_state())
    assert same(nano, again) and nano.identity == again.identity


def test_random_weights_at_a_trained_models_sizes_say_so() -> None:
    drawn, tiny = random_backbone(PRESETS["tiny"]), load_backbone("tiny")
    assert "random weights" in drawn.note and tiny.note == PRESETS["tiny"].note == ""
    assert (drawn.vae_preset.base_dim, drawn.dit_preset) == (tiny.vae_preset.base_dim, tiny.dit_preset)
    assert not same(drawn, tiny)


def test_the_transformer_is_as_random_whatever_vae_is_made_beside_it(nano: Backbone) -> None:
    wider = replace(PRESETS["nano"], vae=replace(PRESETS["nano"].vae, base_dim=16))
    found, other = nano.dit.model.state_dict(), random_backbone(wider).dit.model.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in found.items())


def test_a_saved_folder_loads_to_the_same_output(nano: Backbone, folder: Path) -> None:
    loaded = load_backbone(folder)
    assert same(nano, loaded) and "mean nothing" in loaded.note
    assert loaded.identity == load_backbone(folder).identity != nano.identity


def test_bfloat16_is_near_and_keeps_what_wan_keeps_in_float32(nano: Backbone) -> None:
    low = load_backbone("nano", Options(transformer=torch.bfloat16))
    x = torch.randn(1, 16, 2, 4, 6)
    assert 0 < (low.dit.velocity(x, 0.3) - nano.dit.velocity(x, 0.3)).abs().max() < 0.1
    assert low.dit.model.scale_shift_table.dtype == torch.float32
    assert low.dit.model.proj_out.weight.dtype == torch.bfloat16


def test_a_transformer_in_bfloat16_leaves_no_float32_file_mapped(nano: Backbone, folder: Path) -> None:
    def is_mapped() -> bool:
        return str(folder / "dit.safetensors") in Path("/proc/self/maps").read_text()

    exact = load_backbone(folder)
    assert torch.equal(exact.dit.model.proj_out.weight, nano.dit.model.proj_out.weight) and is_mapped()
    del exact
    low = load_backbone(folder, Options(transformer=torch.bfloat16))
    assert torch.equal(low.dit.model.proj_out.weight, nano.dit.model.proj_out.weight.bfloat16())
    assert torch.equal(low.dit.model.scale_shift_table, nano.dit.model.scale_shift_table)
    gc.collect()
    assert not is_mapped()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda d: d | {"_target_": "os.system"}, "unknown key '_target_'"),
        (lambda d: d | {"format": 2}, "format 2"),
        (lambda d: _set(d, "files", {"../../x.safetensors": "0"}), "outside the folder"),
        (lambda d: _set(d, "files", {"weights.pkl": "0"}), "are .safetensors files"),
        (lambda d: _set(d, "location", "/etc"), "no preset or hub id"),
        (lambda d: _set(d, "dit", d["backbone"]["dit"] | {"layers": 5000}), "not between 1 and 100"),
        (lambda d: _set(d, "dit", d["backbone"]["dit"] | {"layers": 10**12}), "should be int"),
        (lambda d: _set(d, "dit", d["backbone"]["dit"] | {"layers": 3}), "do not fit the described network"),
    ],
)
def test_a_malicious_description_is_refused(folder: Path, edit, sentence: str) -> None:  # type: ignore[no-untyped-def]
    path = folder / "model.json"
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    with pytest.raises(GnvcError, match=sentence):
        _ = load_backbone(folder).dit


def _set(description: dict, key: str, value: object) -> dict:  # type: ignore[type-arg]
    return description | {"backbone": description["backbone"] | {key: value}}


def test_changed_weights_and_pickles_are_refused(folder: Path) -> None:
    path = folder / "dit.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(GnvcError, match="is not the stated"):
        load_backbone(folder)
    path.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(GnvcError, match="is not the stated"):
        load_backbone(folder)


def test_what_is_not_there_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNVC_VD_WEIGHTS", str(tmp_path))
    with pytest.raises(GnvcError, match=r"fetch_weights\.py wan2\.1-1\.3b"):
        load_backbone("wan2.1-1.3b")
    with pytest.raises(GnvcError, match="no such preset or folder"):
        load_backbone("wan9")
    with pytest.raises(GnvcError, match="neither a model folder"):
        load_backbone(tmp_path)
