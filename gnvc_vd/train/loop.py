"""The one training loop: Accelerate's devices and processes, our order, our checkpoints.

    for each span of clips:  for each step:
        passes ─▶ losses ─▶ gradients, summed over passes and averaged over processes ─▶ clipped ─▶ AdamW ─▶ average

Every step is a function of the seed and its number. So a training that was stopped goes on as if it had not been.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from gnvc_vd.common.files import replacing
from gnvc_vd.common.strict import stated
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.samples import Clips, Loading
from gnvc_vd.train.adversary import memory_of
from gnvc_vd.train.checkpoint import Checkpoints, State, restore, snapshot
from gnvc_vd.train.ema import Ema
from gnvc_vd.train.log import Log
from gnvc_vd.train.plan import Share, batches
from gnvc_vd.train.settings import RunSettings, Span, Training
from gnvc_vd.train.setup import build
from gnvc_vd.train.stages.codec_stage import START, CodecStage
from gnvc_vd.train.stages.stage import Losses, Step

CHECKPOINTS = "checkpoints"
MEASURED_CLIPS = 128  # that it was measured on
Sources = Callable[[ClipSpec], Clips]


def train(training: Training, sources: Sources, validation: Sources | None, folder: Path) -> Path:
    """Run, or go on with, a training; returns the last checkpoint's folder."""
    return Trainer(training, folder).run(sources, validation)


