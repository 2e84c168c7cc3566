"""The assembled codec at nano size, stage by stage: where the time of a GOP goes. Nothing stock does the same.

Refinement alone and the whole way there and back, with one step and with five; and how far float32, in which the
latents' recursion runs, drifts from float64, beside what bfloat16 would do.
"""

from functools import partial

import torch

from gnvc_vd.bench.harness import Report, cost, place, square_info, waves
from gnvc_vd.bitstream.playback import Decoding
from gnvc_vd.codecs.load import load
from gnvc_vd.learned.bottleneck.policies import qualities
from gnvc_vd.learned.codec import Encoding, GnvcVd

SIDE, FRAMES, QUALITY = 256, 25, 32
STEPS = (1, 5)
DRIFT_LATENTS = (7, 25, 100)
DRIFT_SIDE = 32  # of a latent
ENCODING = Encoding(QUALITY, scenecut=False)


@torch.inference_mode()
def measure() -> Report:
    codec = load("nano")
    report = Report(f"codec: nano, {SIDE}×{SIDE}, {FRAMES} frames, {place()}")
    clip, header = waves(SIDE, FRAMES), codec.header(square_info(SIDE), ENCODING)
    ((count, latents),) = report.timed(
        "VAE encode", "codec_vae_encode_s", lambda: list(codec.latents(iter(clip), ENCODING))
    )
    unit = report.timed(
        "bottleneck encode", "codec_bottleneck_encode_s", lambda: codec.unit(0, count, latents, QUALITY)
    )
    known = report.timed(
        "bottleneck decode", "codec_bottleneck_decode_s", lambda: list(codec.decoder(header).symbols(unit))
    )
    decoded = torch.stack([one.latent for one in known], dim=2)
    features = torch.stack([one.feature for one in known], dim=2)
    for steps in STEPS:
        refine = partial(codec.refiner, decoded, features, decoded, 0.3, steps)
        report.timed(f"refine, L = {steps}", f"codec_refine_{steps}_s", refine)
    report.timed("VAE decode", "codec_vae_decode_s", lambda: codec.backbone.vae.decode(decoded))
    for steps in STEPS:
        whole = cost(encode_and_decode, steps)
        speed = FRAMES / whole.seconds
        report.add(
            f"encode, decode, L = {steps}",
            f"{speed:6.2f} frames/s with loading, peak {whole.peak_mib:.0f} MiB",
            **{f"codec_both_{steps}_fps": speed, f"codec_both_{steps}_mib": whole.peak_mib},
        )
    for latent, drift in drifts(codec).items():
        text = ", ".join(f"{precision} {part:.1e}" for precision, part in drift.items())
        keys = {f"drift_{precision}_{latent}": part for precision, part in drift.items()}
        report.add(f"drift at latent {latent}", f"{text} of the codec's own error", **keys)
    return report


def encode_and_decode(steps: int) -> None:
    codec = load("nano")
    (unit,) = codec.encode_units(iter(waves(SIDE, FRAMES)), ENCODING)
    for _ in codec.decoder(codec.header(square_info(SIDE), ENCODING), Decoding(steps=steps)).frames(unit):
        pass


def drifts(codec: GnvcVd) -> dict[int, dict[str, float]]:
    """How far g_s and f in other precisions come from float64 on the same symbols, by the latent's number."""
    count = DRIFT_LATENTS[-1]
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, count, DRIFT_SIDE, DRIFT_SIDE, generator=generator)
    levels = qualities(QUALITY, count)
    (payload,), _ = codec.bottleneck.compress(latents, levels)

    def decoded(precision: torch.dtype) -> torch.Tensor:
        bottleneck = load("nano").bottleneck.to(precision)
        coded = bottleneck.decompress([payload.data], [payload.symbol_hash], (DRIFT_SIDE, DRIFT_SIDE), levels)
        return torch.stack([one.latent.double() for one in coded], dim=2)

    exact = decoded(torch.float64)
    errors = {name: decoded(getattr(torch, name)) - exact for name in ("float32", "bfloat16")}
    return {
        latent: {
            name: float(error[:, :, latent - 1].std() / (latents - exact)[:, :, latent - 1].std())
            for name, error in errors.items()
        }
        for latent in DRIFT_LATENTS
    }
