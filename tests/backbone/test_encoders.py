"""Wan's text and image encoders as its releases hold them, against transformers' numbers and diffusers' pipeline."""

from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPImageProcessor

from gnvc_vd.backbone.encoders import embed
from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.conventions import GnvcError
from gnvc_vd.presets import PRESETS
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.modes import GopCondition
from tests.backbone.image_folders import (
    DIT_FILE,
    IMAGE_FILE,
    WIDTH,
    edit_json,
    edit_tensors,
    image_dit,
    save_image_folder,
)
from tests.backbone.test_layouts import save_text_encoder
from tests.conftest import smooth_clip

FRAMES, HEIGHT, WIDE = 9, 48, 64  # neither square nor the image encoder's size: it resizes and crops
LATENTS = 3


@pytest.mark.parametrize("images", [1, 2])
def test_given_frames_reach_the_transformer_as_in_diffusers_pipeline(tmp_path: Path, images: int) -> None:
    """Its image encoding, mask and latents, its way into the transformer: the velocity is the pipeline's."""
    vae, dit, clip = save_image_folder(tmp_path, images)
    shown = smooth_clip(HEIGHT, WIDE, FRAMES)
    first, last = shown[0], shown[-1] if images == 2 else None
    backbone = load_backbone(tmp_path)
    assert backbone.dit_preset == image_dit(images)

    processor = CLIPImageProcessor.from_pretrained(tmp_path / "image_processor")
    pipeline = WanImageToVideoPipeline(None, None, vae, FlowMatchEulerDiscreteScheduler(), processor, clip, dit)
    pictures = [Image.fromarray(frame) for frame in (first, last) if frame is not None]
    x = torch.randn(1, 16, LATENTS, HEIGHT // 8, WIDE // 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        seen = pipeline.encode_image(pictures)
        tensors = [pipeline.video_processor.preprocess(one, HEIGHT, WIDE) for one in pictures]
        _, condition = pipeline.prepare_latents(
            tensors[0], 1, 16, HEIGHT, WIDE, FRAMES, torch.float32, "cpu", None, x, tensors[1] if images == 2 else None
        )
        text = torch.cat([load_file(tmp_path / "empty_prompt.safetensors")["text"], torch.zeros(511, 8)])[None]
        expected = dit(torch.cat([x, condition], dim=1), torch.tensor([700.0]), text, seen, return_dict=False)[0]
        found = Gvc(backbone).velocity(GopCondition(first, last), LATENTS)(x, 0.7)
        other = Gvc(backbone).velocity(GopCondition(shown[4], last), LATENTS)(x, 0.7)
    assert seen.shape == (images, 257, WIDTH)
    own = backbone.image_encoder.embed([one for one in (first, last) if one is not None])
    assert (own[0] - seen.flatten(0, 1)).abs().max() < 1e-5 * seen.abs().max()
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (found - other).abs().max() > 1e-3 * expected.abs().max()


def test_the_picture_itself_is_part_of_what_the_transformer_sees(tmp_path: Path) -> None:
    """Beside its latents: with the condition's channels held, another embedding is another velocity."""
    save_image_folder(tmp_path, 1)
    backbone, shown = load_backbone(tmp_path), smooth_clip(HEIGHT, WIDE, 1)[0]
    condition = GopCondition(shown).condition(backbone, LATENTS)
    assert condition is not None and condition.image is not None
    x = torch.zeros(1, 16, LATENTS, HEIGHT // 8, WIDE // 8)
    with torch.inference_mode():
        found = backbone.dit.velocity(x, 0.5, condition)
        blind = backbone.dit.velocity(x, 0.5, condition._replace(image=None))
    assert (found - blind).abs().max() > 1e-3 * found.abs().max()


def test_image_weights_are_part_of_what_a_stream_says_of_its_model(tmp_path: Path) -> None:
    save_image_folder(tmp_path, 1)
    whole = load_backbone(tmp_path).identity
    edit_tensors(tmp_path / IMAGE_FILE, **{"vision_model.post_layernorm.bias": torch.ones(WIDTH)})
    assert load_backbone(tmp_path).identity != whole


def test_the_norms_that_no_network_reads_are_let_by_and_no_other_tensor_is(tmp_path: Path) -> None:
    save_image_folder(tmp_path, 1)
    assert "blocks.1.attn2.norm_added_q.weight" in load_file(tmp_path / DIT_FILE)
    for strange in ("blocks.2.attn2.norm_added_q.weight", "blocks.0.attn1.norm_added_q.weight"):
        edit_tensors(tmp_path / DIT_FILE, **{strange: torch.ones(32)})
        with pytest.raises(GnvcError, match="0 tensors missing, 1 unknown"):
            _ = load_backbone(tmp_path).dit
        edit_tensors(tmp_path / DIT_FILE, drop=strange)
    _ = load_backbone(tmp_path).dit


def test_an_image_encoder_that_is_not_whole_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_image_folder(tmp_path, 1)
    lost = "vision_model.encoder.layers.1.mlp.fc1.bias"
    kept = load_file(tmp_path / IMAGE_FILE)[lost]
    edit_tensors(tmp_path / IMAGE_FILE, drop=lost)
    capfd.readouterr()
    with pytest.raises(GnvcError, match="1 tensors missing, 0 unknown"):
        _ = load_backbone(tmp_path).image_encoder
    assert capfd.readouterr() == ("", "")  # the sentence alone
    edit_tensors(tmp_path / IMAGE_FILE, **{lost: kept, "vision_model.more": kept + 1})
    with pytest.raises(GnvcError, match="0 tensors missing, 1 unknown"):
        _ = load_backbone(tmp_path).image_encoder
    edit_tensors(tmp_path / IMAGE_FILE, drop="vision_model.more")
    edit_json(tmp_path / "transformer" / "config.json", image_dim=20)
    with pytest.raises(GnvcError, match="picture is 257 × 16, and the transformer takes 257 × 20"):
        _ = load_backbone(tmp_path).image_encoder
    edit_json(tmp_path / "transformer" / "config.json", image_dim=WIDTH)
    (tmp_path / IMAGE_FILE).write_bytes(b"short")
    with pytest.raises(GnvcError, match="image_encoder: cannot be read"):
        _ = load_backbone(tmp_path).image_encoder
    (tmp_path / "image_processor").rename(tmp_path / "elsewhere")
    with pytest.raises(GnvcError, match="image_processor: missing"):
        _ = load_backbone(tmp_path).image_encoder
    (tmp_path / "image_encoder").rename(tmp_path / "away")
    with pytest.raises(GnvcError, match=r"has no image_encoder/, .*fetch_weights"):
        _ = load_backbone(tmp_path).image_encoder
    with pytest.raises(GnvcError, match="has no image_encoder"):
        _ = load_backbone("nano").image_encoder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": 10**9}, "1000000000 layers are not between 1 and 100"),
        ({"num_hidden_layers": 2}, "0 tensors missing, 16 unknown"),
        ({"patch_size": 0}, "image_encoder: cannot be read"),
        ({"hidden_size": "many"}, "image_encoder: cannot be read"),
        ({"hidden_size": 32}, "image_encoder: cannot be read"),
    ],
)
def test_an_image_encoder_of_strange_sizes_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    save_image_folder(tmp_path, 1)
    edit_json(tmp_path / "image_encoder" / "config.json", **change)
    with pytest.raises(GnvcError, match=said):
        _ = load_backbone(tmp_path).image_encoder


