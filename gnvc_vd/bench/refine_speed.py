"""Refinement and VAE decode of one window, from decoded latents to frames, on the fastest device that is there.

A GPU runs the shape of Wan2.1 1.3B with 15 adaptor layers in bfloat16 at 832×480, eager and compiled (the VAE's step,
and each block of the transformer); a CPU runs tiny in float32 at 256×256, eager, and compiled if --compile asks for it.
Weights are random: time does not depend on them. The share is of the rate that a large matrix product reaches on the
same device in the same run, for operations counted on tensors without data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from gnvc_vd.backbone.compiling import compile_decoder, compile_dit
from gnvc_vd.backbone.dit import WanDit, build_dit
from gnvc_vd.backbone.weights import Options, random_backbone
from gnvc_vd.bench.backbone_speed import stream
from gnvc_vd.bench.harness import PrintLine, Report, best_of, device_name, print_nothing
from gnvc_vd.bitstream.gop import latent_size, latents_of
from gnvc_vd.conventions import LATENT_CHANNELS
from gnvc_vd.learned.refine.refiner import Refiner
from gnvc_vd.presets import Preset, preset

WINDOW, SIGMA_0, ROUNDS = 25, 0.3, 4
STEPS = (1, 5)
CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # missing in torch's own list


@dataclass(frozen=True)
class Setting:
    """What is run where."""

    preset: str
    device: str
    dtype: torch.dtype
    pictures: tuple[tuple[int, int], ...]
    matrix: int  # side of the matrix product that stands for the device's rate


GPU = Setting("wan2.1-1.3b", "cuda", torch.bfloat16, ((832, 480),), 8192)
CPU = Setting("tiny", "cpu", torch.float32, ((256, 256),), 1024)


def measure(
    print_line: PrintLine = print_nothing,
    setting: Setting | None = None,
    device: str = "",
    sizes: Sequence[tuple[int, int]] = (),
    compile: bool = False,
) -> Report:
    setting = setting or (GPU if device == "cuda" or (not device and torch.cuda.is_available()) else CPU)
    model, device, on_gpu = preset(setting.preset), setting.device, setting.device == "cuda"
    backbone = random_backbone(model, Options(transformer=setting.dtype))
    vae, attention = backbone.vae.to(device), backbone.dit.attention
    refiner = Refiner(backbone.dit, model.adaptor, model.bottleneck().features).to(device).eval()
    report = Report(
        f"refine: {setting.preset}, {WINDOW} frames, {setting.dtype}, attention {attention}, {device_name(device)}",
        print_line,
    )
    rate = matrix_rate(setting)
    report.add("matrix product", f"{rate / 1e12:.2f} T operations/s", matrix_teraops=rate / 1e12)
    for how in ("eager", "compiled") if on_gpu or compile else ("eager",):
        if how == "compiled":
            compile_decoder(vae)
            compile_dit(refiner.dit)
        for picture in sizes or setting.pictures:
            decoded, features = window(model, picture, device)
            name, key = f"{picture[0]}×{picture[1]}", f"{picture[1]}p_{how}"
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            (decode,) = best_of(ROUNDS, partial(stream, vae, decoded), device=device)
            text = f"{decode:.3f} s: {WINDOW / decode:.1f} frames/s"
            report.add(f"{name}, VAE alone, {how}", text, **{f"vae_{key}_s": decode})
            for steps in STEPS:
                (refine,) = best_of(ROUNDS, partial(refiner, decoded, features, decoded, SIGMA_0, steps), device=device)
                share = operations(model, picture, steps) / refine / rate
                memory = f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if on_gpu else ""
                report.add(
                    f"{name}, L = {steps}, {how}",
                    f"refine {refine:.3f} s ({share:.0%} of the matrix rate); "
                    f"with the VAE {WINDOW / (refine + decode):.1f} frames/s{memory}",
                    **{f"refine_{key}_{steps}_s": refine, f"refine_{key}_{steps}_share": share},
                )
    return report


def window(sizes: Preset, picture: tuple[int, int], device: str) -> tuple[Tensor, Tensor]:
    """l̂ and f."""
    columns, rows = latent_size(*picture)
    channels = LATENT_CHANNELS + sizes.bottleneck().features
    both = torch.zeros(1, channels, latents_of(WINDOW), rows, columns, device=device)
    return both[:, :LATENT_CHANNELS], both[:, LATENT_CHANNELS:]


def matrix_rate(setting: Setting) -> float:
    """Operations per second of a large square product."""
    side = setting.matrix
    matrix = torch.randn(side, side, device=setting.device, dtype=setting.dtype)
    return 2 * side**3 / best_of(ROUNDS, lambda: matrix @ matrix, device=setting.device)[0]


def operations(sizes: Preset, picture: tuple[int, int], steps: int) -> int:
    """Of one window's refinement, counted without running it."""
    with FakeTensorMode():
        dit = WanDit(build_dit(sizes.dit), sizes.dit, torch.empty(0, sizes.dit.text_dim))
        refiner = Refiner(dit, sizes.adaptor, sizes.bottleneck().features)
        decoded, features = window(sizes, picture, "cpu")
        with FlopCounterMode(display=False, custom_mapping={CPU_ATTENTION: attention_operations}) as counter:
            refiner(decoded, features, decoded, SIGMA_0, steps)
        return counter.get_total_flops()


def attention_operations(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    return int(sdpa_flop_count(query, key, value))
