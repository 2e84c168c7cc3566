"""Wan's encoders of what conditions it, as diffusers' folders hold them: a prompt's (UMT5) and given frames' (CLIP).

prompt ─tokenizer/─▶ text_encoder/ ─▶ tokens × text_dim
frames ─image_processor/─▶ image_encoder/ ─▶ hidden_states[-2], 257 × image_dim of each frame

Every weight must be in the files: transformers would draw those that are missing at random, with a warning.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

import gnvc_vd.common.compat  # noqa: F401 - before transformers imports torchvision
from gnvc_vd.backbone.folder import BOUNDS
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import Frame, GnvcError

CLIP_TOKENS = 257  # of one image: 16 × 16 patches and the class
IMAGE_ENCODER = "image_encoder"
UNREADABLE = OSError, ValueError, TypeError, ArithmeticError, RuntimeError, SafetensorError  # what a bad file raises


class NoTextEncoderError(GnvcError):
    """A caption, and nothing here that understands it."""


def embed(folder: Path, prompt: str) -> Tensor:
    """A prompt by Wan's text encoder (UMT5): tokens × text_dim, without padding.

    FOLDER/tokenizer and FOLDER/text_encoder are read for it, and dropped afterwards.
    """
    from transformers import AutoTokenizer, UMT5EncoderModel

    for needed in ("tokenizer", "text_encoder"):
        if not (folder / needed).is_dir():
            raise NoTextEncoderError(f"{folder / needed}: missing; `fetch_weights.py --text-encoder` brings it")
    tokenizer = _read(AutoTokenizer, folder / "tokenizer", trust_remote_code=False)
    encoder = load_pretrained(UMT5EncoderModel, folder / "text_encoder", torch.bfloat16)
    tokens = tokenizer([prompt], add_special_tokens=True, return_tensors="pt")
    with torch.inference_mode():
        text: Tensor = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state[0].float()
    return text


class ImageEncoder:
    """Wan's CLIP, in float32 and on the CPU wherever the rest computes, so that both ends of a stream see the same.

    Args:
        folder: FOLDER/image_encoder and FOLDER/image_processor are read.
        image_dim: the width that the transformer takes.
    """

    def __init__(self, folder: Path, image_dim: int) -> None:
        from transformers import CLIPImageProcessor, CLIPVisionModel

        self._processor = _read(CLIPImageProcessor, folder / "image_processor")
        self._model = load_pretrained(CLIPVisionModel, folder / IMAGE_ENCODER, torch.float32)
        config = self._model.config
        tokens = (config.image_size // config.patch_size) ** 2 + 1
        if (tokens, config.hidden_size) != (CLIP_TOKENS, image_dim):
            raise GnvcError(
                f"{folder / IMAGE_ENCODER}: gives {tokens} × {config.hidden_size} numbers of a picture, and the "
                f"transformer takes {CLIP_TOKENS} × {image_dim}"
            )

    def embed(self, frames: Sequence[Frame]) -> Tensor:
        """Frames H W 3 to 1 (frames · 257) image_dim."""
        from PIL import Image

        pixels = self._processor(images=[Image.fromarray(frame) for frame in frames], return_tensors="pt")
        with torch.inference_mode():
            seen: Tensor = self._model(pixels.pixel_values, output_hidden_states=True).hidden_states[-2]
        return seen.flatten(0, 1)[None]


def load_pretrained(model_class: Any, folder: Path, dtype: torch.dtype) -> Any:
    """One of transformers' models from its folder; each of its weights must be there, and nothing beside them."""
    layers = _read(model_class.config_class, folder).num_hidden_layers
    if not isinstance(layers, int) or not 1 <= layers <= BOUNDS["layers"]:
        raise GnvcError(f"{folder}: {layers} layers are not between 1 and {BOUNDS['layers']}")
    model, found = _read(model_class, folder, use_safetensors=True, dtype=dtype, output_loading_info=True)
    missing, strange = (sorted(found[f"{kind}_keys"]) for kind in ("missing", "unexpected"))
    if missing or strange:
        raise GnvcError(
            f"{folder}: the weights do not fit the described network: {len(missing)} tensors missing, "
            f"{len(strange)} unknown (for one {[*missing, *strange][0]!r})"
        )
    return model.eval().requires_grad_(False)


def _read(part: Any, folder: Path, **options: Any) -> Any:
    from huggingface_hub.errors import StrictDataclassError

    require(folder.is_dir(), f"{folder}: missing; `python scripts/fetch_weights.py` brings it", GnvcError)
    try:
        with _hide_progress():
            return part.from_pretrained(folder, local_files_only=True, **options)
    except (*UNREADABLE, StrictDataclassError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise GnvcError(f"{folder}: cannot be read ({said})") from error


@contextmanager
def _hide_progress() -> Iterator[None]:
    """Without transformers' progress and its report of what is missing, which is said in a sentence here."""
    from transformers.utils import logging

    level, shows = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shows:
            logging.enable_progress_bar()
