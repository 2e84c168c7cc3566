"""Sources that all codecs encode: a sequence's first frames as YUV in FFV1, with matrix and range.

    film ──pictures──▶ codes as stored (4:2:0, 8 or 10 bits), else converted from RGB ──FFV1──▶ source.mkv

Hybrid codecs read these codes, learned ones the RGB that the video layer makes of them, and every decoded video is
measured against them, so that no codec pays for another one's conversion. The report's player has copies, which are for
viewing only:

    any video ──RGB──▶ 4:2:0, BT.709 ──x264, CRF 12, a key frame every 12, no B-frames──▶ .mp4

The source and all decoded videos are copied in the same way, with the same loss.
"""

import dataclasses
import json
from collections.abc import Sequence as SequenceOf
from itertools import chain, islice
from pathlib import Path

import numpy as np

from gnvc_vd.baselines.commands import Clip, colour_filters, lossless, raw_input
from gnvc_vd.common.files import replacing, write_text
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import Colour, GnvcError
from gnvc_vd.evaluate.test_sets import Sequence, film_of
from gnvc_vd.video import Picture, RawVideo, ffmpeg, open_video
from gnvc_vd.video.planes import PlaneConverter, Planes

AS_STORED = ("yuv420p", "yuv420p10le")
SHOWN = Colour("bt709", "limited")
SHOWN_AS = ["-c:v", "libx264", "-preset", "medium", "-threads", "1", "-crf", "12", "-bf", "0", "-g", "12"]
EVEN = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  # 4:2:0 in H.264 needs even sizes
# Browsers use the matrix only if primaries and transfer are set too; otherwise they guess by the size.
STATED = "setparams=color_primaries=bt709:color_trc=bt709"

Crop = SequenceOf[int] | None  # width and height of a centre crop


@dataclasses.dataclass(frozen=True)
class PreparedSource:
    """A source file for codecs, and the sequence and film that it was made from."""

    sequence: Sequence
    clip: Clip
    path: Path
    sha256: str  # of the film


def prepare(sequence: Sequence, root: Path, frames: int, folder: Path, crop: Crop = None) -> PreparedSource:
    """Make FOLDER/NAME.mkv, and NAME.json with its settings, unless they exist."""
    target, about = folder / f"{sequence.name}.mkv", folder / f"{sequence.name}.json"
    clip = crop_clip(sequence.clip(frames), crop)
    film, sha = film_of(sequence, root)
    settings = {"film": sequence.file, "sha256": sha, **describe_clip(clip), "crop": None if crop is None else [*crop]}
    if not (target.is_file() and about.is_file() and json.loads(about.read_text(encoding="utf-8")) == settings):
        about.unlink(missing_ok=True)  # it must not describe another source
        made = make_source(film, target, clip.frames, sequence.raw, sequence.colour, crop)
        if made != clip:
            target.unlink()
            raise GnvcError(f"{film} holds {made}; the manifest says {clip}")
        write_text(about, json.dumps(settings))
    return PreparedSource(sequence, clip, target, sha)


def describe_clip(clip: Clip) -> dict[str, object]:
    """A clip as plain data, for files that identify it."""
    return dataclasses.asdict(clip) | {"rate": str(clip.rate), "colour": str(clip.colour)}


def make_source(
    film: Path, target: Path, frames: int, raw: RawVideo | None = None, colour: Colour | None = None, crop: Crop = None
) -> Clip:
    """Write the first frames of a film losslessly; `colour` overrides the film's own."""
    with replacing(target) as part, open_video(film, raw, colour=colour) as video:
        info, convert = video.info, PlaneConverter(video.info.colour)
        taken = (_codes(picture, convert) for picture in islice(video.pictures(), frames))
        first = next(taken, None)
        if first is None:
            raise GnvcError(f"{film}: it has no frames, but {frames} are needed")
        clip = crop_clip(Clip(info.width, info.height, frames, info.rate, first.colour, first.pixel_format), crop)
        with ffmpeg.FfmpegWriter(lossless(clip, "-", part.name), str(part.parent)) as pipe:
            for count, planes in enumerate(chain([first], taken), 1):  # noqa: B007 - counted for what follows
                pipe.write(middle(planes, crop).tobytes())
            require(count == frames, f"{film}: it has {count} frames, but {frames} are needed", GnvcError)
    return clip


def _codes(picture: Picture, convert: PlaneConverter) -> Planes:
    """The stored planes if codecs take their format, else planes converted from RGB."""
    stored = picture.planes
    return stored if stored and stored.pixel_format in AS_STORED else convert(picture.rgb)


def crop_clip(clip: Clip, crop: Crop) -> Clip:
    if crop is None:
        return clip
    width, height = crop
    held = width <= clip.width and height <= clip.height
    require(held, f"pictures of {clip.width}×{clip.height} cannot be cropped to {width}×{height}", GnvcError)
    return dataclasses.replace(clip, width=width, height=height)


def middle(planes: Planes, crop: Crop) -> Planes:
    """Centre crop of 4:2:0 planes, from an even position, so that samples stay as they are."""
    if crop is None:
        return planes
    width, height = crop
    tall, wide = planes.codes[0].shape
    top, left = (tall - height) // 4, (wide - width) // 4  # in chroma samples
    y, u, v = planes.codes
    chroma = np.s_[top : top + height // 2, left : left + width // 2]
    luma = np.s_[2 * top : 2 * top + height, 2 * left : 2 * left + width]
    return dataclasses.replace(planes, codes=(y[luma], u[chroma], v[chroma]))


def write_player_copy(video: Path, clip: Clip, target: Path, raw: RawVideo | None = None) -> None:
    """Write a copy of a clip for the player."""
    target.parent.mkdir(parents=True, exist_ok=True)
    look = dataclasses.replace(clip, colour=SHOWN, pixel_format="yuv420p")
    filters = ["-vf", f"{colour_filters(look)},{EVEN},{STATED}"]
    with replacing(target) as part, open_video(video, raw) as frames:
        arguments = [*raw_input(look, "-"), *filters, *SHOWN_AS, "-movflags", "+faststart", part.name]
        with ffmpeg.FfmpegWriter(arguments, str(part.parent)) as pipe:
            for planes in map(PlaneConverter(SHOWN), islice(frames, clip.frames)):
                pipe.write(planes.tobytes())
