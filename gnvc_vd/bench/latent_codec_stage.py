"""The assembled codec at nano size, stage by stage: where the time of a GOP goes. Nothing stock does the same.

Refinement alone and the whole way there and back, with one step and with five; and how far float32, in which the
latents' recursion runs, drifts from float64, beside what bfloat16 would do.
"""

import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from gnvc_vd.bench.harness import Report, cost
from gnvc_vd.bitstream.playback import Decoding
from gnvc_vd.codecs.load import load
from gnvc_vd.conventions import Colour, Frame
from gnvc_vd.learned.bottleneck.policies import qualities
from gnvc_vd.learned.codec import Encoding, GnvcVd
from gnvc_vd.video import VideoInfo

T = TypeVar("T")
SIDE, FRAMES, QUALITY = 256, 25, 32
DRIFT_LATENTS = (7, 25, 100)
DRIFT_SIDE = 32  # of a latent


def measure() -> Report:
    codec = load("nano")
    report = Report(f"codec: nano, {SIDE}×{SIDE}, {FRAMES} frames, {torch.get_num_threads()} threads")
    clip = frames()
    encoding = Encoding(QUALITY, scenecut=False)
    took, ((count, latents),) = _timed(lambda: list(codec.latents(iter(clip), encoding)))
    report.add("VAE encode", f"{took:6.2f} s", codec_vae_encode_s=took)
    took, unit = _timed(lambda: codec.unit(0, count, latents, QUALITY))
    report.add("bottleneck encode", f"{took:6.2f} s", codec_bottleneck_encode_s=took)
    header = codec.header(INFO, encoding)
    took, known = _timed(lambda: list(codec.decoder(header).symbols(unit)))
    report.add("bottleneck decode", f"{took:6.2f} s", codec_bottleneck_decode_s=took)
    decoded = torch.stack([one.latent for one in known], dim=2)
    features = torch.stack([one.feature for one in known], dim=2)
    for steps in (1, 5):
        with torch.inference_mode():
            took, _ = _timed(partial(codec.refiner, decoded, features, decoded, 0.3, steps))
        report.add(f"refine, L = {steps}", f"{took:6.2f} s", **{f"codec_refine_{steps}_s": took})
    with torch.inference_mode():
        took, _ = _timed(lambda: codec.backbone.vae.decode(decoded))
    report.add("VAE decode", f"{took:6.2f} s", codec_vae_decode_s=took)
    for steps in (1, 5):
        whole = cost(encode_and_decode, steps)
        speed, peak = FRAMES / whole.seconds, whole.peak_bytes / 2**20
        report.add(
            f"encode, decode, L = {steps}",
            f"{speed:6.2f} frames/s with loading, peak {peak:.0f} MiB",
            **{f"codec_both_{steps}_fps": speed, f"codec_both_{steps}_mib": peak},
        )
    for place, found in drifts(codec).items():
        text = ", ".join(f"{name} {drift:.1e}" for name, drift in found.items())
        keys = {f"drift_{name}_{place}": drift for name, drift in found.items()}
        report.add(f"drift at latent {place}", f"{text} of the codec's own error", **keys)
    return report


INFO = VideoInfo(SIDE, SIDE, Fraction(25), None, Colour("bt709", "limited"), "", "")


def frames() -> list[Frame]:
    y, x = np.mgrid[:SIDE, :SIDE]
    waves = [128 + 60 * np.sin(x / 17 + 0.2 * t) * np.cos(y / 23) for t in range(FRAMES)]
    return [np.stack([np.rint(wave)] * 3, axis=-1).astype(np.uint8) for wave in waves]


def encode_and_decode(steps: int) -> None:
    codec = load("nano")
    encoding = Encoding(QUALITY, scenecut=False)
    units = list(codec.encode_units(iter(frames()), encoding))
    for _ in codec.decoder(codec.header(INFO, encoding), Decoding(steps=steps)).frames(units[0]):
        pass


def drifts(codec: GnvcVd) -> dict[int, dict[str, float]]:
    """How far g_s and f in other precisions come from float64 on the same symbols, by the latent's number."""
    count = DRIFT_LATENTS[-1]
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, count, DRIFT_SIDE, DRIFT_SIDE, generator=generator)
    levels = qualities(QUALITY, count)
    (payload,), _ = codec.bottleneck.compress(latents, levels)

    def decoded(precision: torch.dtype) -> list[torch.Tensor]:
        bottleneck = load("nano").bottleneck.to(precision)
        coded = bottleneck.decompress([payload.data], [payload.symbol_hash], (DRIFT_SIDE, DRIFT_SIDE), levels)
        return [one.latent.double() for one in coded]

    exact = decoded(torch.float64)
    others = {"float32": decoded(torch.float32), "bfloat16": decoded(torch.bfloat16)}
    return {
        place: {
            name: float(
                (other[place - 1] - exact[place - 1]).std() / (latents[:, :, place - 1] - exact[place - 1]).std()
            )
            for name, other in others.items()
        }
        for place in DRIFT_LATENTS
    }


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    done = work()
    return time.perf_counter() - start, done
