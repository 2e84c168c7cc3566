"""Frames per second of tiny, file to file, per stage and in both precisions, beside x265 and VVenC.

    source.mkv ─read─ pan search ─VAE─ transform and entropy ─▶ stream.gnvc
    stream.gnvc ─transform and entropy─ refinement ─VAE─ write ─▶ decoded.mkv

Loading the model is not counted; everything else is, including reading the source and writing the decoded frames, both
FFV1. The decoder runs in float32 and, where `--precision auto` chooses bfloat16, in bfloat16 too, with its speed-up over
float32. "the rest" is reading or writing (also measured alone) and, in the encoder, the search for pans. Each time is
the best of two runs, because the first also prepares kernels. x265 and VVenC run through ffmpeg on one thread, as in an
evaluation, process start included; their ratios are to our encoder, and to our decoder at one step with default options.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gnvc_vd.backbone.decoder_precision import decoder_dtype
from gnvc_vd.backbone.weights import Options
from gnvc_vd.baselines.commands import SOURCE, Clip, code, lossless
from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.bench.harness import Report, PrintLine, best_of, device_name, print_nothing
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.codecs.load import load
from gnvc_vd.codecs.transcode import DecodeResult, EncodeResult, decode_file, encode_video
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import Colour, GnvcError
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd
from gnvc_vd.video import create_video, ffmpeg, open_video

QUALITY = 20  # the highest that tiny refines by default
ROUNDS = 2
CLIP = Path(__file__).parents[1] / "assets/clips/bunny.mp4"
HYBRIDS = {  # levels chosen for roughly similar quality
    "x265 medium": Hybrid("x265", (37,), "random-access", preset="medium"),
    "x265 slow": Hybrid("x265", (37,), "random-access", preset="slow"),
    "VVenC faster": Hybrid("vvenc", (42,), "random-access", preset="faster"),
}


@dataclass(frozen=True)
class Material:
    """The sizes and length of the video (a shipped clip, scaled), and the decoder's refinement steps."""

    sizes: tuple[tuple[int, int], ...] = ((256, 256),)
    frames: int = 25
    steps: tuple[int, ...] = (0, 1, 5)

    def __post_init__(self) -> None:
        even = all(side % 2 == 0 for size in self.sizes for side in size)
        require(even, "sizes must be even, as x265 and VVenC need them")


def measure(print_line: PrintLine = print_nothing, material: Material | None = None) -> Report:
    material, device = material or Material(), "cuda" if torch.cuda.is_available() else "cpu"
    auto = decoder_dtype("auto", torch.device(device))
    kinds = {"float32": torch.float32} | ({"bfloat16": auto} if auto is not torch.float32 else {})
    codecs = {name: load("tiny", Options(vae_decoder=kind, transformer=kind)) for name, kind in kinds.items()}
    report = Report(f"codec: tiny at quality {QUALITY}, {material.frames} frames, {device_name(device)}", print_line)
    if len(kinds) == 1:
        report.add("auto", "is float32 here")
    with tempfile.TemporaryDirectory() as folder:
        for size in material.sizes:
            _add_size(report, {name: codec.to(device) for name, codec in codecs.items()}, size, material, Path(folder))
    return report


def _add_size(
    report: Report, codecs: dict[str, GnvcVd], size: tuple[int, int], material: Material, folder: Path
) -> None:
    name, frames = f"{size[0]}×{size[1]}", material.frames
    clip = Clip(*size, frames, Fraction(25), Colour("bt709", "limited"))
    _make_source(clip, folder / SOURCE)
    source, stream, decoded = (str(folder / file) for file in (SOURCE, "stream.gnvc", "decoded.mkv"))

    key = f"codec_{size[0]}x{size[1]}"
    encode = _fastest(codecs["float32"], partial(_encode, source=source, stream=stream))
    report.add(f"{name}, encode", encode.text(frames), **encode.figures(f"{key}_encode", frames))
    unasked = encode
    for steps in material.steps:
        full: Run | None = None
        for kind, codec in codecs.items():
            run = _fastest(codec, partial(_decode, stream=stream, decoded=decoded, steps=steps))
            ratio = "" if full is None else f"; {full.seconds / run.seconds:.2f} × float32"
            figures = run.figures(f"{key}_decode_{steps}_{kind}", frames)
            report.add(f"{name}, decode, L = {steps}, {kind}", run.text(frames) + ratio, **figures)
            full, unasked = full or run, run if steps <= 1 or unasked is encode else unasked
    read, write = _files_alone(clip, source, decoded)
    report.add(f"{name}, files alone", f"read {read:.2f} s, write {write:.2f} s")
    for rival, hybrid in HYBRIDS.items():
        ours = frames / encode.seconds, frames / unasked.seconds
        _add_hybrid(report, f"{name}, {rival}", f"{key}_{rival.lower().replace(' ', '_')}", hybrid, clip, folder, ours)


