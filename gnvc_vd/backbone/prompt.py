"""The embedding of the empty prompt, from Wan's text encoder (UMT5): the only text the learned codec ever needs."""

from pathlib import Path

import torch

from gnvc_vd.backbone.sources import EMPTY_PROMPT
from gnvc_vd.conventions import GnvcError
from gnvc_vd.files import replacing


def embed_empty_prompt(folder: Path) -> Path:
    """Write FOLDER/empty_prompt.safetensors: tokens × text_dim, without padding."""
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, UMT5EncoderModel

    for needed in ("tokenizer", "text_encoder"):
        if not (folder / needed).is_dir():
            raise GnvcError(f"{folder / needed}: missing; `fetch_weights.py --text-encoder` brings it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", trust_remote_code=False)
        encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder", use_safetensors=True, dtype=torch.bfloat16)
    except (OSError, ValueError) as error:
        raise GnvcError(f"{folder}: the text encoder cannot be read ({str(error).splitlines()[0]})") from error
    tokens = tokenizer([""], add_special_tokens=True, return_tensors="pt")
    with torch.inference_mode():
        text = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state[0].float()
    with replacing(folder / EMPTY_PROMPT) as part:
        save_file({"text": text.contiguous()}, part)
    return folder / EMPTY_PROMPT
