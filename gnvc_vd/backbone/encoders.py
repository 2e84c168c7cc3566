"""Wan's condition encoders, from diffusers' folders: UMT5 for prompts, CLIP for given frames.

prompt ─tokenizer/─▶ text_encoder/ ─▶ tokens × text_dim
frames ─image_processor/─▶ image_encoder/ ─▶ hidden_states[-2], 257 × image_dim for each frame

Every weight must be in the files; transformers would initialise missing ones at random, with a warning alone.
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

CLIP_TOKENS = 257  # of one image: 16 × 16 patches and the class token
IMAGE_ENCODER = "image_encoder"
UNREADABLE = OSError, ValueError, TypeError, ArithmeticError, RuntimeError, SafetensorError  # raised for bad files


class NoTextEncoderError(GnvcError):
    """A caption was given, but the model has no text encoder."""


def embed(folder: Path, prompt: str) -> Tensor:
    """Embed a prompt with Wan's text encoder (UMT5): tokens × text_dim, without padding.

    The encoder is loaded from `folder`, which holds tokenizer/ and text_encoder/, and is not kept.
    """
    from transformers import AutoTokenizer, UMT5EncoderModel

    for needed in ("tokenizer", "text_encoder"):
        if not (folder / needed).is_dir():
            raise NoTextEncoderError(
                f"{folder / needed}: missing; `scripts/fetch_weights.py --text-encoder` fetches it"
            )
    tokenizer = _read(AutoTokenizer, folder / "tokenizer", trust_remote_code=False)
    encoder = load_pretrained(UMT5EncoderModel, folder / "text_encoder", torch.bfloat16)
    tokens = tokenizer([prompt], add_special_tokens=True, return_tensors="pt")
    with torch.inference_mode():
        text: Tensor = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state[0].float()
    return text


class ImageEncoder:
    """Wan's CLIP image encoder, always in float32 on the CPU, so that encoder and decoder get the same embedding.

    Args:
        folder: holds image_encoder/ and image_processor/.
        image_dim: width of the embedding that the transformer takes.
    """

    def __init__(self, folder: Path, image_dim: int) -> None:
        from transformers import CLIPImageProcessor, CLIPVisionModel

        self._processor = _read(CLIPImageProcessor, folder / "image_processor")
        self._model = load_pretrained(CLIPVisionModel, folder / IMAGE_ENCODER, torch.float32)
        config = self._model.config
        tokens = (config.image_size // config.patch_size) ** 2 + 1
        if (tokens, config.hidden_size) != (CLIP_TOKENS, image_dim):
            raise GnvcError(
                f"{folder / IMAGE_ENCODER}: its embedding of a picture is {tokens} × {config.hidden_size}, and the "
                f"transformer takes {CLIP_TOKENS} × {image_dim}"
            )

    def embed(self, frames: Sequence[Frame]) -> Tensor:
        """Embed frames H W 3: 1 × (frames · 257) × image_dim."""
        from PIL import Image

        pixels = self._processor(images=[Image.fromarray(frame) for frame in frames], return_tensors="pt")
        with torch.inference_mode():
            seen: Tensor = self._model(pixels.pixel_values, output_hidden_states=True).hidden_states[-2]
        return seen.flatten(0, 1)[None]


def load_pretrained(model_class: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load a model of transformers from its folder, whose tensors must be exactly the model's."""
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

    require(folder.is_dir(), f"{folder}: missing; `python scripts/fetch_weights.py` fetches it", GnvcError)
    try:
        with _hide_progress():
            return part.from_pretrained(folder, local_files_only=True, **options)
    except (*UNREADABLE, StrictDataclassError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise GnvcError(f"{folder}: cannot be read ({said})") from error


@contextmanager
def _hide_progress() -> Iterator[None]:
    """Silence transformers' progress bars and its report of missing weights, for which there is an error here."""
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
