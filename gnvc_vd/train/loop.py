"""The training loop: Accelerate's devices and processes, our own sample order and checkpoints.

    for each span (steps with clips of one shape):  for each step:
        passes ─▶ losses ─▶ gradients, accumulated over passes and averaged over processes ─▶ clipping ─▶ AdamW ─▶ EMA

Every step depends only on the seed and the step number, so a resumed training continues as if never interrupted; with
a time budget, it uses the remaining time (clock.py). Steps can be CUDA graphs (capture.py).
"""

import gc
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
import torch.distributed.nn.functional  # once there is a process group, its functions would keep it for ever
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor
from tqdm import tqdm

from gnvc_vd.backbone.compiling import compile_blocks
from gnvc_vd.common.files import replacing
from gnvc_vd.common.strict import without_defaults
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.samples import Clips, LoaderOptions
from gnvc_vd.train import capture
from gnvc_vd.train.adversary import adversary_state
from gnvc_vd.train.checkpoint import Checkpoints, State, restore, snapshot
from gnvc_vd.train.clock import Clock
from gnvc_vd.train.ema import Ema
from gnvc_vd.train.log import Log
from gnvc_vd.train.plan import Batches, Share, batches, endless_batches
from gnvc_vd.train.precision import in_one_order, precision_of
from gnvc_vd.train.settings import RunSettings, Span, Training
from gnvc_vd.train.setup import build, dit_of
from gnvc_vd.train.stages.codec_stage import START, CodecStage
from gnvc_vd.train.stages.stage import Losses, Step
from gnvc_vd.train.stages.vae_stage import VaeStage

CHECKPOINTS = "checkpoints"
MEASURED_CLIPS = 128  # for the latent codec's initial statistics
Sources = Callable[[ClipSpec], Clips]


def train(training: Training, sources: Sources, validation: Sources | None, folder: Path) -> Path:
    """Start or resume a training; returns the last checkpoint's folder."""
    with in_one_order(training.run.deterministic):
        trainer = Trainer(training, folder)
        last = trainer.run(sources, validation)
    accelerator = trainer.accelerator
    if accelerator.num_processes > 1:
        # Drop all that holds the process group, so that its threads end now: one that still has a tensor to free while
        # Python shuts down would abort the process.
        del trainer
        accelerator.free_memory()
        gc.collect()
    accelerator.end_training()
    return last


