"""Which type a decoder's networks compute in: bfloat16 where the device is faster with it, else float32.

Latents are those of a float32 encoder, the coded world is integers, and GVC's decoder follows its encoder's floats; so
the choice is the VAE's decoder's and the transformer's alone, of GNVC-VD. A GPU has bfloat16 or not. A CPU may have
units for it or imitate it, which is slower than float32: it is tried once, in a moment, and the outcome is kept in the
user's cache for this processor and this torch.
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
UNITS = ("avx512_bf16", "amx_bf16")  # as torch.cpu names them
WORTH = 0.9  # of float32's time: what bfloat16 must stay below
FILE = "precision.json"
WIDTH, SIDE, FRAMES = 128, 32, 4  # of the convolution that is tried: the light VAE's, at 256 × 256
ROUNDS = 5


def decoder_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Of a decoder's networks on a device."""
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else device.type == "cpu" and cpu_is_faster()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def has_units() -> bool:
    """Whether this CPU computes in bfloat16, rather than imitates it."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in UNITS)


@cache
def cpu_is_faster() -> bool:
    """Whether a convolution takes less time in bfloat16 on this processor."""
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
    """Of one convolution, the best of a few, by the process's own time: a machine may be busy with other things."""
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
    """What was kept; nothing where it cannot be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in kept.items() if isinstance(value, bool)} if isinstance(kept, dict) else {}


def _keep(path: Path, kept: dict[str, bool]) -> None:
    """Where the cache cannot be written, the next program tries again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(kept, indent=1) + "\n")
    except (OSError, GnvcError):
        return
