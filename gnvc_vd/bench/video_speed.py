"""Reading and writing 1080p against the library alone.

Three readers of one film: PyAV's decode with its default RGB conversion (quick, up to three levels off); PyAV's decode
with the exact conversion that ours uses; ours. The middle one is the like-for-like: what our reader adds to it is its
overhead. Memory is measured over a short and a long film through reader and writer; constant means a ratio near 1.
"""

import tempfile
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av

from gnvc_vd.bench.harness import PrintLine, Report, best_of, cost, print_nothing
from gnvc_vd.conventions import Colour
from gnvc_vd.video import create_video, ffmpeg, open_video
from gnvc_vd.video.colour import to_rgb

WIDTH, HEIGHT = 1920, 1080
SHORT, LONG = 50, 200
ROUNDS = 3


def measure(print_line: PrintLine = print_nothing) -> Report:
    report = Report(f"video, {WIDTH}×{HEIGHT}, {LONG} frames", print_line)
    with tempfile.TemporaryDirectory() as folder:
        films = [_film(Path(folder), frames) for frames in (SHORT, LONG)]
        readers = (
            partial(_read_with, lambda frame: frame.to_ndarray(format="rgb24")),
            partial(_read_with, to_rgb(Colour("bt709", "limited"), "h264")),
            _read_ours,
        )
        quick, exact, ours = best_of(ROUNDS, *(partial(reader, films[1]) for reader in readers))
        short, long = (cost(_copy, film, str(Path(folder) / "copy.mp4")) for film in films)
    report.add("PyAV, default RGB", f"{LONG / quick:6.1f} frames/s (biased by up to 3 levels)")
    report.add("PyAV, exact RGB", f"{LONG / exact:6.1f} frames/s")
    report.add(
        "our reader",
        f"{LONG / ours:6.1f} frames/s, {ours / exact - 1:+.1%} over exact, {ours / quick - 1:+.1%} over default",
        video_reader_over_exact=ours / exact,
        video_reader_over_default=ours / quick,
    )
    report.add(
        "read → write mp4",
        f"{LONG / long.seconds:6.1f} frames/s, peak {short.peak_mib:.0f} MiB at {SHORT} frames, "
        f"{long.peak_mib:.0f} MiB at {LONG}",
        video_peak_mib=long.peak_mib,
        video_peak_ratio=long.peak_mib / short.peak_mib,
    )
    return report


def _film(folder: Path, frames: int) -> str:
    """A moving test picture with grain, so that decoding costs what a film costs."""
    path = str(folder / f"{frames}.mp4")
    source = f"testsrc2=size={WIDTH}x{HEIGHT}:rate=25,noise=alls=6:allf=t,format=yuv420p"
    colour = ["-colorspace", "bt709", "-color_range", "tv"]
    encoder = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "23", *colour]
    ffmpeg.run(["-f", "lavfi", "-i", source, "-frames:v", str(frames), *encoder, path])
    return path


def _read_with(convert: Callable[[av.VideoFrame], object], film: str) -> None:
    with av.open(film) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            convert(frame)


def _read_ours(film: str) -> None:
    for _ in open_video(film):
        pass


def _copy(film: str, target: str) -> None:
    with open_video(film) as video, create_video(target, WIDTH, HEIGHT, Fraction(25)) as out:
        for frame in video:
            out.write(frame)
