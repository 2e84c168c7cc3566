"""Wan's image-conditioned releases at a small size: the same classes, files, names and quirks, random weights."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from gnvc_vd.backbone.dit import build_dit
from gnvc_vd.backbone.wan_vae import build_vae
from gnvc_vd.presets import WAN_VAE, DitPreset, VaePreset

VAE = VaePreset(8, WAN_VAE.latents_mean, WAN_VAE.latents_std)
WIDTH, SIDE, PATCH = 16, 32, 2  # of the image encoder: 257 tokens, as the real one's 224 and 14 give
DIT_FILE = Path("transformer") / "diffusion_pytorch_model.safetensors"
IMAGE_FILE = Path("image_encoder") / "model.safetensors"


def image_dit(images: int) -> DitPreset:
    """I2V's with one image, FLF2V's with two."""
    sizes = {"layers": 2, "heads": 2, "head_dim": 16, "ffn_dim": 64, "text_dim": 8, "text_tokens": 512, "freq_dim": 32}
    return DitPreset(**sizes, condition_channels=20, image_dim=WIDTH, image_tokens=514 if images == 2 else None)


def save_image_folder(folder: Path, images: int) -> tuple[AutoencoderKLWan, WanTransformer3DModel, CLIPVisionModel]:
    """In diffusers' layout; gives the modules whose weights it holds."""
    torch.manual_seed(images)
    vae, dit = build_vae(VAE), build_dit(image_dit(images))
    clip = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE,
            patch_size=PATCH, projection_dim=8, initializer_range=0.5,
        )
    )  # fmt: skip
    if images == 2:
        dit.condition_embedder.image_embedder.pos_embed.data.normal_()
    for name, parameter in clip.named_parameters():
        if name.endswith("class_embedding") or "position" in name:
            parameter.data.normal_()
    vae.save_pretrained(folder / "vae")
    dit.save_pretrained(folder / "transformer")
    norms = {f"blocks.{layer}.attn2.norm_added_q.weight": torch.ones(32) for layer in range(2)}
    save_file(load_file(folder / DIT_FILE) | norms, folder / DIT_FILE)
    clip.save_pretrained(folder / "image_encoder")
    older = {
        f"vision_model.{name.removeprefix('vision_model.')}": t for name, t in load_file(folder / IMAGE_FILE).items()
    }
    save_file(older, folder / IMAGE_FILE, metadata={"format": "pt"})
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(
        folder / "image_processor"
    )
    save_file({"text": torch.randn(1, 8)}, folder / "empty_prompt.safetensors")
    return vae.eval(), dit.eval(), clip.eval()


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(path: Path, drop: str = "", **added: torch.Tensor) -> None:
    tensors = {name: tensor for name, tensor in load_file(path).items() if name != drop}
    save_file(tensors | added, path, metadata={"format": "pt"})
