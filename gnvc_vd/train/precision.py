"""Which precision `run.precision=auto` is, measured once in a training's life, in a second; and sums in one order.

A CPU with units for bfloat16 is up to three times as fast with them where a step is large products, and slower where it
is many small ones. So both are tried on the stage that will train; checkpoints say what was found. Layers that decide
symbols are float32 in either.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from gnvc_vd.backbone.decoder_precision import WORTH, has_units
from gnvc_vd.bitstream import gop
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import LATENT_CHANNELS, SPATIAL_STRIDE, GnvcError
from gnvc_vd.train.adversary import adversary_state
from gnvc_vd.train.checkpoint import read_state
from gnvc_vd.train.setup import AnyStage
from gnvc_vd.train.stages.codec_stage import CodecStage
from gnvc_vd.train.stages.stage import Step

SECONDS = 1.0  # of trying
FRAMES, SIZE = 9, 64  # of the clip that is tried, at most


@contextmanager
def in_one_order(wanted: bool) -> Iterator[None]:
    """Where it is wanted, kernels that sum in any order are not used; one that has no other raises what says so.

    A CPU has none of them. cuBLAS reads its setting when it is first used.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if "determinis" not in str(error):
            raise
        raise GnvcError(f"run.deterministic=true: {str(error).partition('. ')[0]}") from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark


def precision_of(stage: AnyStage, latest: Path | None) -> str:
    """no or bf16, the same in all processes; a training goes on in its own.

    Args:
        latest: the training's newest checkpoint.
    """
    run = stage.settings.run
    kept = None if latest is None else read_state(latest).precision
    other = f"run.precision={run.precision} is given, but this training has run.precision={kept}: give that, or auto"
    require(run.precision == "auto" or kept in (None, run.precision), other)
    if run.precision != "auto" or kept is not None:
        return kept or run.precision
    processes = PartialState(cpu=run.cpu)
    choice = [fastest_precision(stage, processes.device) if processes.is_main_process else ""]
    return str(broadcast_object_list(choice)[0]) if processes.num_processes > 1 else choice[0]


def fastest_precision(stage: AnyStage, device: torch.device) -> str:
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    if device.type != "cpu" or not has_units():
        return "no"
    float32, bfloat16 = seconds_of_passes(stage)
    return "bf16" if bfloat16 < WORTH * float32 else "no"


def seconds_of_passes(stage: AnyStage) -> tuple[float, float]:
    """Forward and backward of one small clip in float32 and in bfloat16, the best of as many as a second holds.

    By the process's own time: a machine may be busy with other things.
    """
    span = stage.stage.spans[0]
    memory = adversary_state(stage)  # of clips of the training's size
    frames, size = min(span.frames, FRAMES), span.size if memory else min(span.size, SIZE)
    clip = torch.zeros(1, 3, frames, size, size, dtype=torch.uint8)
    before = {name: one.clone() for name, one in memory.items()}
    if isinstance(stage, CodecStage) and not stage.stage.weights.of_pictures:  # which may train on stored latents
        side = size // SPATIAL_STRIDE
        clip = torch.zeros(1, LATENT_CHANNELS, gop.latents_of(frames), side, side)
    best = [float("inf"), float("inf")]
    for half in (0, 1):
        _pass(stage, clip, half)  # the first is slower
    begun = time.process_time()
    while float("inf") in best or time.process_time() - begun < SECONDS:
        for half in (0, 1):
            best[half] = min(best[half], _pass(stage, clip, half))
    stage.zero_grad(set_to_none=True)
    for name, one in memory.items():
        one.copy_(before[name])
    return best[0], best[1]


def _pass(stage: AnyStage, clip: torch.Tensor, half: int) -> float:
    begun = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=bool(half)):
        loss = stage(clip, Step(stage.settings.seed, 0, 1, [0])).total
    loss.backward()
    return time.process_time() - begun
