"""Two processes begin a sharded training of a large model: torchrun … -m tests.train.loading MODEL FOLDER

Each writes the most private memory that it took beside its imports, what a whole transformer would be, and the
parameters whose part is not the file's.
"""

import json
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor

from gnvc_vd.backbone.dit import keep_in_float32
from gnvc_vd.backbone.sources import DIT_FILE
from gnvc_vd.presets import AdaptorPreset, Preset, preset
from gnvc_vd.train.ema import own_rows
from gnvc_vd.train.loop import Trainer
from gnvc_vd.train.settings import Training
from gnvc_vd.train.setup import dit_of
from gnvc_vd.train.stages.codec_stage import CodecStage
from tests.train.runs import SETTINGS, training

LAYERS = (0, 1, 2, 3)  # of the adaptor


def sizes(layers: int = 4, heads: int = 8, head_dim: int = 128) -> Preset:
    """A transformer of 300 MB in float32 beside nano's VAE."""
    nano, dim = preset("nano"), heads * head_dim
    return replace(nano, dit=replace(nano.dit, layers=layers, heads=heads, head_dim=head_dim, ffn_dim=4 * dim))


def settings(model: Path) -> Training:
    """As a large model is trained: the frozen backbone in bfloat16, the adaptor in float32, not yet trained."""
    one = training("warmup")
    kept = replace(one.model, start=str(model), bfloat16=True)
    return replace(one, model=kept, adaptor=AdaptorPreset(LAYERS), run=replace(SETTINGS, shard=True))


class Watch(threading.Thread):
    """The most bytes that this process has had to itself; pages of mapped files are not among them."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stop, self.before = threading.Event(), anonymous()
        self.most = self.before

    def run(self) -> None:
        while not self.stop.wait(0.002):
            self.most = max(self.most, anonymous())


def anonymous() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return 1024 * int(line.split()[1])


def stored(name: str, file: Path) -> Tensor:
    """What a parameter is to be made of: the file's tensor of the same name, or of the block that was copied."""
    for index, layer in enumerate(LAYERS):
        name = name.replace(f"vace_blocks.{index}.", f"blocks.{layer}.")
    with safe_open(file, "pt") as tensors:
        return cast(Tensor, tensors.get_tensor(name))


if __name__ == "__main__":
    torch.set_num_threads(1)
    model, folder = Path(sys.argv[1]), Path(sys.argv[2])
    watch = Watch()
    watch.start()
    trainer = Trainer(settings(model), folder)
    watch.stop.set()
    watch.join()
    wrong, compared, kept = [], 0, 0
    for name, one in dit_of(cast(CodecStage, trainer.stage)).model.named_parameters():
        kept += one.numel() * one.element_size()
        if "vace_patch_embedding" in name or "proj_in" in name or ("vace" in name and "proj_out" in name):
            continue
        whole = stored(name, model / DIT_FILE)
        whole = whole if name.startswith("vace_") or keep_in_float32(name) else whole.bfloat16()
        mine, part = (one.to_local(), whole[own_rows(one)]) if isinstance(one, DTensor) else (one, whole)
        compared += 1
        if mine.dtype != part.dtype or not torch.equal(mine, part):
            wrong.append(name)
    rank = torch.distributed.get_rank()
    took = {"private": watch.most - watch.before, "whole": kept, "wrong": wrong, "compared": compared}
    (folder.parent / f"{rank}.json").write_text(json.dumps(took))
    torch.distributed.destroy_process_group()