class Trainer:
    """A training's modules and where it stands."""

    def __init__(self, training: Training, folder: Path) -> None:
        self.training, self.folder = training, folder
        self.accelerator = _accelerator(training.run, folder)
        self.loading = Loading(training.run.workers, self.accelerator.device, training.run.memory)
        self.stage = build(training)
        if training.run.shard:
            from gnvc_vd.train.sharding import shard

            self.module = shard(self.stage, self.accelerator)
        else:
            self.module = self.accelerator.prepare(self.stage)
        told = training.stage.optimisation
        self.ema = Ema(self.stage, told.ema)  # of parameters that may now be sharded
        betas, decay = (told.beta_1, told.beta_2), told.weight_decay
        self.optimiser = torch.optim.AdamW(self.ema.live.values(), told.rate, betas, weight_decay=decay)
        self.prepared = self.accelerator.prepare(self.optimiser)
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, training.run.keep)
        self.step, latest = 0, self.checkpoints.latest()
        if latest is not None:
            if isinstance(self.stage, CodecStage):
                self.stage.go_on(folder)
            self.step = restore(self.optimiser, self.ema, latest, identity(training), memory_of(self.stage)).step
        self.accelerator.wait_for_everyone()

    def run(self, sources: Sources, validation: Sources | None) -> Path:
        stage, run = self.training.stage, self.training.run
        share = Share(stage, self.accelerator.process_index, self.accelerator.num_processes, run.accumulate)
        log = Log(self.folder, self.training, self.accelerator, self.step)
        clips = validation_clips(validation, self.training, run.clips) if validation is not None else []
        if self.step == 0 and isinstance(self.stage, CodecStage) and self.stage.begin is not None:
            self._begin(self.stage, sources)
            self._judge(log, clips)
        started, first = time.perf_counter(), self.step
        with tqdm(
            total=stage.steps, initial=self.step, desc=self.training.name, unit="step",
            disable=None if self.accelerator.is_main_process else True,
        ) as progress:  # fmt: skip
            for span, start, stop in stage.spans_in_time():
                start = max(start, self.step)
                if start >= stop:
                    continue
                passes = batches(sources(spec_of(span, self.training)), share, start, stop, self.loading)
                for _ in range(start, stop):
                    figures = self._step([next(passes) for _ in range(run.accumulate)])
                    progress.update()
                    progress.set_postfix(loss=f"{figures['loss']:.4g}")
                    if self.step == 1 or self._due(run.log_every):
                        speed = (self.step - first) / (time.perf_counter() - started)
                        log.figures(self.step, figures | {"clips_per_second": speed * span.batch})
                    score = self._judge(log, clips) if self._due(run.validate_every) else None
                    if self._due(run.save_every):
                        self._save(score)
        self.checkpoints.wait()
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        last = self.checkpoints.latest()
        assert last is not None
        return last

    def _begin(self, stage: CodecStage, sources: Sources) -> None:
        """The latent codec's measured start, on the clips of the first steps; the same in every process."""
        span, start = self.training.stage.spans[0], self.folder / START
        if self.accelerator.is_main_process:
            steps = min(self.training.stage.steps, -(-MEASURED_CLIPS // span.batch))
            share = Share(replace(self.training.stage, spans=(replace(span, steps=steps),)), 0, 1, 1)

            def clips() -> Iterator[Tensor]:
                drawn = batches(sources(spec_of(span, self.training)), share, 0, steps, self.loading)
                yield from (one for _, one in tqdm(drawn, total=steps, desc="measuring", unit="batch", disable=None))

            found = stage.measure(clips)
            with replacing(start) as part:
                save_file({name: one.detach().cpu().contiguous() for name, one in found.items()}, part)
        self.accelerator.wait_for_everyone()
        stage.begin_with(start)
        self.ema.restart()

    def _step(self, passes: Sequence[tuple[list[int], Tensor]]) -> dict[str, float]:
        """One step of the optimiser over all passes of this process's share."""
        optimisation, steps = self.training.stage.optimisation, self.training.stage.steps
        rate = optimisation.rate_at(self.step, steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        found: list[Losses] = []
        for numbers, clips in passes:
            with self.accelerator.accumulate(self.module):
                step = Step(self.training.seed, self.step, steps, numbers)
                loss: Losses = self.module(clips.to(self.accelerator.device, non_blocking=True), step)
                self.accelerator.backward(loss.total)
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.ema.live.values(), optimisation.clip)
                    self._refuse_non_finite(loss, norm, passes)
                self.prepared.step()
                self.prepared.zero_grad()
            found.append(loss)
        self.ema.update()
        self.step += 1
        return self._figures(found) | {"gradient_norm": float(norm), "learning_rate": rate}

    def _figures(self, found: Sequence[Losses]) -> dict[str, float]:
        """Means over passes and processes."""
        names = list(found[0].terms)
        rows = [[one.total.detach(), *(one.terms[name].detach().mean() for name in names)] for one in found]
        mean = self.accelerator.reduce(torch.stack([torch.stack(row) for row in rows]).mean(0), "mean")
        return dict(zip(["loss", *names], mean.tolist(), strict=True))

    def _refuse_non_finite(self, loss: Losses, norm: Tensor, passes: Sequence[tuple[list[int], Tensor]]) -> None:
        """Say which batch broke it, before the weights have moved."""
        if torch.isfinite(norm) and torch.isfinite(loss.total):
            return
        terms = ", ".join(f"{name} {value.detach().mean():.3g}" for name, value in loss.terms.items())
        numbers = [number for batch, _ in passes for number in batch]
        raise GnvcError(
            f"step {self.step}: the loss ({loss.total.item():.3g}) or its gradient (norm {norm.item():.3g}) is not "
            f"finite; {terms}; samples {numbers} of process {self.accelerator.process_index}; no weight was moved"
        )

    def _judge(self, log: Log, clips: Sequence[Tensor]) -> float | None:
        """Validate the averaged weights, on the main process, or on all that each hold a part of them."""
        if not clips or not (self.accelerator.is_main_process or self.training.run.shard):
            return None
        with self.ema.shown(), self.accelerator.autocast():
            self.stage.eval()
            verdict = self.stage.judge(clips)
            self.stage.train()
        log.figures(self.step, {f"validation_{name}": value for name, value in verdict.figures.items()})
        log.pictures(self.step, verdict.pictures)
        return verdict.score

    def _save(self, score: float | None) -> None:
        state = State(self.step, identity(self.training), self.ema.updates, score)
        taken = snapshot(self.optimiser, self.ema, self.accelerator.is_main_process, memory_of(self.stage))
        if self.accelerator.is_main_process:
            self.checkpoints.save(state, taken)

    def _due(self, every: int) -> bool:
        return self.step == self.training.stage.steps or (every > 0 and self.step % every == 0)


def spec_of(span: Span, training: Training) -> ClipSpec:
    return ClipSpec(span.frames, span.size, span.size, short_side=span.short_side, seed=training.seed)


def validation_clips(sources: Sources, training: Training, count: int) -> list[Tensor]:
    """Clips that no step draws, shaped as those of the last span and not mirrored."""
    source = sources(replace(spec_of(training.stage.spans[-1], training), flip=False, seed=training.seed + 1))
    return [source[number] for number in range(count)]


def identity(training: Training) -> str:
    """What a checkpoint belongs to: everything but the settings of the run and its name."""
    told = {name: value for name, value in stated(training).items() if name not in ("run", "name")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _accelerator(run: RunSettings, folder: Path) -> Accelerator:
    # Short clips leave some parameters unused. Buffers never change, and gloo cannot send int16.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    accelerator = Accelerator(
        cpu=run.cpu,
        mixed_precision=run.precision,
        gradient_accumulation_steps=run.accumulate,
        log_with=list(run.trackers) or None,
        project_dir=folder,
        kwargs_handlers=[ddp],
    )
    if accelerator.distributed_type == DistributedType.FSDP:
        raise UsageError(
            "Accelerate's own sharding would cast the latent codec too; launch as for DDP, with run.shard=true"
        )
    return accelerator
