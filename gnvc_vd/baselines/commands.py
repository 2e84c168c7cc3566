"""Codecs as pairs of commands, an encoder and a decoder, that exchange a file.

    source ──encode──▶ stream, whose bytes are the rate ──decode, a process of its own──▶ decoded

Both run in a folder of their own and use relative file names, so recorded commands can be run anywhere.
"""

import glob
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

from gnvc_vd.common.strict import require
from gnvc_vd.conventions import Colour, GnvcError, UsageError
from gnvc_vd.video import RawVideo, ffmpeg, open_video
from gnvc_vd.video.pictures import write_picture
from gnvc_vd.video.reader import RawFormat

SOURCE = "source.mkv"  # FFV1: the exact codes, with their matrix
DECODED = "decoded.mkv"
FORMS = {"mkv": SOURCE, "yuv": "source.yuv", "png": "source"}  # forms of the source that a codec can read
FFV1 = ("-c:v", "ffv1", "-level", "3")
ALIASES = {"ffmpeg": lambda: [ffmpeg.executable()], "gnvc-vd": lambda: [sys.executable, "-m", "gnvc_vd"]}
SAID = 400  # characters of a failed command's output in its error


@dataclass(frozen=True)
class Clip:
    """Format of a codec's input: YUV 4:2:0 with 8 or 10 bits."""

    width: int
    height: int
    frames: int
    rate: Fraction
    colour: Colour
    pixel_format: str = "yuv420p"

    @property
    def raw(self) -> RawVideo:
        return RawVideo(self.width, self.height, self.rate, cast(RawFormat, self.pixel_format))


@dataclass(frozen=True)
class StatedRate:
    """A rate that a program without a stream prints, converted to bits on the clip's true size.

    Args:
        files: pattern of the files that state it.
        number: regular expression whose group is bits per pixel; files without a match are ignored.
        inside: whether the number is in the file's text, as the mean of all frames, or in its name, for one frame.
        padded: the program counts pixels of sides padded to multiples of this.
        cell_bits: bits that the program does not count, per padded × padded pixels.
    """

    files: str
    number: str
    inside: bool = False
    padded: int = 1
    cell_bits: int = 0

    def __post_init__(self) -> None:
        require(self.padded >= 1 and self.cell_bits >= 0, "sides are padded to 1 or more, and bits are not negative")
        try:
            groups = re.compile(self.number).groups
        except re.error as error:
            raise UsageError(f"number is no regular expression: {self.number!r} ({error})") from error
        require(groups == 1, f"number has one group, the bits per pixel: not {self.number!r}")

    def bits(self, clip: Clip, folder: Path) -> float:
        columns, rows = (math.ceil(side / self.padded) for side in (clip.width, clip.height))
        texts = sorted(folder.glob(self.files))
        found = [re.search(self.number, one.read_text() if self.inside else one.name) for one in texts]
        numbers = [float(one[1]) for one in found if one]
        require(numbers, f"no file {self.files} states a rate as {self.number}", GnvcError)
        frames = clip.frames if self.inside else 1
        pixels, cells = columns * rows * self.padded**2, columns * rows
        return frames * sum(number * pixels + self.cell_bits * cells for number in numbers)


@dataclass(frozen=True)
class Commands:
    """The commands of one point. Names are of files in its folder; `stream` and `decoded` may be patterns (`*.bin`)."""

    encode: tuple[str, ...]  # empty: the stream exists already
    decode: tuple[str, ...]  # empty: the encoder writes the decoded video, too
    stream: str
    source: str = SOURCE
    decoded: str = DECODED
    written: Mapping[str, str] | None = None  # small files for the commands, texts by name
    stated: tuple[StatedRate, ...] = ()  # for programs without a stream; then `stream` is a file about the count


@dataclass(frozen=True)
class CodingResult:
    """Result of coding a clip: stream, decoded video, bytes, and wall-clock seconds including the programs' start."""

    stream: Path
    bytes: int  # of the stream, or as the program states
    decoded: Path
    encode_seconds: float
    decode_seconds: float


