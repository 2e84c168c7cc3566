"""Refinement and VAE decode of one window, from decoded latents to frames, on the fastest device that is there.

A GPU runs the shape of Wan2.1 1.3B with 15 adaptor layers in bfloat16 at three picture sizes, eager and compiled; a CPU
runs tiny in float32, eager. Weights are random: time does not depend on them. The share is of the rate that a large
matrix product reaches on the same device in the same run, for operations counted on tensors without data.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gnvc_vd.backbone.dit import WanDit, build_dit
from gnvc_vd.backbone.streaming import streamed
from gnvc_vd.backbone.weights import Options, random_backbone
from gnvc_vd.bench.computed import compute
from gnvc_vd.bench.harness import Report
from gnvc_vd.bitstream.gop import latent_size, latents_of
from gnvc_vd.conventions import LATENT_CHANNELS
from gnvc_vd.learned.refine.refiner import Refiner
from gnvc_vd.presets import Preset, preset

WINDOW, SIGMA_0, ROUNDS = 25, 0.3, 3


@dataclass(frozen=True)
class Setting:
    """What is run where."""

    preset: str
    device: str
    dtype: torch.dtype
    pictures: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]
    compiled: tuple[bool, ...]
    product: int  # side of the matrix product that stands for the device's rate


GPU = Setting(
    "wan2.1-1.3b", "cuda", torch.bfloat16, ((832, 480), (1280, 720), (1920, 1080)), (1, 5), (False, True), 8192
)
CPU = Setting("tiny", "cpu", torch.float32, ((256, 256),), (1, 5), (False,), 1024)


def measure(setting: Setting | None = None) -> Report:
    setting = setting or (GPU if torch.cuda.is_available() else CPU)
    parts = Parts(preset(setting.preset), setting)
    device = torch.cuda.get_device_name() if setting.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    report = Report(
        f"refine: {setting.preset}, {WINDOW} frames, {setting.dtype}, attention {parts.attention}, {device}"
    )
    rate = matrix_rate(setting)
    report.add("matrix product", f"{rate / 1e12:.2f} T operations/s", matrix_teraops=rate / 1e12)
    for compiled in setting.compiled:
        if compiled:
            parts.compile()
        for width, height in setting.pictures:
            _add_rows(report, parts, setting, (width, height), rate, compiled)
    return report


class Parts:
    """Refiner and VAE with random weights, on the setting's device."""

    def __init__(self, sizes: Preset, setting: Setting) -> None:
        backbone = random_backbone(sizes, Options(setting.dtype))
        self.vae = backbone.vae.to(setting.device)
        refiner = Refiner(backbone.dit, sizes.adaptor, sizes.bottleneck.features)
        self.refiner = refiner.to(setting.device).eval().requires_grad_(False)
        self.attention = backbone.dit.attention

    def compile(self) -> None:
        self.refiner.dit.model.compile(dynamic=False)
        self.vae.model.get_submodule("decoder").compile(dynamic=False)


def window(sizes: Preset, picture: tuple[int, int], device: str) -> tuple[Tensor, Tensor]:
    """l̂ and f."""
    columns, rows = latent_size(*picture)
    size = (latents_of(WINDOW), rows, columns)
    features = sizes.bottleneck.features
    return torch.zeros(1, LATENT_CHANNELS, *size, device=device), torch.zeros(1, features, *size, device=device)


def matrix_rate(setting: Setting) -> float:
    """Operations per second of a large square product."""
    side = setting.product
    matrix = torch.randn(side, side, device=setting.device, dtype=setting.dtype)
    return 2 * side**3 / seconds(lambda: matrix @ matrix, setting.device)


def operations(sizes: Preset, picture: tuple[int, int], steps: int) -> int:
    """Of one window's refinement, counted without running it."""
    with FakeTensorMode():
        dit = WanDit(build_dit(sizes.dit), sizes.dit, torch.empty(0, sizes.dit.text_dim))
        refiner = Refiner(dit, sizes.adaptor, sizes.bottleneck.features)
        decoded, features = window(sizes, picture, "cpu")
        return compute(partial(refiner, decoded, features, decoded, SIGMA_0, steps)).operations


def seconds(work: Callable[[], object], device: str) -> float:
    """The median of some rounds, after one that warms up and compiles."""
    took = []
    with torch.inference_mode():
        for _ in range(1 + ROUNDS):
            _wait(device)
            start = time.perf_counter()
            work()
            _wait(device)
            took.append(time.perf_counter() - start)
    return statistics.median(took[1:])


def _add_rows(
    report: Report, parts: Parts, setting: Setting, picture: tuple[int, int], rate: float, compiled: bool
) -> None:
    sizes = preset(setting.preset)
    decoded, features = window(sizes, picture, setting.device)
    how = "compiled" if compiled else "eager"
    key = f"{picture[1]}p_{how}"
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    latents = decoded.split(1, dim=2)
    decode = seconds(lambda: [None for _ in streamed(parts.vae.decode_step, latents)], setting.device)
    report.add(
        f"{picture[0]}×{picture[1]}, VAE alone, {how}",
        f"{decode:.3f} s: {WINDOW / decode:.1f} frames/s",
        **{f"vae_{key}_s": decode},
    )
    for steps in setting.steps:
        refine = seconds(partial(parts.refiner, decoded, features, decoded, SIGMA_0, steps), setting.device)
        share = operations(sizes, picture, steps) / refine / rate
        rate_shown = WINDOW / (refine + decode)
        memory = f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if setting.device == "cuda" else ""
        report.add(
            f"{picture[0]}×{picture[1]}, L = {steps}, {how}",
            f"refine {refine:.3f} s ({share:.0%} of the matrix rate); with the VAE {rate_shown:.1f} frames/s{memory}",
            **{f"refine_{key}_{steps}_s": refine, f"refine_{key}_{steps}_share": share},
        )


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
