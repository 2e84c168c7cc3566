"""The empty prompt's embedding, made once from the text encoder: python scripts/embed_prompt.py FOLDER

FOLDER is a diffusers folder with tokenizer/ and text_encoder/ (fetch_weights.py --text-encoder). The result is
FOLDER/empty_prompt.safetensors; afterwards the text encoder may be deleted.
"""

import argparse
import sys
from pathlib import Path

from gnvc_vd.backbone.prompt import embed_empty_prompt
from gnvc_vd.conventions import GnvcError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    try:
        print(embed_empty_prompt(arguments.folder))
    except GnvcError as error:
        print(f"embed_prompt: {error}", file=sys.stderr)
        return 1
    return 0


raise SystemExit(main())
