"""What a preset needs, and its download: python scripts/fetch_weights.py [NAME …]

NAME is a preset or a hub id (org/name or org/name@revision). Files go to $GNVC_VD_WEIGHTS, or to a cache folder; an
interrupted download goes on where it stopped. Only safetensors and JSON are fetched.
"""

import argparse
import sys

from gnvc_vd.backbone.fetch import fetch
from gnvc_vd.backbone.plan import plan
from gnvc_vd.conventions import GnvcError
from gnvc_vd.presets import PRESETS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to fetch; without any, only the list is printed")
    parser.add_argument("--text-encoder", action="store_true", help="also what embed_prompt.py needs")
    arguments = parser.parse_args()
    if not arguments.names:
        print(table())
        return 0
    try:
        for name in arguments.names:
            print(fetch(name, arguments.text_encoder))
    except GnvcError as error:
        print(f"fetch_weights: {error}", file=sys.stderr)
        return 1
    return 0


def table() -> str:
    lines = ["preset             parameters  download  weights bf16  weights f32   from"]
    for name, preset in PRESETS.items():
        cost = plan(preset)
        download = f"{cost.download_bytes / 1e9:6.1f} GB" if preset.source else "  (none)"
        origin = preset.source.repository if preset.source else preset.note
        lines.append(
            f"{name:17} {cost.parameters / 1e6:9.1f} M {download}  {cost.memory_bytes(2) / 1e9:9.2f} GB "
            f"{cost.memory_bytes(4) / 1e9:9.2f} GB   {origin}"
        )
    return "\n".join(lines)


raise SystemExit(main())
