"""What only a GPU can show, check after check, in under three minutes: python scripts/gpu_check.py [CHECK…]

Each check prints a line as it ends, with its seconds; none stops the next. The exit code is 1 if one failed, or if
there is no GPU. With --device cpu what can be run without one is run: steps from the tensors that a graph would hold,
but no graph.
"""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

import torch

from gnvc_vd.common.strict import require
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.procedural import ProceduralClips
from gnvc_vd.learned.bottleneck.kinds import bottleneck_of
from gnvc_vd.presets import BottleneckKind, preset
from gnvc_vd.train.capture import PLAIN_STEPS, CapturedSteps
from gnvc_vd.train.log import FIGURES, read_figures
from gnvc_vd.train.loop import CHECKPOINTS, Trainer
from gnvc_vd.train.settings import Model, Optimisation, RunSettings, Span, Stage, Training, Weights

CPU = torch.device("cpu")
SIZE = 64
FEW = 2 * PLAIN_STEPS + 2  # steps, of which some are captured
NEAR = 0.02  # of a loss: a device adds in any order, and a symbol may be rounded the other way for it
TIMED = 30  # steps
STAGES = {
    "vae": Stage("vae", ("encoder", "decoder"), (), Weights(absolute=1, squared=1, rate=1), coarsest=1.5),
    "seen": Stage("vae", ("decoder",), (), Weights(absolute=1, lattice=1, adversarial=1)),
    "prior": Stage("prior", ("dit",), (), Weights(cfm=1)),
    "codec": Stage("codec", ("codec", "adaptor"), (), Weights(decoded=1, refined=1, cfm=1), unrolled=1),
}


@dataclass(frozen=True)
class Place:
    """Where checks are run, and on a model of which sizes."""

    device: torch.device
    model: str
    folder: Path

    @property
    def has_graphs(self) -> bool:
        return self.device.type == "cuda"


class Failed(Exception):  # noqa: N818 - as a result is called
    """What a check found, in words."""


class LeftOut(Exception):  # noqa: N818 - likewise
    """Why it was not run."""


def told(place: Place, phase: str, kind: BottleneckKind = "transform", spans: tuple[Span, ...] = ()) -> Training:
    """A short training, eager, without files."""
    stage = replace(STAGES[phase], spans=spans or (Span(FEW, 5, SIZE, 2),), optimisation=Optimisation(rate=1e-4))
    run = RunSettings(cpu=not place.has_graphs, log_every=1, save_every=FEW, keep=100)
    return Training(f"check-{phase}", Model(place.model, begin="random", bottleneck=kind), stage, run=run)


def captured(one: Training) -> Training:
    return replace(one, run=replace(one.run, capture=True))


def trainer_of(place: Place, one: Training, folder: Path) -> Trainer:
    if place.has_graphs or not one.run.capture:
        return Trainer(one, folder)
    trainer = Trainer(replace(one, run=replace(one.run, capture=False)), folder)
    clip = one.stage.optimisation.clip
    trainer.captured = CapturedSteps(trainer.module, trainer.stage, trainer.optimiser, trainer.ema, clip)
    return trainer


def losses(place: Place, one: Training, name: str) -> list[float]:
    """Of every step of a run, or of what is left of it."""
    trainer = trainer_of(place, one, place.folder / name)
    trainer.run(cast(Callable[[ClipSpec], ProceduralClips], ProceduralClips), None)
    if one.run.capture and place.has_graphs:
        steps = trainer.captured
        require(steps is not None and not steps.refused, "steps were not captured; the log says why", Failed)
        variants = cast(CapturedSteps, steps).variants.values()
        require(any(variant.graph is not None for variant in variants), "no variant came often enough", Failed)
    return [line["loss"] for line in read_figures(place.folder / name / FIGURES)]


def near(found: list[float], wanted: list[float]) -> str:
    require(len(found) == len(wanted), f"{len(found)} steps in place of {len(wanted)}", Failed)
    furthest = max(abs(a - b) / abs(b) for a, b in zip(found, wanted, strict=True))
    require(furthest <= NEAR, f"a loss is {furthest:.2%} off: {found} in place of {wanted}", Failed)
    return f"{len(found)} losses, at most {furthest:.1e} of them off"


def captured_steps(phase: str, kind: BottleneckKind = "transform") -> Callable[[Place], str]:
    """The same losses from graphs as step by step."""

    def check(place: Place) -> str:
        one = told(place, phase, kind)
        wanted = losses(place, one, f"{phase}-{kind}-eager")
        return near(losses(place, captured(one), f"{phase}-{kind}-captured"), wanted)

    return check


def span_change(place: Place) -> str:
    """Graphs of one shape, then of another."""
    one = told(place, "vae", spans=(Span(FEW, 5, SIZE, 2), Span(FEW, 9, SIZE, 1)))
    return near(losses(place, captured(one), "spans-captured"), losses(place, one, "spans-eager"))


def resuming(place: Place) -> str:
    """A checkpoint of captured steps, gone on from."""
    one = captured(told(place, "codec", spans=(Span(2 * FEW, 5, SIZE, 2),)))
    whole = losses(place, one, "whole")
    saved = Path(CHECKPOINTS) / f"step-{FEW:08}"
    shutil.copytree(place.folder / "whole" / saved, place.folder / "rest" / saved)
    return near(losses(place, one, "rest"), whole[FEW:])


