"""What only a GPU can show, check after check, in three minutes: python scripts/gpu_check.py [--minutes 3] [CHECK…]

Each check prints a line as it ends, with its seconds and the most memory that it took; none stops the next, and none is
begun when the minutes are over. The exit code is 1 if one failed, or if there is no GPU. With --device cpu what can be
run without one is run, on smaller clips: steps from the tensors that a graph would hold, but no graph.
"""

import argparse
import math
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import cast

import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.utils._pytree import tree_map_only

from gnvc_vd.backbone.streaming import State, Step, VideoVae, stream_steps
from gnvc_vd.backbone.tiles import Tiling
from gnvc_vd.backbone.weights import Options, random_backbone
from gnvc_vd.common.strict import require
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.procedural import ProceduralClips
from gnvc_vd.learned.bottleneck.kinds import bottleneck_of
from gnvc_vd.learned.refine.refiner import Refiner
from gnvc_vd.presets import WAN_VAE, BottleneckKind, VaePreset, preset
from gnvc_vd.train.capture import PLAIN_STEPS, CapturedSteps
from gnvc_vd.train.checkpoint import EMA, WEIGHTS
from gnvc_vd.train.log import FIGURES, read_figures
from gnvc_vd.train.loop import CHECKPOINTS, Trainer, train
from gnvc_vd.train.settings import Model, Optimisation, RunSettings, Span, Stage, Training, Weights

CPU = torch.device("cpu")
NEAR = 0.02  # of a loss: a device adds in any order, and a symbol may be rounded the other way for it
TIMED = 30  # steps
STAGES = {
    "vae": Stage("vae", ("encoder", "decoder"), (), Weights(absolute=1, squared=1, rate=1), coarsest=1.5),
    "seen": Stage("vae", ("decoder",), (), Weights(absolute=1, lattice=1, adversarial=1)),
    "prior": Stage("prior", ("dit",), (), Weights(cfm=1)),
    "codec": Stage("codec", ("codec", "adaptor"), (), Weights(decoded=1, refined=1, cfm=1), unrolled=1),
    "warmup": Stage("codec", ("codec",), (), Weights(decoded=1)),
    "pixel": Stage("codec", ("codec", "adaptor"), (), Weights(decoded=1, refined=1, pixel=1), unrolled=1),
}
ALONE = "gpu_check_sharding"  # what a process of the check of sharding is called with


@dataclass(frozen=True)
class Place:
    """Where checks are run, and on a model of which sizes."""

    device: torch.device
    model: str
    folder: Path
    by_name: bool = False  # checks were asked for by name

    @property
    def has_graphs(self) -> bool:
        return self.device.type == "cuda"

    @property
    def size(self) -> int:
        """Of clips, a side."""
        return 64 if self.has_graphs else 32

    @property
    def few(self) -> int:
        """Steps, of which some are captured where they can be."""
        return 2 * PLAIN_STEPS + 2 if self.has_graphs else 2


class CheckFailed(Exception):  # noqa: N818 - as a result is called
    """What a check found, in words."""


class LeftOut(Exception):  # noqa: N818 - likewise
    """Why it was not run."""


def short_training(
    place: Place, phase: str, kind: BottleneckKind = "transform", spans: tuple[Span, ...] = ()
) -> Training:
    """A short training, eager, without files."""
    stage = replace(
        STAGES[phase], spans=spans or (Span(place.few, 5, place.size, 2),), optimisation=Optimisation(rate=1e-4)
    )
    run = RunSettings(cpu=not place.has_graphs, log_every=1, save_every=place.few, keep=100)
    return Training(f"check-{phase}", Model(place.model, begin="random", bottleneck=kind), stage, run=run)


def with_capture(one: Training) -> Training:
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
    trainer.run(source, None)
    if one.run.capture and place.has_graphs:
        steps = trainer.captured
        require(steps is not None and not steps.refused, "steps were not captured; the log says why", CheckFailed)
        variants = cast(CapturedSteps, steps).variants.values()
        require(any(variant.graph is not None for variant in variants), "no variant came often enough", CheckFailed)
    return [line["loss"] for line in read_figures(place.folder / name / FIGURES)]


