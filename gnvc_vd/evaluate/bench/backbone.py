"""Streaming VAE decode against diffusers' own `decode` on the same weights, 256×256, a CPU's float32.

Stock is AutoencoderKLWan as diffusers ships it; ours streams with oneDNN's convolutions and lets each step's frames
go, as a decoder that writes a file does. Ratios are stock over ours. The deviation is the largest difference of any
output value.
"""

import torch

from gnvc_vd.backbone.vae import WanVae, build_vae
from gnvc_vd.evaluate.bench.measuring import Report, cost
from gnvc_vd.gop import latents_of
from gnvc_vd.presets import WAN_VAE, VaePreset

SIDE = 256
WIDTHS = (16, 32)
HEADLINE = 16  # the width whose ratios are the stage's figures
LENGTHS = (25, 97)


def measure() -> Report:
    report = Report(f"backbone: VAE decode, {SIDE}×{SIDE}, {torch.get_num_threads()} threads")
    for width in WIDTHS:
        for frames in LENGTHS:
            stock, ours = cost(decode_stock, width, frames), cost(decode_ours, width, frames)
            time_ratio, memory_ratio = stock.seconds / ours.seconds, stock.peak_bytes / ours.peak_bytes
            report.add(
                f"width {width}, {frames} frames",
                f"{frames / ours.seconds:5.1f} frames/s, peak {ours.peak_bytes / 2**20:.0f} MiB; stock "
                f"{frames / stock.seconds:5.1f} frames/s, {stock.peak_bytes / 2**20:.0f} MiB: "
                f"{time_ratio:.2f} × faster, {memory_ratio:.2f} × less memory",
                **(_figures(frames, time_ratio, memory_ratio, ours.peak_bytes) if width == HEADLINE else {}),
            )
    deviation = fast_path_deviation()
    report.add("oneDNN convolutions", f"deviate by at most {deviation:.1e}", fast_path_max_deviation=deviation)
    return report


def _figures(frames: int, time_ratio: float, memory_ratio: float, peak: int) -> dict[str, float]:
    return {
        f"decode_time_ratio_{frames}": time_ratio,
        f"peak_memory_ratio_{frames}": memory_ratio,
        f"decode_peak_mib_{frames}": peak / 2**20,
    }


def vae_of(width: int, stock: bool = False) -> WanVae:
    torch.manual_seed(0)
    model = build_vae(VaePreset(width, WAN_VAE.latents_mean, WAN_VAE.latents_std))
    return WanVae(model, convolutions="stock" if stock else "auto").eval().requires_grad_(False)


def latents_for(frames: int) -> torch.Tensor:
    return torch.randn(1, 16, latents_of(frames), SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(1))


def decode_stock(width: int, frames: int) -> None:
    with torch.inference_mode():
        vae_of(width, stock=True).model.decode(latents_for(frames))


def decode_ours(width: int, frames: int) -> None:
    with torch.inference_mode():
        for _ in vae_of(width).decode_steps(latents_for(frames).split(1, dim=2)):
            pass


def fast_path_deviation() -> float:
    latents = latents_for(9)
    with torch.inference_mode():
        fast, stock = vae_of(HEADLINE).decode(latents), vae_of(HEADLINE, stock=True).decode(latents)
    return float((fast - stock).abs().max())
