"""The assembled codec at nano size, stage by stage: where the time of a GOP goes. Nothing stock does the same.

Refinement alone and the whole way there and back, with one step and with five.
"""

from functools import partial

import torch

from gnvc_vd.bench.harness import Report, cost, device_name, square_info, waves
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.codecs.load import load
from gnvc_vd.learned.codec import EncodeOptions

SIDE, FRAMES, QUALITY = 256, 25, 32
STEPS = (1, 5)
ENCODING = EncodeOptions(QUALITY, scenecut=False, canvas="off")


@torch.inference_mode()
def measure() -> Report:
    codec = load("nano")
    report = Report(f"codec: nano, {SIDE}×{SIDE}, {FRAMES} frames, {device_name()}")
    clip, header = waves(SIDE, FRAMES), codec.header(square_info(SIDE), ENCODING)
    (gop,) = report.time_once("VAE encode", "codec_vae_encode_s", lambda: list(codec.latents(iter(clip), ENCODING)))
    unit = report.time_once("bottleneck encode", "codec_bottleneck_encode_s", lambda: codec.encode_gop(0, gop, QUALITY))
    encoding = report.time_once(
        "bottleneck decode", "codec_bottleneck_decode_s", lambda: list(codec.decoder(header).symbols(unit))
    )
    decoded = torch.stack([one.latent for one in encoding], dim=2)
    features = torch.stack([one.feature for one in encoding], dim=2)
    for steps in STEPS:
        refine = partial(codec.refiner, decoded, features, decoded, 0.3, steps)
        report.time_once(f"refine, L = {steps}", f"codec_refine_{steps}_s", refine)
    report.time_once("VAE decode", "codec_vae_decode_s", lambda: codec.backbone.vae.decode(decoded))
    for steps in STEPS:
        whole = cost(encode_and_decode, steps)
        speed = FRAMES / whole.seconds
        report.add(
            f"encode, decode, L = {steps}",
            f"{speed:6.2f} frames/s with loading, peak {whole.peak_mib:.0f} MiB",
            **{f"codec_both_{steps}_fps": speed, f"codec_both_{steps}_mib": whole.peak_mib},
        )
    return report


def encode_and_decode(steps: int) -> None:
    codec = load("nano")
    (unit,) = codec.encode_units(iter(waves(SIDE, FRAMES)), ENCODING)
    for _ in codec.decoder(codec.header(square_info(SIDE), ENCODING), DecodeOptions(steps=steps)).frames(unit):
        pass