def source(spec: ClipSpec) -> ProceduralClips:
    return ProceduralClips(spec)


def reset_memory(place: Place) -> None:
    if place.has_graphs:
        torch.cuda.reset_peak_memory_stats()


def memory(place: Place) -> str:
    """The most that there was at once: on a GPU since the last reset, else of the process's life."""
    most = torch.cuda.max_memory_allocated() if place.has_graphs else 1024 * getrusage(RUSAGE_SELF).ru_maxrss
    return f"{most / 2**30:.2f} GiB"


def largest(values: Iterable[float]) -> float:
    """NaN if one is: Python's own maximum leaves out one that does not come first."""
    return max(values, key=lambda value: (math.isnan(value), value))


def near(found: list[float], wanted: list[float]) -> str:
    require(len(found) == len(wanted), f"{len(found)} steps in place of {len(wanted)}", CheckFailed)
    furthest = largest(abs(a - b) / abs(b) for a, b in zip(found, wanted, strict=True))
    require(furthest <= NEAR, f"a loss is {furthest:.2%} off: {found} in place of {wanted}", CheckFailed)
    return f"{len(found)} losses, at most {furthest:.1e} of them off"


def captured_steps(phase: str, kind: BottleneckKind = "transform") -> Callable[[Place], str]:
    """The same losses from graphs as step by step."""

    def check(place: Place) -> str:
        one = short_training(place, phase, kind)
        wanted = losses(place, one, f"{phase}-{kind}-eager")
        return near(losses(place, with_capture(one), f"{phase}-{kind}-captured"), wanted)

    return check


def span_change(place: Place) -> str:
    """Graphs of one shape, then of another."""
    one = short_training(place, "vae", spans=(Span(place.few, 5, place.size, 2), Span(place.few, 9, place.size, 1)))
    return near(losses(place, with_capture(one), "spans-captured"), losses(place, one, "spans-eager"))


def resuming(place: Place) -> str:
    """A checkpoint of captured steps, gone on from."""
    one = with_capture(short_training(place, "codec", spans=(Span(2 * place.few, 5, place.size, 2),)))
    whole = losses(place, one, "whole")
    saved = Path(CHECKPOINTS) / f"step-{place.few:08}"
    shutil.copytree(place.folder / "whole" / saved, place.folder / "rest" / saved)
    return near(losses(place, one, "rest"), whole[place.few :])


def resuming_exactly(place: Place) -> str:
    """With sums in one order a training goes on bit for bit."""
    one = short_training(place, "codec", spans=(Span(2 * place.few, 5, place.size, 2),))
    one = replace(one, run=replace(one.run, deterministic=True))
    ends = [place.folder / name for name in ("exact-whole", "exact-rest")]
    last = train(one, source, None, ends[0])
    saved = Path(CHECKPOINTS) / f"step-{place.few:08}"
    shutil.copytree(ends[0] / saved, ends[1] / saved)
    pairs = [(load_file(last / name), load_file(train(one, source, None, ends[1]) / name)) for name in (WEIGHTS, EMA)]
    off = [name for whole, rest in pairs for name, value in whole.items() if not torch.equal(value, rest[name])]
    require(not off, f"{len(off)} tensors differ, for one {off[:1]}", CheckFailed)
    return f"{sum(len(whole) for whole, _ in pairs)} tensors after {2 * place.few} steps"


def one_step(phase: str) -> Callable[[Place], str]:
    """A step, and the same one with the transformer's blocks computed again for their gradients."""

    def check(place: Place) -> str:
        one = short_training(place, phase, spans=(Span(2, 9, place.size, 2),))
        found, said = [], []
        for checkpointing in (False, True):
            reset_memory(place)
            model = replace(one.model, checkpointing=checkpointing)
            found.append(losses(place, replace(one, model=model), f"step-{phase}-{checkpointing}"))
            said.append(memory(place))
        return f"{near(found[1], found[0])}; {said[0]}, with checkpointing {said[1]}"

    return check


