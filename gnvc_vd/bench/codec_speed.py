"""Frames per second of tiny, file to file, per stage and in both precisions, beside x265 and VVenC.

    source.mkv ─read─ pan search ─VAE─ transform and entropy ─▶ stream.gnvc
    stream.gnvc ─transform and entropy─ refinement ─VAE─ write ─▶ decoded.mkv

Loading the model is not counted; everything else is, including reading the source and writing the decoded frames, both
FFV1. The decoder runs in float32 and, where `--precision auto` chooses bfloat16, in that too, with its speed-up. Speeds
are the better of two runs, because the first also prepares kernels; the stages' shares are of a third, under Python's
profiler. x265 and VVenC run through ffmpeg on one thread, as in an evaluation, process start included; they are
compared with our encoder, and with our decoder at one step with default options.
"""

import re
import tempfile
from collections.abc import Callable, Sequence
from cProfile import Profile
from fractions import Fraction
from pathlib import Path

import torch

from gnvc_vd.backbone.decoder_precision import decoder_dtype
from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.backbone.weights import Options
from gnvc_vd.baselines.commands import FFV1, SOURCE, Clip, code, colour_filters
from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.bench.harness import PrintLine, Report, device_name, print_nothing
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.codecs.load import load
from gnvc_vd.codecs.transcode import DecodeResult, EncodeResult, decode_file, encode_video
from gnvc_vd.conventions import Colour, GnvcError
from gnvc_vd.learned.bottleneck.base import Bottleneck
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd
from gnvc_vd.learned.pan_search import stabilise
from gnvc_vd.learned.refine.refiner import Refiner
from gnvc_vd.video import Video, ffmpeg, open_video
from gnvc_vd.video.writer import FrameWriter

QUALITY = 20  # the highest that tiny refines by default
SIZES, FRAMES, STEPS, DEFAULT_STEPS, ROUNDS = ((256, 256),), 25, (0, 1, 5), 1, 2
FILM = Path(__file__).parents[1] / "assets/clips/bunny.mp4"
HYBRIDS = {  # levels chosen for roughly similar quality
    f"{encoder} {preset}": Hybrid(encoder, (level,), "random-access", preset=preset)
    for encoder, preset, level in (("x265", "medium", 37), ("x265", "slow", 37), ("vvenc", "faster", 42))
}
STAGES = {  # by the functions that do the work
    "reading": (Video.__iter__,),
    "pan search": (stabilise,),
    "VAE": (VideoVae.encode_step, VideoVae.decode_step),
    "transform and entropy": (Bottleneck.compress, Bottleneck.decompress),
    "refinement": (Refiner.forward,),
    "writing": (FrameWriter.write,),
}


def measure(
    print_line: PrintLine = print_nothing, sizes: Sequence[tuple[int, int]] = SIZES, compile: bool = False
) -> Report:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtypes = dict.fromkeys((torch.float32, decoder_dtype("auto", torch.device(device))))
    options = (Options(vae_decoder=dtype, transformer=dtype, compile=compile) for dtype in dtypes)
    codecs = {one.vae_decoder: load("tiny", one).to(device) for one in options}
    how = ", decoders compiled" if compile else ""
    report = Report(f"codec: tiny at quality {QUALITY}, {FRAMES} frames{how}, {device_name(device)}", print_line)
    for size in sizes:
        clip = Clip(*size, FRAMES, Fraction(25), Colour("bt709", "limited"))
        with tempfile.TemporaryDirectory() as folder:
            _add_size(report, codecs, clip, Path(folder))
    return report


def _add_size(report: Report, codecs: dict[torch.dtype, GnvcVd], clip: Clip, folder: Path) -> None:
    name, source, stream, decoded = f"{clip.width}×{clip.height}", folder / SOURCE, folder / "a.gnvc", folder / "a.mkv"
    size = f"{clip.width}:{clip.height}"
    filters = f"scale={size}:force_original_aspect_ratio=increase,crop={size},{colour_filters(clip)}"
    frames = ["-frames:v", str(clip.frames), *FFV1, str(source)]
    ffmpeg.run(["-stream_loop", "-1", "-i", str(FILM), "-an", "-vf", filters, *frames])

    def encode() -> EncodeResult:
        with open_video(source) as video:
            return encode_video(codecs[torch.float32], video, str(stream), EncodeOptions(QUALITY))

    def decode() -> DecodeResult:
        options = DecodeOptions(steps=steps or None, refine=steps > 0)
        return decode_file(lambda _: codec, str(stream), str(decoded), options)

    ours = {"encode": _add_run(report, f"{name}, encode", encode)}
    for steps in STEPS:
        full = None
        for dtype in codecs:
            codec = codecs[dtype]
            row = f"{name}, decode, L = {steps}, {str(dtype).removeprefix('torch.')}"
            took = _add_run(report, row, decode, full)
            full = full or took
        ours |= {"decode": took} if steps == DEFAULT_STEPS else {}
    for rival, hybrid in HYBRIDS.items():
        try:
            done = code(hybrid.commands(clip, hybrid.levels[0]), clip, folder)
        except GnvcError as error:
            report.add(f"{name}, {rival}", f"missing: {error}")
            continue
        for verb, seconds in (("encode", done.encode_seconds), ("decode", done.decode_seconds)):
            row, speed = f"{name}, {verb}, {rival}", clip.frames / seconds
            report.add(row, f"{speed:6.2f} frames/s, {ours[verb] / seconds:.1f} × ours", **{_key(row): speed})


def _add_run(
    report: Report, row: str, work: Callable[[], EncodeResult | DecodeResult], full: float | None = None
) -> float:
    """Add a row for what is run, compared with `full` seconds in float32; returns its seconds."""
    done = min((work() for _ in range(ROUNDS)), key=lambda done: done.seconds)
    text = ", ".join(f"{stage} {share:.0%}" for stage, share in stage_shares(work).items())
    ratio = "" if full is None else f", {full / done.seconds:.2f} × float32"
    speed = done.frames / done.seconds
    report.add(row, f"{speed:6.2f} frames/s{ratio}: {text}", **{_key(row): speed})
    return done.seconds


def _key(row: str) -> str:
    return f"codec_{re.sub(r'[^a-z0-9]+', '_', row.lower().replace('×', 'x'))}_fps"


def stage_shares(work: Callable[[], EncodeResult | DecodeResult]) -> dict[str, float]:
    """Run once and return each stage's share of the seconds."""
    profile = Profile()
    total = profile.runcall(work).seconds
    seconds = {entry.code: entry.totaltime / total for entry in profile.getstats()}
    shares = {name: sum(seconds.get(one.__code__, 0) for one in functions) for name, functions in STAGES.items()}
    return {stage: share for stage, share in shares.items() if share}
