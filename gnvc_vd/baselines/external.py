"""Any codec behind an encode and a decode command: DCVC-RT, VTM, HM, GLC-Video in the user's own checkout.

    source.yuv ──words of a template──▶ stream ──words of another──▶ decoded.yuv

A template's words are split as a shell would, and no shell runs them. These stand for values in all of its texts:

    $width $height $frames $rate $depth $level     of the clip and the point
    $folder                                        where the commands run, an absolute path
    $checkout                                      where the other codec lies, as the configuration says

docs/evaluation.md has templates for DCVC-RT and VTM.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any, cast

import numpy as np

from gnvc_vd.baselines.commands import (
    DECODED,
    SOURCE,
    Clip,
    Coded,
    Commands,
    check_different,
    code,
    raw_input,
    run,
    tagged,
)
from gnvc_vd.common import strict
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.video import ffmpeg

FORMS = {"mkv": SOURCE, "yuv": "source.yuv", "png": "source"}  # what the codec can read


@dataclass(frozen=True)
class External:
    """A codec as two templates.

    Args:
        levels: what $level stands for, point by point.
        decode: None where encoding writes the decoded pictures too; then no fresh process has decoded.
        reads: mkv (FFV1), yuv (planes) or png (a folder of RGB pictures, converted as ours are).
        stream, decoded: patterns of what the commands make; decoded is .yuv in the clip's format, a folder of PNGs,
            or any video that states its colours.
        files: texts that the commands read, by name.
        version: what is known of the checkout's; another one makes all points again.
    """

    levels: tuple[int, ...]
    encode: str
    decode: str | None = None
    reads: str = "yuv"
    stream: str = "stream.bin"
    decoded: str = "decoded.yuv"
    files: dict[str, str] | None = None
    checkout: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        check_different(self.levels)
        if self.reads not in FORMS:
            raise UsageError(f"a codec reads {', '.join(FORMS)}, not {self.reads!r}")

    def commands(self, clip: Clip, level: int, folder: Path) -> Commands:
        values = {
            "width": clip.width,
            "height": clip.height,
            "frames": clip.frames,
            "rate": clip.rate,
            "depth": 10 if clip.pixel_format.endswith("10le") else 8,
            "level": level,
            "folder": folder.absolute(),
            "checkout": Path(self.checkout or ".").absolute(),
        }

        def words(text: str | None) -> tuple[str, ...]:
            return tuple(_filled(word, values) for word in shlex.split(text or ""))

        written = {name: _filled(text, values) for name, text in (self.files or {}).items()}
        stream, decoded = (_filled(text, values) for text in (self.stream, self.decoded))
        return Commands(words(self.encode), words(self.decode), stream, FORMS[self.reads], decoded, written)


def code_external(commands: Commands, clip: Clip, folder: Path) -> Coded:
    """Like `code`, with the source in the form that the codec reads and its pictures back in ours."""
    _convert_source(commands.source, clip, folder)
    done = code(commands, folder)
    if done.decoded.suffix != ".yuv":
        return done
    frame = clip.raw.frame_bytes()
    if done.decoded.stat().st_size != frame * clip.frames:
        size = done.decoded.stat().st_size
        raise GnvcError(f"{done.decoded.name}: {size} bytes are not {clip.frames} frames of {frame} bytes")
    arguments = [*raw_input(clip, done.decoded.name), "-vf", tagged(clip), "-c:v", "ffv1", "-level", "3", DECODED]
    run(["ffmpeg", "-nostdin", "-loglevel", "error", "-y", *arguments], folder)
    return replace(done, decoded=folder / DECODED)


def _convert_source(name: str, clip: Clip, folder: Path) -> None:
    from gnvc_vd.video import create_video, open_video

    if name == FORMS["yuv"]:
        ffmpeg.run(["-i", str(folder / SOURCE), "-f", "rawvideo", "-pix_fmt", clip.pixel_format, str(folder / name)])
    elif name == FORMS["png"]:
        with (
            open_video(folder / SOURCE) as video,
            create_video(folder / name, clip.width, clip.height, clip.rate) as out,
        ):
            for frame in video:
                out.write(frame)


def _filled(text: str, values: dict[str, object]) -> str:
    try:
        return Template(text).substitute(values)
    except (KeyError, ValueError) as error:
        known = " ".join(f"${name}" for name in values)
        raise UsageError(f"the template {text!r} holds something else than {known}: {error}") from error


@dataclass(frozen=True)
class RatePoint:
    """A point of a curve that somebody published."""

    sequence: str
    level: int
    bpp: float
    figures: dict[str, float]


DCVC_FIGURES = {"psnr_yuv": "ave_all_frame_psnr", "ms_ssim_yuv": "ave_all_frame_msssim"}


def read_points(path: Path) -> dict[str, list[RatePoint]]:
    """The points of each data set in a file as microsoft/DCVC publishes VTM's: set → sequence → point → figures.

    Its PSNR on YUV weighs 6:1:1 as ours does; its MS-SSIM is of Y, U and V with these weights, under another name.
    """
    try:
        sets = cast(Mapping[str, Any], strict.read_object(path))
        return {name: [_point(*one) for one in _leaves(sequences)] for name, sequences in sets.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise GnvcError(f"{path}: no rate points as data set → sequence → point ({error!r})") from error


def _leaves(sequences: dict[str, dict[str, dict[str, float]]]) -> list[tuple[str, str, dict[str, float]]]:
    return [(sequence, key, point) for sequence, points in sequences.items() for key, point in points.items()]


def _point(sequence: str, key: str, point: dict[str, float]) -> RatePoint:
    figures = {ours: float(point[theirs]) for ours, theirs in DCVC_FIGURES.items() if point.get(theirs)}
    bpp = float(point["ave_all_frame_bpp"])
    if not (np.isfinite(bpp) and bpp > 0 and np.isfinite(list(figures.values())).all()):
        raise ValueError(f"{sequence} {key}")
    return RatePoint(Path(sequence).stem, int(point.get("qp", key)), bpp, figures)