def refining(place: Place) -> str:
    """Windows of three sizes by two attention kernels, and the smallest as a CPU refines it and compiled."""
    sizes = preset(place.model)
    count, pictures = (7, ((32, 32), (60, 104), (90, 160))) if place.has_graphs else (3, ((4, 4), (4, 6), (6, 8)))
    features = sizes.bottleneck().features
    other = "_native_efficient" if place.has_graphs else "_native_math"
    said, worst = [], 0.0
    for height, width in pictures:
        smallest = (height, width) == pictures[0]
        draws = torch.Generator().manual_seed(0)
        latents, noise = (torch.randn(1, 16, count, height, width, generator=draws) for _ in range(2))
        shown = torch.randn(1, features, count, height, width, generator=draws)
        runs = [("native", place.device), (other, place.device), *([("native", CPU)] if smallest else ())]
        ways = [(Options(attention=kernel), device) for kernel, device in runs]
        if smallest and place.has_graphs:
            ways.append((Options(compile=True), place.device))
        found: list[torch.Tensor] = []
        for options, device in ways:
            dit = random_backbone(sizes, options).dit
            torch.manual_seed(0)
            refiner = Refiner(dit, sizes.adaptor, features).to(device)
            begun = time.perf_counter()
            with torch.inference_mode():
                refined = refiner(latents.to(device), shown.to(device), noise.to(device), 0.3, 2)
            found.append(refined.cpu())
            if device == place.device:
                kernel = "compiled" if options.compile else options.attention
                said.append(f"{8 * width}×{8 * height} {kernel} {time.perf_counter() - begun:.2f} s")
        worst = largest((worst, *(float((one - found[0]).abs().max() / found[0].std()) for one in found[1:])))
    require(worst <= NEAR, f"kernels or devices are {worst:.1e} of a deviation apart", CheckFailed)
    return f"at most {worst:.1e} of a deviation apart; {', '.join(said)}"


def tiled_vae(place: Place) -> str:
    """Wan's VAE, whole and in tiles, and a small clip as a CPU has it."""
    sizes = preset("wan2.1-1.3b" if place.has_graphs else "nano")
    tiling, (height, width) = (Tiling(), (480, 832)) if place.has_graphs else (Tiling(32, 24), (32, 56))
    draws = torch.Generator().manual_seed(0)
    video = torch.rand(1, 3, 5, height, width, generator=draws) * 2 - 1
    shown: list[torch.Tensor] = []
    said = []
    for tiles in (None, tiling):
        vae = random_backbone(sizes, Options(tiling=tiles)).vae.to(place.device)
        reset_memory(place)
        with torch.inference_mode():
            shown.append(vae.decode(vae.encode(video.to(place.device))).cpu())
        said.append(memory(place))
    corner = video[..., :32, :32]
    with torch.inference_mode():
        vae = random_backbone(sizes).vae
        theirs = vae.decode(vae.encode(corner))
        vae.to(place.device)
        ours = vae.decode(vae.encode(corner.to(place.device))).cpu()
    off = float((ours - theirs).abs().max())
    require(off <= NEAR, f"a clip is {off:.1e} off a CPU's", CheckFailed)
    require(all(bool(one.isfinite().all()) and one.shape == video.shape for one in shown), "not a video", CheckFailed)
    seams = float((shown[1] - shown[0]).abs().mean())
    return f"{off:.1e} off a CPU's; tiles {seams:.1e} off on the mean; {said[0]}, in tiles {said[1]}"