def test_wans_text_encoder_is_read_with_the_embedding_that_its_file_holds_once(tmp_path: Path) -> None:
    """Its configuration says that nothing is tied, and its file has `shared` alone."""
    encoder = save_text_encoder(tmp_path)
    edit_json(tmp_path / "text_encoder" / "config.json", tie_word_embeddings=False)
    path = tmp_path / "text_encoder" / "model.safetensors"
    assert "shared.weight" in load_file(path) and "encoder.embed_tokens.weight" not in load_file(path)
    expected = encoder(torch.tensor([[2, 1]])).last_hidden_state[0]
    assert (embed(tmp_path, "a") - expected).abs().max() < 0.05  # in bfloat16


def test_a_text_encoder_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    save_text_encoder(tmp_path)
    edit_tensors(tmp_path / "text_encoder" / "model.safetensors", drop="shared.weight")
    with pytest.raises(GnvcError, match=r"text_encoder: the weights do not fit .* missing, 0 unknown"):
        embed(tmp_path, "a")


def test_presets_of_image_models_are_the_published_configurations() -> None:
    """Of Wan2.1-I2V-14B (480P and 720P) and FLF2V-14B, as their transformer/config.json have them."""
    for name, positions in (("wan2.1-14b-i2v", None), ("wan2.1-14b-flf2v", 514)):
        dit = PRESETS[name].dit
        assert (dit.heads, dit.head_dim, dit.layers, dit.ffn_dim, dit.text_dim) == (40, 128, 40, 13824, 4096)
        assert (16 + dit.condition_channels, dit.image_dim, dit.image_tokens, dit.dim) == (36, 1280, positions, 5120)
