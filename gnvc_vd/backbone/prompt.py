"""Prompts to embeddings by Wan's text encoder (UMT5): the empty one's, which is stored, and captions of GVC."""

from pathlib import Path

import torch
from torch import Tensor

from gnvc_vd.backbone.sources import EMPTY_PROMPT
from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import GnvcError


class NoTextEncoderError(GnvcError):
    """A caption, and nothing here that understands it."""


def embed(folder: Path, prompt: str) -> Tensor:
    """Tokens × text_dim, without padding, by FOLDER/tokenizer and FOLDER/text_encoder, which are dropped afterwards."""
    from transformers import AutoTokenizer, UMT5EncoderModel

    for needed in ("tokenizer", "text_encoder"):
        if not (folder / needed).is_dir():
            raise NoTextEncoderError(f"{folder / needed}: missing; `fetch_weights.py --text-encoder` brings it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", trust_remote_code=False)
        encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder", use_safetensors=True, dtype=torch.bfloat16)
    except (OSError, ValueError) as error:
        raise GnvcError(f"{folder}: the text encoder cannot be read ({str(error).splitlines()[0]})") from error
    tokens = tokenizer([prompt], add_special_tokens=True, return_tensors="pt")
    with torch.inference_mode():
        text: Tensor = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state[0].float()
    return text


def embed_empty_prompt(folder: Path) -> Path:
    """Write FOLDER/empty_prompt.safetensors."""
    from safetensors.torch import save_file

    text = embed(folder, "")
    with replacing(folder / EMPTY_PROMPT) as part:
        save_file({"text": text.contiguous()}, part)
    return folder / EMPTY_PROMPT