def code(commands: Commands, clip: Clip, folder: Path, threads: int | None = None) -> CodingResult:
    """Run both commands in a folder that holds the source; `threads` is passed as OMP_NUM_THREADS.

    The source is converted to the form that the codec reads; decoded raw YUV is converted to a video with its colours.
    """
    _convert_source(commands.source, clip, folder)
    for name, text in (commands.written or {}).items():
        (folder / name).write_text(text, encoding="utf-8")
    encode_seconds = run(commands.encode, folder, threads) if commands.encode else 0.0
    if commands.stated:
        counted = [(one.files, one.bits(clip, folder)) for one in commands.stated]
        (folder / commands.stream).write_text(json.dumps(counted, indent=1), encoding="utf-8")
    stream = only_item(folder, commands.stream)
    if not stream.is_file() or stream.stat().st_size == 0:
        raise GnvcError(f"{commands.stream} is empty or not a file, but its bytes are the rate")
    decode_seconds = run(commands.decode, folder, threads) if commands.decode else 0.0
    decoded = _as_video(only_item(folder, commands.decoded), clip, folder)
    size = math.ceil(sum(bits for _, bits in counted) / 8) if commands.stated else stream.stat().st_size
    return CodingResult(stream, size, decoded, encode_seconds, decode_seconds)


def _convert_source(name: str, clip: Clip, folder: Path) -> None:
    if name == FORMS["yuv"]:
        ffmpeg.run(["-i", str(folder / SOURCE), "-f", "rawvideo", "-pix_fmt", clip.pixel_format, str(folder / name)])
    elif name == FORMS["png"]:
        (folder / name).mkdir()
        with open_video(folder / SOURCE) as video:
            for number, frame in enumerate(video, 1):
                write_picture(folder / name / f"im{number:05d}.png", frame)  # the names that DCVC expects


def _as_video(decoded: Path, clip: Clip, folder: Path) -> Path:
    """Convert decoded raw YUV to a video with its colours; other files are returned as they are."""
    if decoded.suffix != ".yuv":
        return decoded
    size, frame = decoded.stat().st_size, clip.raw.frame_bytes()
    if size != frame * clip.frames:
        raise GnvcError(f"{decoded.name}: {size} bytes are not {clip.frames} frames of {frame} bytes")
    run(["ffmpeg", "-nostdin", "-loglevel", "error", "-y", *lossless(clip, str(decoded.absolute()), DECODED)], folder)
    return folder / DECODED


def run(command: Sequence[str], folder: Path, threads: int | None = None) -> float:
    """Run a command and return its seconds; if it fails, raise an error with the end of its output."""
    first = ALIASES[command[0]]() if command[0] in ALIASES else [command[0]]
    env = None if threads is None else os.environ | {"OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [*first, *command[1:]], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:
        raise GnvcError(f"{command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        lines = (done.stderr + done.stdout).decode(errors="replace").strip().splitlines() or ["without output"]
        raise GnvcError(f"{command[0]} failed with exit code {done.returncode}: {' '.join(lines[-2:])[-SAID:]}")
    return time.perf_counter() - start


def only_item(folder: Path, pattern: str) -> Path:
    """The only file or folder that matches the pattern."""
    matches = glob.glob(pattern, root_dir=folder)  # noqa: PTH207 - an absolute pattern is one too
    require(len(matches) == 1, f"{len(matches)} files match {pattern}; the commands should make one", GnvcError)
    return folder / matches[0]


def check_different(levels: Sequence[int]) -> None:
    """Levels name files of points, so each may occur once."""
    require(levels and len(set(levels)) == len(levels), f"a codec has levels, and each once: not {levels}")


def check_levels(levels: Sequence[int], codec: str, largest: int) -> None:
    fine = levels and all(0 <= level <= largest for level in levels)
    require(fine, f"levels of {codec} are 0 to {largest}: not {levels}")
    check_different(levels)


def lossless(clip: Clip, planes: str, name: str) -> list[str]:
    """ffmpeg's arguments that convert a clip's raw YUV, in a file or on standard input ("-"), to FFV1."""
    return [*raw_input(clip, planes), "-vf", colour_filters(clip), *FFV1, name]


def raw_input(clip: Clip, name: str) -> list[str]:
    size = f"{clip.width}x{clip.height}"
    return ["-f", "rawvideo", "-pix_fmt", clip.pixel_format, "-s", size, "-r", str(clip.rate), "-i", name]


def colour_filters(clip: Clip) -> str:
    """ffmpeg filters that set matrix and range, and leave the codes as they are or round them to the clip's depth.

    By default, libswscale dithers when it reduces the depth, which would change 10-bit videos by up to a level.
    """
    matrix = {"bt601": "smpte170m", "bt709": "bt709", "bt2020": "bt2020nc"}[clip.colour.matrix]
    limits = {"limited": "tv", "full": "pc"}[clip.colour.range]
    return (
        f"scale=sws_dither=none:flags=accurate_rnd,format={clip.pixel_format},"
        f"setparams=colorspace={matrix}:range={limits},setpts=N/({clip.rate})/TB"
    )