def _make_source(clip: Clip, path: Path) -> None:
    """Write the shipped clip, scaled and cropped to the clip's size, as FFV1."""
    size = f"{clip.width}:{clip.height}"
    scaled = f"scale={size}:force_original_aspect_ratio=increase,crop={size},format=yuv420p"
    planes = ["-frames:v", str(clip.frames), "-f", "rawvideo"]
    raw = ffmpeg.run(["-stream_loop", "-1", "-i", str(CLIP), "-vf", scaled, *planes, "-"])
    ffmpeg.run(lossless(clip, "-", str(path)), raw)


@dataclass(frozen=True)
class Run:
    """Seconds of one run, in all and in each stage."""

    seconds: float
    stages: dict[str, float]

    def text(self, frames: int) -> str:
        rest = self.seconds - sum(self.stages.values())
        parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.stages.items())
        return f"{frames / self.seconds:6.2f} frames/s: {parts}, the rest {rest:.2f} s"

    def figures(self, key: str, frames: int) -> dict[str, float]:
        named = {f"{key}_{name.replace(' ', '_').lower()}_s": seconds for name, seconds in self.stages.items()}
        return {f"{key}_fps": frames / self.seconds} | named


def _fastest(codec: GnvcVd, work: Callable[[GnvcVd], EncodeResult | DecodeResult]) -> Run:
    runs = []
    for _ in range(ROUNDS):
        with stage_times(codec) as stages:  # loads the refiner, so that no round does
            done = work(codec)
        runs.append(Run(done.seconds, dict(stages)))
    return min(runs, key=lambda run: run.seconds)


def _encode(codec: GnvcVd, *, source: str, stream: str) -> EncodeResult:
    with open_video(source) as video:
        return encode_video(codec, video, stream, EncodeOptions(QUALITY))


def _decode(codec: GnvcVd, *, stream: str, decoded: str, steps: int) -> DecodeResult:
    return decode_file(lambda _: codec, stream, decoded, DecodeOptions(steps=steps or None, refine=steps > 0))


def _files_alone(clip: Clip, source: str, decoded: str) -> tuple[float, float]:
    """Seconds to read all frames of the source, and to write as many."""
    with open_video(source) as video:
        frames = list(video)

    def read() -> None:
        with open_video(source) as video:
            for _ in video:
                pass

    def write() -> None:
        with create_video(decoded, clip.width, clip.height, clip.rate, clip.colour) as writer:
            for frame in frames:
                writer.write(frame)

    first, second = best_of(ROUNDS, read, write)
    return first, second


def _add_hybrid(
    report: Report, name: str, key: str, hybrid: Hybrid, clip: Clip, folder: Path, ours: tuple[float, float]
) -> None:
    """Add a row for another codec; if ffmpeg lacks its encoder, the row says that it is missing."""
    try:
        done = code(hybrid.commands(clip, hybrid.levels[0]), clip, folder)
    except GnvcError as error:
        report.add(name, f"missing: {error}")
        return
    speeds = clip.frames / done.encode_seconds, clip.frames / done.decode_seconds
    report.add(
        name,
        f"{speeds[0]:6.2f} frames/s to encode, {speeds[1]:.2f} to decode: "
        f"{speeds[0] / ours[0]:.1f} × and {speeds[1] / ours[1]:.1f} × ours",
        **{f"{key}_encode_fps": speeds[0], f"{key}_decode_fps": speeds[1]},
    )


@contextmanager
def stage_times(codec: GnvcVd) -> Iterator[dict[str, float]]:
    """Seconds spent in each stage of a codec inside the `with` block."""
    times: dict[str, float] = defaultdict(float)
    vae, bottleneck = codec.backbone.vae, codec.bottleneck
    watched: list[tuple[Any, str, str]] = [
        (bottleneck, "compress", "transform and entropy"),
        (bottleneck, "decompress", "transform and entropy"),
        (vae, "encode_step", "VAE"),
        (vae, "decode_step", "VAE"),
        (codec.refiner, "forward", "refinement"),
    ]
    with ExitStack() as stack:
        for part, name, stage in watched:
            setattr(part, name, partial(_timed, times, stage, getattr(part, name), str(codec.device)))
            stack.callback(delattr, part, name)
        yield times


def _timed(
    times: dict[str, float], stage: str, work: Callable[..., Any], device: str, *args: Any, **options: Any
) -> Any:
    begun = time.perf_counter()
    made = work(*args, **options)
    times[stage] += _since(begun, device)
    return _timed_parts(times, stage, made, device) if isinstance(made, Iterator) else made


def _timed_parts(times: dict[str, float], stage: str, parts: Iterator[Any], device: str) -> Iterator[Any]:
    """Time a generator: its work is done when its parts are asked for."""
    while True:
        begun = time.perf_counter()
        part = next(parts, None)
        times[stage] += _since(begun, device)
        if part is None:
            return
        yield part


def _since(begun: float, device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - begun