def waiting(place: Place) -> str:
    """No step waits for its device: torch says where one does."""
    if not place.has_graphs:
        raise LeftOut("a CPU is not waited for")
    for phase in STAGES:
        one = captured(told(place, phase, spans=(Span(10_000, 5, SIZE, 2),)))
        trainer = trainer_of(place, replace(one, run=replace(one.run, log_every=0)), place.folder / f"waiting-{phase}")
        clips = torch.zeros(2, 3, 5, SIZE, SIZE, dtype=torch.uint8, device=place.device)
        cast(CapturedSteps, trainer.captured).refused = True  # its steps alone
        for mode in ("default", "error"):  # the second time every variant has its tensors
            trainer.step = 1
            torch.cuda.set_sync_debug_mode(mode)
            try:
                for number in range(1, FEW):
                    trainer._step([([2 * number, 2 * number + 1], clips)])
            finally:
                torch.cuda.set_sync_debug_mode("default")
    return f"{', '.join(STAGES)}"


def speed(phase: str, frames: int, batch: int) -> Callable[[Place], str]:
    """Captured against eager."""

    def check(place: Place) -> str:
        if not place.has_graphs:
            raise LeftOut("a CPU has no graphs")
        one = told(place, phase, spans=(Span(10_000, frames, SIZE, batch),))
        one = replace(one, run=replace(one.run, log_every=0, precision="auto"))
        clips = torch.randint(0, 256, (batch, 3, frames, SIZE, SIZE), device=place.device).byte()
        eager, graphs = (seconds_a_step(place, each, clips) for each in (one, captured(one)))
        require(graphs < eager, f"{1000 * graphs:.1f} ms a step, {1000 * eager:.1f} without graphs", Failed)
        return f"{eager / graphs:.1f} × as fast: {1000 * graphs:.1f} ms a step, {1000 * eager:.1f} without graphs"

    return check


def seconds_a_step(place: Place, one: Training, clips: torch.Tensor) -> float:
    """When the variants that come often have been captured."""
    trainer = trainer_of(place, one, place.folder / f"speed-{one.stage.phase}-{one.run.capture}")
    for number in range(3 * TIMED):
        if number == 2 * TIMED:
            torch.cuda.synchronize()
            begun = time.perf_counter()
        trainer._step([([number * len(clips) + at for at in range(len(clips))], clips)])
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / TIMED


def coded_world(kind: BottleneckKind) -> Callable[[Place], str]:
    """What one device wrote the other reads, symbol by symbol; a stream's hash of them is checked by reading it."""

    def check(place: Place) -> str:
        torch.manual_seed(0)
        model = bottleneck_of(preset(place.model).bottleneck(kind))
        latents = torch.randn(2, 16, 9, 20, 24)
        model.measure(latents, 0.02, 2.0)
        model.freeze()
        model.eval().requires_grad_(False)
        written = 0
        for writer, reader in ((CPU, place.device), (place.device, CPU)):
            for quality in (0, 40, 63):
                payloads, decoded = model.to(writer).compress(latents.to(writer), [quality] * 9)
                data, hashes = [one.data for one in payloads], [one.symbol_hash for one in payloads]
                found = list(model.to(reader).decompress(data, hashes, (20, 24), [quality] * 9))
                pairs = zip(found, decoded, strict=True)
                off = max(float((a.latent.cpu() - b.latent.cpu()).abs().max()) for a, b in pairs)
                require(off < 1e-2, f"latents of quality {quality} are {off:.1e} apart", Failed)
                written += sum(map(len, data))
        return f"{written} bytes, both ways at three qualities"

    return check


CHECKS: dict[str, Callable[[Place], str]] = {
    "coded-world-contextual": coded_world("contextual"),
    "coded-world-transform": coded_world("transform"),
    "waiting": waiting,
    "captured-vae": captured_steps("vae"),
    "captured-seen": captured_steps("seen"),
    "captured-prior": captured_steps("prior"),
    "captured-contextual": captured_steps("codec", "contextual"),
    "captured-transform": captured_steps("codec", "transform"),
    "span-change": span_change,
    "resuming": resuming,
    "speed-vae": speed("vae", 17, 8),
    "speed-codec": speed("codec", 5, 16),
}


def run(name: str, place: Place) -> bool:
    """A line; whether the check did not fail."""
    begun = time.perf_counter()
    try:
        result, said = "passed", CHECKS[name](place)
    except LeftOut as reason:
        result, said = "left out", str(reason)
    except Exception as error:  # noqa: BLE001 - whatever it is, the next check is run
        result, said = "FAILED", f"{type(error).__name__}: {error}"
        if not isinstance(error, Failed):
            traceback.print_exc()
    print(f"{result:8}  {name:24} {time.perf_counter() - begun:6.1f} s  {said}", flush=True)
    return result != "FAILED"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"some of {', '.join(CHECKS)} (all)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="(cuda)")
    parser.add_argument("--model", choices=("nano", "tiny"), default="tiny", help="whose sizes are checked (tiny)")
    arguments = parser.parse_args()
    strange = set(arguments.checks) - set(CHECKS)
    if strange:
        parser.error(f"there is no check {', '.join(sorted(strange))}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("gpu_check: there is no CUDA device; --device cpu runs what can be run without one", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        place = Place(torch.device(arguments.device), arguments.model, Path(folder))
        passed = [run(name, place) for name in arguments.checks or CHECKS]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
