"""One process of a training whose refiner is sharded: torchrun … -m tests.train.sharded FOLDER."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from gnvc_vd.train.checkpoint import Checkpoints, State, snapshot
from gnvc_vd.train.ema import Ema
from gnvc_vd.train.loop import CHECKPOINTS, identity
from gnvc_vd.train.setup import build
from gnvc_vd.train.stages import CodecStage, Step
from tests.train.runs import batch_of, training

STEPS = 2

if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))
    told = training("latent", 4)
    told = replace(told, stage=replace(told.stage, optimisation=replace(told.stage.optimisation, clip=1e9)))
    stage = build(told).stage
    assert isinstance(stage, CodecStage)
    model = stage.refiner.dit.model
    for block in [*model.blocks, *model.vace_blocks]:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    trained = [parameter for parameter in stage.parameters() if parameter.requires_grad]
    assert any(isinstance(parameter, DTensor) for parameter in trained)
    optimisation = told.stage.optimisation
    optimiser = torch.optim.AdamW(trained, lr=optimisation.rate, weight_decay=optimisation.weight_decay)
    ema = Ema(stage, optimisation.ema)
    for number in range(STEPS):  # every process has the whole batch, so what is not sharded needs no exchange
        numbers, clips = batch_of(told, number)
        optimiser.param_groups[0]["lr"] = optimisation.rate_at(number, told.stage.steps)
        optimiser.zero_grad()
        stage(clips, Step(told.seed, number, told.stage.steps, numbers)).total.backward()
        optimiser.step()
        ema.update()
    taken = snapshot(stage, optimiser, ema, State(STEPS, identity(told), ema.updates))
    if dist.get_rank() == 0:
        checkpoints = Checkpoints(Path(sys.argv[1]) / CHECKPOINTS, keep=2)
        checkpoints.save(taken)
        checkpoints.wait()
    dist.barrier()
    dist.destroy_process_group()
