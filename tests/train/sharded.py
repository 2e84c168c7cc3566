"""Two processes train with the transformer divided over them, or whole: torchrun … -m tests.train.sharded NAME FOLDER …

Beside each run is left what its parts computed in, and the bits of every clip.
"""

import json
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from gnvc_vd.learned.bottleneck.base import Bottleneck, BottleneckOutput
from gnvc_vd.presets import AdaptorPreset
from gnvc_vd.train.loop import train
from gnvc_vd.train.settings import Training
from tests.train.runs import SETTINGS, clips, training

SEEN = "seen.json"
LATENT, SHORT, PRIOR = (training(phase, n, 4, frames=5) for phase, n in (("latent", 4), ("latent", 2), ("prior", 2)))
LARGE = replace(  # as a large model is trained: a frozen backbone in bfloat16, blocks computed again for the gradient
    SHORT,
    model=replace(SHORT.model, bfloat16=True, checkpointing=True),
    adaptor=AdaptorPreset(layers=(1,), lora_rank=2),
)


def run(told: Training, **settings: Any) -> Training:
    """Validated in the middle and at the end."""
    return replace(told, run=replace(SETTINGS, validate_every=2, **settings))


RUNS = {
    "whole": run(LATENT),
    "sharded": run(LATENT, shard=True),
    "passes": run(SHORT, shard=True, accumulate=2),
    "prior": run(PRIOR),
    "prior-sharded": run(PRIOR, shard=True),
    "prior-compiled": run(PRIOR, shard=True, compile=True),
    "bf16": run(LARGE, precision="bf16"),
    "bf16-sharded": run(LARGE, shard=True, precision="bf16"),
}
OF_FOUR = {"replicas": run(SHORT, shard=True, replicas=2)}  # by four processes


def take_lists() -> None:
    """Let AdamW take whole lists of parameters, which by itself it does on a GPU only."""
    vars(import_module("torch.optim.optimizer"))["_get_foreach_kernels_supported_devices"] = lambda: ["cpu"]


def watch(seen: dict[str, list[object]]) -> None:
    """Note what the latent codec and the blocks compute with, while they train."""

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(module, Bottleneck) and isinstance(output, BottleneckOutput):
            kinds = {one.dtype for one in [*module.parameters(), *output]}
            seen.setdefault("codec", []).append(sorted(map(str, kinds)))
            seen.setdefault("bits", []).append(output.bits.tolist())
        if hasattr(module, "attn1") and torch.is_grad_enabled():  # a block, of either kind
            weights = (module.attn1.to_k.weight, module.ffn.net[2].weight, module.scale_shift_table)
            seen.setdefault("blocks", []).append([str(one.dtype) for one in weights])

    nn.modules.module.register_module_forward_hook(note)


if __name__ == "__main__":
    torch.set_num_threads(1)
    take_lists()
    Accelerator.end_training = lambda self: None  # the next training needs the other process too
    seen: dict[str, list[object]] = {}
    watch(seen)
    for name, folder in zip(sys.argv[1::2], map(Path, sys.argv[2::2]), strict=True):
        AcceleratorState._reset_state()
        seen.clear()
        train((RUNS | OF_FOUR)[name], clips, clips, folder)
        if torch.distributed.get_rank() == 0:
            (folder / SEEN).write_text(json.dumps(seen))
    torch.distributed.destroy_process_group()
