"""Embed the empty prompt with the text encoder and store it: python scripts/embed_prompt.py FOLDER

FOLDER is a diffusers folder with tokenizer/ and text_encoder/ (fetch_weights.py --text-encoder). The result is
FOLDER/empty_prompt.safetensors; afterwards the text encoder may be deleted.
"""

import argparse
import sys
from pathlib import Path

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

from safetensors.torch import save_file

from gnvc_vd.backbone.encoders import embed
from gnvc_vd.backbone.sources import EMPTY_PROMPT
from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import GnvcError, UsageError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    target = arguments.folder / EMPTY_PROMPT
    try:
        text = embed(arguments.folder, "")
        with replacing(target) as part:
            save_file({"text": text.contiguous()}, part)
    except GnvcError as error:
        print(f"embed_prompt: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(target)
    return 0


raise SystemExit(main())