def compiled_decoder(large: VaePreset, small: VaePreset) -> Callable[[Place], str]:
    """A VAE's streaming step eager, compiled and, on a GPU, as CUDA graphs: frames, time and memory."""

    def check(place: Place) -> str:
        if not (place.has_graphs or place.by_name):
            raise LeftOut("a CPU compiles for longer than all else takes: ask for it by name")
        sizes, (height, width), count = (large, (60, 104), 12) if place.has_graphs else (small, (4, 6), 3)
        kind = torch.bfloat16 if place.has_graphs else torch.float32
        latents = torch.randn(1, 16, count, height, width, generator=torch.Generator().manual_seed(0))
        exact, *_ = decoded(place, sizes, latents, Options())
        off, said = dict[str, float](), []
        for how in ("eager", "compiled", "graphs") if place.has_graphs else ("eager", "compiled"):
            options = Options(vae_decoder=kind, compile=how == "compiled")
            frames, first, again = decoded(place, sizes, latents, options, how == "graphs")
            off[how] = (frames - exact).square().mean().sqrt().item()
            times = f"{first:.1f} s, then {1000 * again / count:.1f} ms a latent"
            said.append(f"{how} {off[how]:.1e} off, {times}, {memory(place)}")
        allowed = 1.5 * off["eager"] + 1e-5  # as far from float32's frames as in the same precision eager
        require(largest(off.values()) <= allowed, f"frames are wrong: {'; '.join(said)}", CheckFailed)
        return "; ".join(said)

    return check


def decoded(
    place: Place, sizes: VaePreset, latents: torch.Tensor, options: Options, graphs: bool = False
) -> tuple[torch.Tensor, float, float]:
    """Frames, and the seconds of the first time, which compiles, and of the next."""
    vae = random_backbone(replace(preset("nano"), vae=sizes), options).vae.to(place.device)
    step, seconds = graphs_of(vae) if graphs else vae.decode_step, list[float]()
    reset_memory(place)
    for _ in range(2):
        begun = time.perf_counter()
        with torch.inference_mode():
            frames = torch.cat(list(stream_steps(step, latents.to(place.device).split(1, dim=2))), dim=2)
        if place.has_graphs:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return frames.cpu(), seconds[0], seconds[1]


def graphs_of(vae: VideoVae) -> Step:
    """The streaming step as inductor's CUDA graphs; the next step writes over what one returns, so it is copied."""
    decoder = vae.model.get_submodule("decoder")
    name = "step" if hasattr(decoder, "step") else "forward"
    setattr(decoder, name, torch.compile(getattr(decoder, name), dynamic=False, mode="reduce-overhead"))

    def step(state: State | None, latent: torch.Tensor) -> tuple[torch.Tensor, State]:
        torch.compiler.cudagraph_mark_step_begin()
        return tree_map_only(torch.Tensor, torch.clone, vae.decode_step(state, latent))

    return step


