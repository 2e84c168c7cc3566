"""The dtype of a decoder's networks: bfloat16 if the device is faster with it, else float32.

It concerns GNVC-VD's VAE decoder and transformer only: symbols are decoded in integers, and GVC's decoder must compute
as its encoder does. Torch tells whether a GPU has units for bfloat16. A CPU may emulate it, which is slower than
float32; so a short trial decides, once, and its outcome is kept in the user's cache for this processor and this version
of torch.
"""

import json
import time
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from gnvc_vd.backbone.sources import user_cache
from gnvc_vd.common.files import write_text
from gnvc_vd.common.provenance import processor
from gnvc_vd.conventions import GnvcError

Precision = Literal["auto", "bf16", "fp32"]
UNITS = ("avx512_bf16", "amx_bf16")  # CPU features with bfloat16 arithmetic, by torch.cpu's names
WORTH = 0.9  # bfloat16 is used if it takes less than this share of float32's time
FILE = "precision.json"
WIDTH, SIDE, FRAMES = 128, 32, 4  # size of the trial convolution: the light VAE's at 256 × 256
ROUNDS = 5


def decoder_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of a decoder's networks on a device."""
    chosen = precision == "bf16"
    if precision == "auto" and device.type == "cuda":
        chosen = torch.cuda.is_bf16_supported(including_emulation=False)
    elif precision == "auto":
        chosen = device.type == "cpu" and cpu_is_faster()
    return torch.bfloat16 if chosen else torch.float32


def has_units() -> bool:
    """Whether this CPU has instructions for bfloat16 and does not emulate it."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in UNITS)


@cache
def cpu_is_faster() -> bool:
    """Whether a convolution is faster in bfloat16 than in float32 on this CPU."""
    if not has_units():
        return False
    path, key = user_cache() / FILE, f"{processor()}, torch {torch.__version__}"
    kept = _read(path)
    if key not in kept:
        float32, bfloat16 = (seconds(kind) for kind in (torch.float32, torch.bfloat16))
        kept[key] = bfloat16 < WORTH * float32
        _keep(path, kept)
    return kept[key]


def seconds(kind: torch.dtype) -> float:
    """CPU seconds of one convolution, the best of a few runs; other processes do not count."""
    layer = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, dtype=kind)
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    x = torch.zeros(FRAMES, WIDTH, SIDE, SIDE, dtype=kind).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    with torch.inference_mode():
        layer(x)
        for _ in range(ROUNDS):
            begun = time.process_time()
            layer(x)
            best = min(best, time.process_time() - begun)
    return best


def _read(path: Path) -> dict[str, bool]:
    """The outcomes in the cache; none if it cannot be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in kept.items() if isinstance(value, bool)} if isinstance(kept, dict) else {}


def _keep(path: Path, kept: dict[str, bool]) -> None:
    """Write the cache; if that fails, the next process runs the trial again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(kept, indent=1) + "\n")
    except (OSError, GnvcError):
        return
