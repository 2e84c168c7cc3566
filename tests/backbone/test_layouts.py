"""Diffusers' layout and Wan's own, made from random weights, load to the numbers of the modules they came from."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from gnvc_vd.backbone.dit import WanDit, build_dit
from gnvc_vd.backbone.encoders import embed
from gnvc_vd.backbone.wan_vae import WanVae, build_vae
from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.common.foreign import read_foreign
from gnvc_vd.conventions import GnvcError
from gnvc_vd.presets import PRESETS, WAN_VAE, DitPreset, VaePreset
from tests.conftest import Script

VAE = VaePreset(8, WAN_VAE.latents_mean, WAN_VAE.latents_std)
DIT = DitPreset(layers=2, heads=2, head_dim=16, ffn_dim=64, text_dim=8, text_tokens=512, freq_dim=32)
TEXT = torch.randn(1, DIT.text_dim, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def modules() -> tuple[WanVae, WanDit]:
    torch.manual_seed(3)
    vae, dit = WanVae(build_vae(VAE)), WanDit(build_dit(DIT), DIT, TEXT)
    return vae.eval().requires_grad_(False), dit.eval().requires_grad_(False)


def assert_same(folder: Path, modules: tuple[WanVae, WanDit]) -> None:
    loaded = load_backbone(folder)
    assert (loaded.vae_preset, loaded.dit_preset) == (VAE, DIT)
    x = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(4))
    assert torch.equal(loaded.vae.decode(x), modules[0].decode(x))
    assert torch.equal(loaded.dit.velocity(x, 0.4), modules[1].velocity(x, 0.4))


@pytest.fixture
def diffusers_folder(tmp_path: Path, modules: tuple[WanVae, WanDit]) -> Path:
    modules[0].model.save_pretrained(tmp_path / "vae")
    modules[1].model.save_pretrained(tmp_path / "transformer", max_shard_size="60KB")
    save_file({"text": TEXT}, tmp_path / "empty_prompt.safetensors")
    return tmp_path


def test_a_sharded_diffusers_folder(diffusers_folder: Path, modules: tuple[WanVae, WanDit]) -> None:
    assert len(list((diffusers_folder / "transformer").glob("*.safetensors"))) > 1
    assert_same(diffusers_folder, modules)


def test_a_preset_name_finds_its_folder(
    diffusers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modules: tuple[WanVae, WanDit]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "someone--model@main").symlink_to(diffusers_folder)
    monkeypatch.setenv("GNVC_VD_WEIGHTS", str(home))
    assert load_backbone("someone/model").dit_preset == DIT


def test_a_shard_outside_the_folder_and_a_missing_prompt_are_refused(diffusers_folder: Path) -> None:
    index = diffusers_folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    good = index.read_text()
    index.write_text(json.dumps({"weight_map": {"x": "../vae/diffusion_pytorch_model.safetensors"}}))
    with pytest.raises(GnvcError, match="no safetensors file of its folder"):
        _ = load_backbone(diffusers_folder).dit
    index.write_text(good)
    (diffusers_folder / "empty_prompt.safetensors").unlink()
    with pytest.raises(GnvcError, match=r"embed_prompt\.py"):
        _ = load_backbone(diffusers_folder).dit


def original_dit_name(name: str) -> str:
    """Diffusers' name to Wan's."""
    for theirs, wans in {
        "condition_embedder.time_embedder.linear_1": "time_embedding.0",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2",
        "condition_embedder.text_embedder.linear_1": "text_embedding.0",
        "condition_embedder.text_embedder.linear_2": "text_embedding.2",
        "condition_embedder.time_proj": "time_projection.1",
        "attn1": "self_attn",
        "attn2": "cross_attn",
        ".to_out.0.": ".o.",
        ".to_q.": ".q.",
        ".to_k.": ".k.",
        ".to_v.": ".v.",
        "proj_out": "head.head",
        "ffn.net.0.proj": "ffn.0",
        "ffn.net.2": "ffn.2",
    }.items():
        name = name.replace(theirs, wans)
    name = re.sub(r"norm([23])", lambda found: f"norm{5 - int(found[1])}", name)
    return "head.modulation" if name == "scale_shift_table" else name.replace("scale_shift_table", "modulation")


def original_vae_name(name: str) -> str:
    for theirs, wans in {"post_quant_conv": "conv2", "quant_conv": "conv1"}.items():
        if name.startswith(theirs):
            return name.replace(theirs, wans)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"middle.{2 * int(found[1])}", name)
    name = name.replace("mid_block.attentions.0", "middle.1").replace("down_blocks", "downsamples")
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"upsamples.{4 * int(m[1]) + int(m[2])}", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"upsamples.{4 * int(m[1]) + 3}", name)
    inner = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}
    for theirs, wans in inner.items():
        name = name.replace(f".{theirs}.", f".{wans}.")
    for theirs, wans in {"conv_shortcut": "shortcut", "norm_out": "head.0", "conv_out": "head.2"}.items():
        name = name.replace(theirs, wans)
    return name.replace("conv_in", "conv1")


@pytest.fixture
def original_folder(tmp_path: Path, modules: tuple[WanVae, WanDit]) -> Path:
    vae, dit = (part.model.state_dict() for part in modules)
    torch.save({original_vae_name(name): value for name, value in vae.items()}, tmp_path / "Wan2.1_VAE.pth")
    tensors: dict[str, Tensor] = {original_dit_name(name): value.contiguous() for name, value in dit.items()}
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": DIT.heads, "model_type": "t2v"}))
    save_file({"text": TEXT}, tmp_path / "empty_prompt.safetensors")
    return tmp_path


def test_wans_own_layout(original_folder: Path, modules: tuple[WanVae, WanDit]) -> None:
    assert_same(original_folder, modules)


def test_a_pickle_that_is_more_than_tensors_is_refused(original_folder: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    torch.save({"weight": Attack()}, original_folder / "Wan2.1_VAE.pth")
    with pytest.raises(GnvcError, match="not a plain file of tensors"):
        load_backbone(original_folder)
    (original_folder / "short.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(GnvcError, match="not a plain file of tensors"):
        read_foreign(original_folder / "short.pth")


def test_without_a_network_the_download_says_what_it_wanted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: Script,
) -> None:
    monkeypatch.setenv("GNVC_VD_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, code, sentence in (
        ("wan2.1-1.3b", 1, r"the download failed .*about 6\.2 GB"),
        ("tiny", 2, "comes with the package"),
        ("wan9", 1, "no such preset or folder"),
    ):
        assert script("fetch_weights.py", name) == code
        assert re.search(sentence, capsys.readouterr().err)


def test_what_every_preset_costs_is_listed(capsys: pytest.CaptureFixture[str], script: Script) -> None:
    assert script("fetch_weights.py") == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == [*PRESETS, "metrics"]
    assert "1545.9 M    6.2 GB" in next(line for line in lines if line.startswith("wan2.1-1.3b"))


def save_text_encoder(folder: Path) -> UMT5EncoderModel:
    """One that knows the word "a", with random weights, beside a backbone of text_dim 8."""
    words = Tokenizer(Unigram([("<pad>", 0.0), ("</s>", 0.0), ("a", -1.0)], unk_id=0))
    words.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>").save_pretrained(
        folder / "tokenizer"
    )
    torch.manual_seed(0)
    encoder = UMT5EncoderModel(UMT5Config(vocab_size=3, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2))
    encoder.save_pretrained(folder / "text_encoder")
    return encoder.eval()


def test_the_empty_prompt_is_embedded_by_the_text_encoder(tmp_path: Path, script: Script) -> None:
    encoder = save_text_encoder(tmp_path)
    assert script("embed_prompt.py", tmp_path) == 0
    text = load_file(tmp_path / "empty_prompt.safetensors")["text"]
    expected = encoder(torch.tensor([[1]])).last_hidden_state[0]
    assert text.shape == (1, 8) and (text - expected).abs().max() < 0.05  # the encoder runs in bfloat16
    found, spoken = embed(tmp_path, "aa"), encoder(torch.tensor([[2, 2, 1]])).last_hidden_state[0]
    assert found.shape == (3, 8) and (found - spoken).abs().max() < 0.05


def test_words_reach_the_transformer_in_the_empty_prompts_place(modules: tuple[WanVae, WanDit]) -> None:
    dit = modules[1]
    x, words = torch.randn(1, 16, 1, 4, 4, generator=torch.Generator().manual_seed(5)), torch.randn(3, DIT.text_dim)
    told = WanDit(dit.model, DIT, words).velocity(x, 0.4)
    assert torch.equal(dit.velocity(x, 0.4, text=words), told) and not torch.equal(dit.velocity(x, 0.4), told)
    assert torch.equal(dit.velocity(x, 0.4, text=TEXT), dit.velocity(x, 0.4))
    for wrong in (torch.zeros(513, 8), torch.zeros(2, 9)):
        with pytest.raises(GnvcError, match="takes up to 512 × 8"):
            dit.velocity(x, 0.4, text=wrong)