def sharding(place: Place) -> str:
    """Two processes with the transformer whole, and divided."""
    if place.device.type == "cuda" and torch.cuda.device_count() < 2:
        raise LeftOut("there is one GPU")
    if place.device.type == "cpu" and not place.by_name:
        raise LeftOut("two processes on a CPU are tested by tests/train/test_sharding.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__]
    arguments = [ALONE, place.device.type, place.model, str(place.folder)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300, check=False)
    require(done.returncode == 0, f"two processes failed: {done.stderr[-2000:]}", CheckFailed)
    curves = [read_figures(place.folder / f"sharded-{shard}" / FIGURES) for shard in (False, True)]
    return near(*([line["loss"] for line in curve] for curve in reversed(curves)))


def sharding_process(device: str, model: str, folder: str) -> None:
    """One of the two."""
    place = Place(torch.device(device), model, Path(folder))
    Accelerator.end_training = lambda self: None  # the next training needs the other process too
    for shard in (False, True):
        one = short_training(place, "codec")
        run = replace(one.run, shard=shard, cpu=device == "cpu")
        train(replace(one, run=run), source, None, place.folder / f"sharded-{shard}")
    torch.distributed.destroy_process_group()


def waiting(place: Place) -> str:
    """No step waits for its device: torch says where one does."""
    if not place.has_graphs:
        raise LeftOut("a CPU is not waited for")
    for phase in STAGES:
        one = with_capture(short_training(place, phase, spans=(Span(10_000, 5, place.size, 2),)))
        trainer = trainer_of(place, replace(one, run=replace(one.run, log_every=0)), place.folder / f"waiting-{phase}")
        clips = torch.zeros(2, 3, 5, place.size, place.size, dtype=torch.uint8, device=place.device)
        cast(CapturedSteps, trainer.captured).refused = True  # its steps alone
        for mode in ("default", "error"):  # the second time every variant has its tensors
            trainer.step = 1
            torch.cuda.set_sync_debug_mode(mode)
            try:
                for number in range(1, place.few):
                    trainer._step([([2 * number, 2 * number + 1], clips)])
            finally:
                torch.cuda.set_sync_debug_mode("default")
    return f"{', '.join(STAGES)}"


def speed(phase: str, frames: int, batch: int) -> Callable[[Place], str]:
    """Captured against eager."""

    def check(place: Place) -> str:
        if not place.has_graphs:
            raise LeftOut("a CPU has no graphs")
        one = short_training(place, phase, spans=(Span(10_000, frames, place.size, batch),))
        one = replace(one, run=replace(one.run, log_every=0, precision="auto"))
        clips = torch.randint(0, 256, (batch, 3, frames, place.size, place.size), device=place.device).byte()
        eager, graphs = (seconds_a_step(place, each, clips) for each in (one, with_capture(one)))
        require(graphs < eager, f"{1000 * graphs:.1f} ms a step, {1000 * eager:.1f} without graphs", CheckFailed)
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
                off = largest(float((a.latent.cpu() - b.latent.cpu()).abs().max()) for a, b in pairs)
                require(off < 1e-2, f"latents of quality {quality} are {off:.1e} apart", CheckFailed)
                written += sum(map(len, data))
        return f"{written} bytes, both ways at three qualities"

    return check


CHECKS: dict[str, Callable[[Place], str]] = {
    "coded-world-contextual": coded_world("contextual"),
    "coded-world-transform": coded_world("transform"),
    "refining": refining,
    "vae": tiled_vae,
    **{f"step-{phase}": one_step(phase) for phase in ("vae", "prior", "warmup", "codec", "pixel")},
    "resuming-exactly": resuming_exactly,
    "sharding": sharding,
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
    "compiled-light": compiled_decoder(preset("tiny").vae, replace(preset("tiny").vae, base_dim=8)),
    "compiled-wan": compiled_decoder(WAN_VAE, preset("nano").vae),
}


def run(name: str, place: Place, until: float) -> str:
    """A line; what became of the check, which is not begun after a time."""
    begun = time.perf_counter()
    reset_memory(place)
    try:
        require(begun < until, "the minutes are over", LeftOut)
        result, said = "passed", CHECKS[name](place)
    except LeftOut as reason:
        result, said = "left out", str(reason)
    except Exception as error:  # noqa: BLE001 - whatever it is, the next check is run
        result, said = "FAILED", f"{type(error).__name__}: {error}"
        if not isinstance(error, CheckFailed):
            traceback.print_exc()
    print(f"{result:8}  {name:22} {time.perf_counter() - begun:6.1f} s {memory(place):>10}  {said}", flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"some of {', '.join(CHECKS)} (all)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="(cuda)")
    parser.add_argument("--model", choices=("nano", "tiny"), default="tiny", help="whose sizes are checked (tiny)")
    parser.add_argument("--minutes", type=float, default=3, help="after which no check is begun (3)")
    arguments = parser.parse_args()
    strange = set(arguments.checks) - set(CHECKS)
    if strange:
        parser.error(f"there is no check {', '.join(sorted(strange))}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("gpu_check: there is no CUDA device; --device cpu runs what can be run without one", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        place = Place(torch.device(arguments.device), arguments.model, Path(folder), bool(arguments.checks))
        until = time.perf_counter() + 60 * arguments.minutes
        results = [run(name, place, until) for name in arguments.checks or CHECKS]
    print(", ".join(f"{results.count(kind)} {kind}" for kind in ("passed", "FAILED", "left out")))
    return 1 if "FAILED" in results else 0


if __name__ == "__main__":
    if sys.argv[1:2] == [ALONE]:
        sharding_process(*sys.argv[2:])
        raise SystemExit(0)
    raise SystemExit(main())
