"""Small trainings that several tests share, and a process of a two-process one."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.procedural import ProceduralClips
from gnvc_vd.train.checkpoint import EMA, MEMORY, OPTIMISER, WEIGHTS
from gnvc_vd.train.loop import Sources, Trainer, train
from gnvc_vd.train.settings import Model, Optimisation, Rate, RunSettings, Span, Stage, Training, Weights

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
SETTINGS = RunSettings(cpu=True, log_every=1, save_every=2, qualities=(32,), clips=1)
PHASES = {
    "vae": Stage("vae", ("encoder", "decoder"), (), Weights(absolute=1, squared=0.5, divergence=1e-6, temporal=0.5)),
    "prior": Stage("prior", ("dit",), (), Weights(cfm=1), conditions=(0.4, 0.3, 0.3)),
    "warmup": Stage("codec", ("codec",), (), Weights(decoded=1)),
    "latent": Stage("codec", ("codec", "adaptor"), (), Weights(decoded=1, refined=1, cfm=1), unrolled=2,
                    continuation=0.5),
    "pixel": Stage("codec", ("codec", "adaptor"), (), Weights(decoded=1, refined=1, pixel=1), unrolled=1,
                   continuation=0.5),
    "opposed": Stage("vae", ("decoder",), (), Weights(absolute=1, lattice=5, adversarial=0.5)),
    "light": Stage("vae", ("decoder",), (), Weights(absolute=1, temporal=0.5, features=0.1)),
}  # fmt: skip
MODELS = {"light": Model("nano", teacher="nano", light_decoder=8)}


def training(
    phase: str, steps: int = 10, batch: int = 2, frames: int = 9, size: int = 32, run: RunSettings = SETTINGS
) -> Training:
    stage = replace(
        PHASES[phase],
        spans=(Span(steps, frames, size, batch),),
        optimisation=Optimisation(rate=1e-3, schedule="cosine", warmup=2),
    )
    return Training(f"test-{phase}", MODELS.get(phase, Model("nano", begin="random")), stage, Rate(), run=run)


def clips(spec: ClipSpec) -> ProceduralClips:
    return ProceduralClips(spec)


def stopped_after(told: Training, steps: int, folder: Path, sources: Sources = clips) -> None:
    """The same training, ended early as by a stop after a save."""
    trainer = Trainer(told, folder)
    original = trainer._step

    def step(passes: object) -> dict[str, float]:
        if trainer.step == steps:
            trainer.checkpoints.wait()
            raise KeyboardInterrupt
        return original(passes)  # type: ignore[arg-type]

    trainer._step = step  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        trainer.run(sources, None)


def tensors(checkpoint: Path) -> dict[str, Tensor]:
    """Everything a checkpoint holds."""
    moments = torch.load(checkpoint / OPTIMISER, weights_only=True)
    flat = {f"{name} {key}": value for name, one in moments.items() for key, value in one.items()}
    parts = [load_file(checkpoint / name) for name in (WEIGHTS, EMA, MEMORY) if (checkpoint / name).is_file()]
    return flat | {f"{place} {name}": value for place, part in enumerate(parts) for name, value in part.items()}


def equal(one: Path, other: Path) -> bool:
    first, second = tensors(one), tensors(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def torchrun(module: str, *arguments: object, processes: int = 2) -> None:
    """Processes over gloo."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command += ["-m", module]
    done = subprocess.run(
        [*command, *map(str, arguments)], env=ENVIRONMENT, check=False, capture_output=True, timeout=600
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("step-*"))


def refuse_copied_gradients(optimiser: Optimizer, *_: object) -> None:
    """Each gradient is a view into what the processes exchange."""
    gradients = [one.grad for group in optimiser.param_groups for one in group["params"] if one.grad is not None]
    assert gradients and all(one._is_view() for one in gradients)


if __name__ == "__main__":  # python or torchrun … -m tests.train.runs PHASE STEPS BATCH FOLDER
    torch.set_num_threads(1)
    phase, steps, batch, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    if "WORLD_SIZE" in os.environ:  # torchrun's
        register_optimizer_step_pre_hook(refuse_copied_gradients)
    train(training(phase, steps, batch), clips, None, folder)
    threads = [one.read_text().strip() for one in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in name for name in threads), threads  # one may abort a process that ends
