"""Whole training steps as CUDA graphs: many small kernels then take as long as their arithmetic, not as their calls.

    clips, numbers and rate of a step ──written into tensors that stay
                                                  ▼
    [ forward ─▶ gradients ─▶ clipped ─▶ AdamW ─▶ average ]   captured once, replayed in all steps of its variant

A variant is a shape of clips and what a stage says its numbers decide about shapes: the transform codec's rotation, for
one. Each is captured when it has come a few times; the steps until then are made from the same tensors without a graph,
and are steps like all others. On a CPU all of them are made so, which is how this is tested. Graphs share their memory,
and are dropped where a span ends.

Nothing waits for the device but `figures`. So a loss that is not finite is noticed there; the device has noticed it at
once, and has moved no weight since.
"""

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gnvc_vd.conventions import GnvcError
from gnvc_vd.train.ema import Ema
from gnvc_vd.train.settings import Training
from gnvc_vd.train.setup import AnyStage
from gnvc_vd.train.stages.stage import Losses, StaticNumbers, Step

PLAIN_STEPS = 4  # of a variant before it is captured: kernels are chosen in them, and a rare one is not worth a graph
MOST_GRAPHS = 32  # of a span; a graph takes seconds to capture
AHEAD = 2  # steps that the host may be ahead of the device: it would not know the time

log = logging.getLogger(__name__)


def unsupported_reason(training: Training, accelerator: Accelerator) -> str | None:
    """Why steps cannot be captured, in words."""
    run = training.run
    reasons = {
        "there is no CUDA device": accelerator.device.type != "cuda",
        "several processes take part": accelerator.num_processes > 1,
        "a step has several passes": run.accumulate > 1,
        "the transformer's blocks are compiled": run.compile,
        "gradient checkpointing asks for random states in every step": training.model.checkpointing,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


class Variant:
    """Steps that differ in nothing but numbers."""

    def __init__(self, clips: Tensor, device: torch.device) -> None:
        self.clips = torch.empty_like(clips, device=device)
        self.numbers = StaticNumbers(device)
        self.steps = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.names: list[str] = []
        self.row = torch.zeros(())  # the figures of these names


class CapturedSteps:
    """Steps of one process, each of one pass.

    Args:
        module: the stage as it trains, with its autocast.
        clip: largest norm of the gradient.
    """

    def __init__(
        self, module: nn.Module, stage: AnyStage, optimiser: torch.optim.Optimizer, ema: Ema, clip: float
    ) -> None:
        self.module, self.stage, self.optimiser, self.ema, self.clip = module, stage, optimiser, ema, clip
        self.device = next(iter(ema.live.values())).device
        self.variants: dict[tuple[object, ...], Variant] = {}
        self.refused = self.device.type != "cuda"
        self._pace = torch.zeros((), device=self.device)
        self._number = torch.zeros((), dtype=torch.int64, device=self.device)
        self._broken = torch.full((), -1, device=self.device)  # the first step whose loss was not finite
        self._samples: dict[int, list[int]] = {}  # of the steps since someone looked
        self._last: Variant | None = None
        self._stream = None if self.refused else torch.cuda.Stream()
        self._memory = None if self.refused else torch.cuda.graph_pool_handle()
        self._under_way: deque[torch.cuda.Event] = deque()

    def __call__(self, clips: Tensor, step: Step, rate: float) -> None:
        """Launch a step; the device may still compute it afterwards."""
        with self._beside():
            key = (clips.shape, clips.dtype, *self.stage.variant(clips, step))
            if key not in self.variants:
                self.variants[key] = Variant(clips, self.device)
            variant = self.variants[key]
            variant.clips.copy_(clips, non_blocking=True)
            kept = variant.numbers.fill(step)
            self._fill(step, rate)
            if self._is_worth_a_graph(variant):
                self._capture(variant, kept)
                kept = variant.numbers.fill(step)
            if variant.graph is None:
                self._update(variant, kept)
            else:
                variant.graph.replay()
        variant.steps += 1
        self.ema.updates += 1
        self._samples[step.number] = step.samples
        self._last = variant

    def begin_span(self) -> None:
        """Free the graphs and tensors of the spans before."""
        self._last = None
        self.variants.clear()

    def figures(self) -> dict[str, float]:
        """Of the last step; waits for it."""
        assert self._last is not None
        figures = dict(zip(self._last.names, self._last.row.tolist(), strict=True))
        self.refuse_non_finite()
        return figures

    def refuse_non_finite(self) -> None:
        """Raise an error that names the samples of a step whose loss or gradient was not finite; waits for the last."""
        broken = int(self._broken)
        if broken >= 0:
            raise GnvcError(
                f"step {broken}: the loss or its gradient is not finite; samples {self._samples[broken]}; "
                "no weight was changed since"
            )
        self._samples.clear()

    def _fill(self, step: Step, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"].fill_(rate)
        self._pace.fill_(self.ema.pace())
        self._number.fill_(step.number)

    def _update(self, variant: Variant, step: Step) -> None:
        """One step that reads and writes only tensors that stay in their places, as a graph must."""
        self.optimiser.zero_grad(set_to_none=True)
        loss: Losses = self.module(variant.clips, step)
        loss.total.backward()
        norm = nn.utils.clip_grad_norm_(self.ema.live.values(), self.clip)
        first = (self._broken < 0) & ~(norm.isfinite() & loss.total.isfinite())
        self._broken.copy_(torch.where(first, self._number, self._broken))
        # What torch's gradient scaler says to a fused optimiser: leave everything as it is.
        self.optimiser.found_inf = (self._broken >= 0).float()  # type: ignore[attr-defined]
        self.optimiser.step()
        self.ema.move(self._pace)
        means = [term.detach().mean() for term in loss.terms.values()]
        variant.names = ["loss", *loss.terms, "gradient_norm"]
        variant.row = torch.stack([loss.total.detach(), *means, norm])

    def _is_worth_a_graph(self, variant: Variant) -> bool:
        graphs = sum(one.graph is not None for one in self.variants.values())
        waits = variant.graph is None and variant.steps >= PLAIN_STEPS
        return waits and graphs < MOST_GRAPHS and not self.refused

    def _capture(self, variant: Variant, step: Step) -> None:
        """Record a graph, which computes nothing; after a failure no later step is captured."""
        self.optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, self._memory, self._stream, capture_error_mode="thread_local"):
                self._update(variant, step)
            variant.graph = graph
        except RuntimeError as error:
            self.refused = True
            log.warning("steps are not captured from here on: %s", str(error).partition("\n")[0])
            torch.cuda.synchronize()

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """On a stream of its own, as a capture must be, after what was begun before and before what comes after."""
        if self._stream is None:
            yield
            return
        before = torch.cuda.current_stream()
        self._stream.wait_stream(before)
        with torch.cuda.stream(self._stream):
            yield
            self._under_way.append(self._stream.record_event())
        before.wait_stream(self._stream)
        if len(self._under_way) > AHEAD:
            self._under_way.popleft().synchronize()