class Trainer:
    """Runs a training: its modules, optimiser, EMA and progress.

    Args:
        now: returns a clock's time in seconds.
    """

    def __init__(self, training: Training, folder: Path, now: Callable[[], float] = time.monotonic) -> None:
        self.training, self.folder = training, folder
        self.clock = Clock(training.stage, training.run, now)
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, training.run.keep)
        self.checkpoints.clear()
        latest = self.checkpoints.latest()
        # Refuse a batch that cannot be divided before `build` reads gigabytes.
        Share(training.stage, 0, PartialState(cpu=training.run.cpu).num_processes, training.run.accumulate)
        self.stage = build(training)
        self.accelerator = _accelerator(training.run, precision_of(self.stage, latest), folder)
        self.loading = LoaderOptions(training.run.workers, self.accelerator.device, training.run.memory)
        if training.run.budget and self.accelerator.num_processes > 1:
            raise UsageError("run.budget needs a single process: several would not stop at the same step")
        if training.run.compile and not isinstance(self.stage, VaeStage):
            compile_blocks(dit_of(self.stage).model)
        if training.run.shard:
            from gnvc_vd.train.sharding import shard

            self.module = shard(self.stage, self.accelerator, training.run.replicas)
        else:
            self.module = self.accelerator.prepare(self.stage)
        optimisation = training.stage.optimisation
        self.ema = Ema(self.stage, optimisation.ema)  # after sharding, which replaces parameters
        self.optimiser = _optimiser(self.ema, training, self.accelerator)
        self.prepared = self.accelerator.prepare(self.optimiser)
        self.captured = self._captured() if training.run.capture else None
        self.span, self.state = training.stage.spans[0], State(0, identity(training), 0)
        self.fresh = latest is None
        if latest is not None:
            if isinstance(self.stage, CodecStage):
                self.stage.resume_start(folder)
            self.state = restore(self.optimiser, self.ema, latest, identity(training), adversary_state(self.stage))
        self.step = self.state.step
        self.clock.spent, self.clock.ending = self.state.seconds, self.state.ending
        self.accelerator.wait_for_everyone()

    def _captured(self) -> capture.CapturedSteps | None:
        """Steps as CUDA graphs; None, with a warning why, if they cannot be."""
        reason = capture.unsupported_reason(self.training, self.accelerator)
        if reason is not None:
            logging.getLogger(__name__).warning("steps are not captured: %s", reason)
            return None
        clip = self.training.stage.optimisation.clip
        return capture.CapturedSteps(self.module, self.stage, self.optimiser, self.ema, clip)

    def run(self, sources: Sources, validation: Sources | None) -> Path:
        stage, run = self.training.stage, self.training.run
        share = Share(stage, self.accelerator.process_index, self.accelerator.num_processes, run.accumulate)
        log = Log(self.folder, self.training, self.accelerator, self.step)
        clips = validation_clips(validation, self.training, run.clips) if validation is not None else []
        if self.fresh:
            self._start(log, clips, sources)
        started, first, shown = time.perf_counter(), self.step, 0
        with tqdm(
            total=None if run.budget else stage.steps, initial=self.step, desc=self.training.name, unit="step",
            disable=None if self.accelerator.is_main_process else True,
        ) as progress:  # fmt: skip
            for self.span, _, stop in stage.spans_in_time():
                if not self._goes_on(stop):
                    continue
                if self.captured is not None:
                    self.captured.begin_span()
                passes = self._batches(sources, share, stop)
                while self._goes_on(stop):
                    figures = self._step([next(passes) for _ in range(run.accumulate)])
                    shown += self.span.batch
                    progress.update()
                    if figures:
                        progress.set_postfix(loss=f"{figures['loss']:.4g}")
                    if self._is_logged():
                        speed = shown / (time.perf_counter() - started)
                        spent = {"seconds": round(self.clock.seconds, 1)} if run.budget else {}
                        log.figures(self.step, figures | {"clips_per_second": speed} | spent)
                    self._validate_and_save(log, clips)
        if run.budget and (self.step > first or self.state.score is None):
            if self.captured is not None and self.step > first:
                self.captured.figures()  # raises if a loss was not finite
            self._end(log, clips)
        self.checkpoints.wait()
        self.accelerator.wait_for_everyone()
        last = self.checkpoints.latest()
        assert last is not None
        return last

    def _goes_on(self, stop: int) -> bool:
        """Whether the span that ends at step `stop` has steps or time left; a training has at least one step."""
        needs_first_step = self.step == 0 and stop == self.training.stage.steps
        return self.clock.planned_step(self.step) < stop or (needs_first_step and bool(self.training.run.budget))

    def _batches(self, sources: Sources, share: Share, stop: int) -> Batches:
        """Batches from the next step to the end of the span."""
        source = sources(spec_of(self.span, self.training))
        if self.training.run.budget:
            return endless_batches(source, share, self.span, self.step, self.loading)
        return batches(source, share, self.step, stop, self.loading)

    def _start(self, log: Log, clips: Sequence[Tensor], sources: Sources) -> None:
        """Measure the latent codec's initial statistics if needed; with a budget, also time validation and saving."""
        begins = isinstance(self.stage, CodecStage) and self.stage.begin is not None
        if begins:
            self._measure_start(cast(CodecStage, self.stage), sources)
        if self.training.run.budget:
            begun = self.clock.now()
            self._end(log, clips)
            self.checkpoints.wait()
            self.clock.ending = self.clock.now() - begun
        elif begins:
            self._validate(log, clips)

    def _end(self, log: Log, clips: Sequence[Tensor]) -> None:
        self._save(None)  # before the validation, which takes a while
        score = self._validate(log, clips)
        if score is not None:
            self._save(score)

    def _validate_and_save(self, log: Log, clips: Sequence[Tensor]) -> None:
        """Validate, save, or both, as due."""
        run, score = self.training.run, None
        if self._due(run.validate_every):
            if run.budget:
                self._save(None)
            score = self._validate(log, clips)
        if self._due(run.save_every) or self.clock.save_is_due():
            self._save(score)

    def _measure_start(self, stage: CodecStage, sources: Sources) -> None:
        """Measure the codec's initial statistics on the first steps' clips; all processes load the same file."""
        span, start = self.training.stage.spans[0], self.folder / START
        if self.accelerator.is_main_process:
            steps = min(self.training.stage.steps, -(-MEASURED_CLIPS // span.batch))
            share = Share(replace(self.training.stage, spans=(replace(span, steps=steps),)), 0, 1, 1)

            def clips() -> Iterator[Tensor]:
                drawn = batches(sources(spec_of(span, self.training)), share, 0, steps, self.loading)
                yield from (one for _, one in tqdm(drawn, total=steps, desc="measuring", unit="batch", disable=None))

            tensors = stage.measure(clips)
            with replacing(start) as part:
                save_file({name: one.detach().cpu().contiguous() for name, one in tensors.items()}, part)
        self.accelerator.wait_for_everyone()
        stage.load_start(start)
        self.ema.restart()

    def _step(self, passes: Sequence[tuple[list[int], Tensor]]) -> dict[str, float]:
        """One optimiser step, over all passes of this process's share."""
        optimisation, steps = self.training.stage.optimisation, self.training.stage.steps
        planned = self.clock.planned_step(self.step)
        rate = optimisation.learning_rate_at(planned, steps)
        if self.captured is not None:
            return self._captured_step(self.captured, *passes[0], planned, rate)
        for group in self.optimiser.param_groups:
            group["lr"] = group["lr"].fill_(rate) if isinstance(group["lr"], Tensor) else rate
        losses: list[Losses] = []
        for numbers, clips in passes:
            with self.accelerator.accumulate(self.module):
                step = Step(self.training.seed, self.step, steps, numbers, self.span, planned)
                loss: Losses = self.module(clips.to(self.accelerator.device, non_blocking=True), step)
                self.accelerator.backward(loss.total)
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.ema.live.values(), optimisation.clip)
                    self._refuse_non_finite(loss, norm, passes)
                self.prepared.step()
                self.prepared.zero_grad()
            losses.append(loss)
        self.ema.update()
        self.step += 1
        return self._figures(losses) | {"gradient_norm": float(norm), "learning_rate": rate}

    def _captured_step(
        self, captured: capture.CapturedSteps, numbers: list[int], clips: Tensor, planned: float, rate: float
    ) -> dict[str, float]:
        """One step as a CUDA graph; returns figures only if logged, since reading them waits for the device."""
        step = Step(self.training.seed, self.step, self.training.stage.steps, numbers, self.span, planned)
        captured(clips, step, rate)
        self.step += 1
        return captured.figures() | {"learning_rate": rate} if self._is_logged() else {}

    def _figures(self, losses: Sequence[Losses]) -> dict[str, float]:
        """Losses averaged over passes and processes."""
        names = list(losses[0].terms)
        rows = [[one.total.detach(), *(one.terms[name].detach().mean() for name in names)] for one in losses]
        mean = self.accelerator.reduce(torch.stack([torch.stack(row) for row in rows]).mean(0), "mean")
        return dict(zip(["loss", *names], mean.tolist(), strict=True))

    def _refuse_non_finite(self, loss: Losses, norm: Tensor, passes: Sequence[tuple[list[int], Tensor]]) -> None:
        """Raise an error that names the batch's samples, before the update, if the loss or gradient is not finite."""
        if torch.isfinite(norm) and torch.isfinite(loss.total):
            return
        terms = ", ".join(f"{name} {value.detach().mean():.3g}" for name, value in loss.terms.items())
        numbers = [number for batch, _ in passes for number in batch]
        raise GnvcError(
            f"step {self.step}: the loss ({loss.total.item():.3g}) or its gradient (norm {norm.item():.3g}) is not "
            f"finite; {terms}; samples {numbers} of process {self.accelerator.process_index}; no weight was changed"
        )

    def _validate(self, log: Log, clips: Sequence[Tensor]) -> float | None:
        """Validate the EMA weights, on the main process; on all processes if the weights are sharded."""
        if not clips or not (self.accelerator.is_main_process or self.training.run.shard):
            return None
        with self.ema.average_parameters(), self.accelerator.autocast():
            self.stage.eval()
            validation = self.stage.validate(clips)
            self.stage.train()
        log.figures(self.step, {f"validation_{name}": value for name, value in validation.figures.items()})
        log.pictures(self.step, validation.pictures)
        return validation.score

    def _save(self, score: float | None) -> None:
        if self.captured is not None:
            self.captured.refuse_non_finite()
        seconds = self.clock.seconds if self.training.run.budget else 0.0
        self.clock.note_save()
        self.state = State(
            self.step, identity(self.training), self.ema.updates, score, seconds, self.clock.ending,
            self.accelerator.mixed_precision,
        )  # fmt: skip
        taken = snapshot(self.optimiser, self.ema, self.accelerator.is_main_process, adversary_state(self.stage))
        if self.accelerator.is_main_process:
            self.checkpoints.save(self.state, taken)

    def _is_logged(self) -> bool:
        return self.step == 1 or self._due(self.training.run.log_every)

    def _due(self, every: int) -> bool:
        """Whether the step is a multiple of `every`; without a budget, also whether it is the last."""
        last = not self.training.run.budget and self.step == self.training.stage.steps
        return last or (every > 0 and self.step % every == 0)


def spec_of(span: Span, training: Training) -> ClipSpec:
    return ClipSpec(span.frames, span.size, span.size, short_side=span.short_side, seed=training.seed)


def validation_clips(sources: Sources, training: Training, count: int) -> list[Tensor]:
    """Validation clips, which no training step draws, shaped like the last span's and not mirrored."""
    source = sources(replace(spec_of(training.stage.spans[-1], training), flip=False, seed=training.seed + 1))
    return [source[number] for number in range(count)]


def identity(training: Training) -> str:
    """Hash of a training's settings, except name and run settings; its checkpoints must match it."""
    settings = {name: value for name, value in without_defaults(training).items() if name not in ("run", "name")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _optimiser(ema: Ema, training: Training, accelerator: Accelerator) -> torch.optim.AdamW:
    """AdamW; on a single process it is fused, with its learning rate in a tensor that CUDA graphs can read.

    Fused AdamW does not support sharded parameters, and several processes must train the same with or without sharding.
    Sharded and whole parameters are separate groups: AdamW updates a group in one call on a GPU, which takes one kind.
    """
    optimisation = training.stage.optimisation
    betas, decay = (optimisation.beta_1, optimisation.beta_2), optimisation.weight_decay
    if accelerator.num_processes > 1:
        kinds = [[one for one in ema.live.values() if isinstance(one, DTensor) == kind] for kind in (False, True)]
        groups = [{"params": kind} for kind in kinds if kind]
        return torch.optim.AdamW(groups, optimisation.rate, betas, weight_decay=decay)
    device = accelerator.device
    rate, captured = torch.tensor(optimisation.rate, device=device), device.type == "cuda"
    return torch.optim.AdamW(ema.live.values(), rate, betas, weight_decay=decay, fused=True, capturable=captured)


def _accelerator(run: RunSettings, precision: str, folder: Path) -> Accelerator:
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()  # left by an earlier training in this process, in another precision
    # Short clips leave some parameters unused. Buffers never change, and gloo cannot send int16. Gradients lie in the
    # memory in which they are exchanged, not in a second copy.
    ddp = DistributedDataParallelKwargs(
        find_unused_parameters=True, broadcast_buffers=False, gradient_as_bucket_view=True
    )
    accelerator = Accelerator(
        cpu=run.cpu,
        mixed_precision=precision,
        gradient_accumulation_steps=run.accumulate,
        log_with=list(run.trackers) or None,
        project_dir=folder,
        kwargs_handlers=[ddp],
    )
    if accelerator.distributed_type == DistributedType.FSDP:
        raise UsageError(
            "Accelerate's sharding would cast the latent codec too; launch as for DDP, with run.shard=true"
        )
    return accelerator
