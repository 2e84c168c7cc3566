"""Streaming VAE decode against diffusers' own `decode` on the same weights, 256×256, a CPU's float32.

Stock is AutoencoderKLWan as diffusers ships it; ours streams with the fast kernels and lets each step's frames
go, as a decoder that writes a file does. Ratios are stock over ours. The deviation is the largest difference of any
output value. What Wan's own sizes would take is computed instead of measured: python -m lab.backbone_cost.
"""

import torch

from gnvc_vd.backbone.streaming import VideoVae, stream_steps
from gnvc_vd.backbone.wan_vae import WanVae, build_vae
from gnvc_vd.bench.harness import PrintLine, Report, cost, device_name, print_nothing
from gnvc_vd.bitstream.gop import latents_of
from gnvc_vd.presets import WAN_VAE, VaePreset

SIDE = 256
WIDTH = 16
LENGTHS = (25, 97)


def measure(print_line: PrintLine = print_nothing) -> Report:
    report = Report(f"backbone: VAE decode, {SIDE}×{SIDE}, {device_name()}", print_line)
    for frames in LENGTHS:
        stock, ours = cost(decode_stock, WIDTH, frames), cost(decode_ours, WIDTH, frames)
        faster, smaller = stock.seconds / ours.seconds, stock.peak_bytes / ours.peak_bytes
        report.add(
            f"width {WIDTH}, {frames} frames",
            f"{frames / ours.seconds:5.1f} frames/s, peak {ours.peak_mib:.0f} MiB; stock "
            f"{frames / stock.seconds:5.1f} frames/s, {stock.peak_mib:.0f} MiB: "
            f"{faster:.2f} × faster, {smaller:.2f} × less memory",
            **{f"decode_time_ratio_{frames}": faster, f"peak_memory_ratio_{frames}": smaller},
            **{f"decode_peak_mib_{frames}": ours.peak_mib},
        )
    deviation = fast_path_deviation()
    report.add("fast kernels", f"deviate by at most {deviation:.1e}", fast_path_max_deviation=deviation)
    return report


def stream(vae: VideoVae, latents: torch.Tensor) -> None:
    for _ in stream_steps(vae.decode_step, latents.split(1, dim=2)):
        pass


def vae_of(width: int, stock: bool = False) -> WanVae:
    torch.manual_seed(0)
    model = build_vae(VaePreset(width, WAN_VAE.latents_mean, WAN_VAE.latents_std))
    return WanVae(model, kernels="stock" if stock else "auto").eval().requires_grad_(False)


def latents_for(frames: int) -> torch.Tensor:
    return torch.randn(1, 16, latents_of(frames), SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def decode_stock(width: int, frames: int) -> None:
    vae_of(width, stock=True).model.decode(latents_for(frames))


@torch.inference_mode()
def decode_ours(width: int, frames: int) -> None:
    stream(vae_of(width), latents_for(frames))


@torch.inference_mode()
def fast_path_deviation() -> float:
    latents = latents_for(9)
    fast, stock = vae_of(WIDTH).decode(latents), vae_of(WIDTH, stock=True).decode(latents)
    return float((fast - stock).abs().max())
