"""What every codec is given: a sequence's first frames as planes of YUV in FFV1, with matrix and range named.

    film ──pictures──▶ codes as stored (4:2:0, 8 or 10 bits), else converted from RGB ──FFV1──▶ source.mkv

Hybrid codecs read these codes, learned ones the RGB that the video layer makes of them, and every decoded video is
judged against them. So no codec is charged for another's conversion. And copies for browsers to play, for looking at
side by side, never for measuring:

    any video ──RGB──▶ 4:2:0, BT.709 ──x264, CRF 12, a key frame every 12, no B-frames──▶ .mp4

Every codec's pictures, and the source's, go this one way, so what it costs they share.
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
EVEN = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  # H.264's 4:2:0 has no odd sizes
# A browser believes the matrix only where primaries and transfer stand beside it, and else goes by the size.
STATED = "setparams=color_primaries=bt709:color_trc=bt709"

Crop = SequenceOf[int] | None  # width and height of the middle


@dataclasses.dataclass(frozen=True)
class PreparedSource:
    """A source as codecs get it, and what it came from."""

    sequence: Sequence
    clip: Clip
    path: Path
    sha256: str  # of the film


def prepare(sequence: Sequence, root: Path, frames: int, folder: Path, crop: Crop = None) -> PreparedSource:
    """FOLDER/NAME.mkv and what it was made of, NAME.json; made once."""
    target, about = folder / f"{sequence.name}.mkv", folder / f"{sequence.name}.json"
    clip = crop_clip(sequence.clip(frames), crop)
    film, sha = film_of(sequence, root)
    settings = {"film": sequence.file, "sha256": sha, **describe_clip(clip), "crop": None if crop is None else [*crop]}
    if not (target.is_file() and about.is_file() and json.loads(about.read_text(encoding="utf-8")) == settings):
        about.unlink(missing_ok=True)  # it must never stand beside another source
        made = make_source(film, target, clip.frames, sequence.raw, sequence.colour, crop)
        if made != clip:
            target.unlink()
            raise GnvcError(f"{film} holds {made}; the manifest says {clip}")
        write_text(about, json.dumps(settings))
    return PreparedSource(sequence, clip, target, sha)


def describe_clip(clip: Clip) -> dict[str, object]:
    """As plain data, for files that must know it again."""
    return dataclasses.asdict(clip) | {"rate": str(clip.rate), "colour": str(clip.colour)}


def make_source(
    film: Path,
    target: Path,
    frames: int,
    raw: RawVideo | None = None,
    colour: Colour | None = None,
    crop: Crop = None,
) -> Clip:
    """The first frames of a film, losslessly; `colour` overrides what the film says."""
    with replacing(target) as part, open_video(film, raw, colour=colour) as video:
        info, convert = video.info, PlaneConverter(video.info.colour)
        taken = (_codes(picture, convert) for picture in islice(video.pictures(), frames))
        first = next(taken, None)
        if first is None:
            raise GnvcError(f"{film}: 0 frames, {frames} were asked for")
        clip = crop_clip(Clip(info.width, info.height, frames, info.rate, first.colour, first.pixel_format), crop)
        with ffmpeg.FfmpegWriter(lossless(clip, "-", part.name), str(part.parent)) as pipe:
            for count, planes in enumerate(chain([first], taken), 1):  # noqa: B007 - counted for what follows
                pipe.write(middle(planes, crop).tobytes())
            require(count == frames, f"{film}: {count} frames, {frames} were asked for", GnvcError)
    return clip


def _codes(picture: Picture, convert: PlaneConverter) -> Planes:
    """As stored where codecs take that, else of the frame as shown."""
    stored = picture.planes
    return stored if stored and stored.pixel_format in AS_STORED else convert(picture.rgb)


def crop_clip(clip: Clip, crop: Crop) -> Clip:
    if crop is None:
        return clip
    width, height = crop
    held = width <= clip.width and height <= clip.height
    require(held, f"pictures of {clip.width}×{clip.height} have no middle of {width}×{height}", GnvcError)
    return dataclasses.replace(clip, width=width, height=height)


def middle(planes: Planes, crop: Crop) -> Planes:
    """The middle of 4:2:0 pictures, beginning at an even place, so that codes stay as they are."""
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
    """A copy of the clip's frames at its rate, for the player."""
    target.parent.mkdir(parents=True, exist_ok=True)
    look = dataclasses.replace(clip, colour=SHOWN, pixel_format="yuv420p")
    filters = ["-vf", f"{colour_filters(look)},{EVEN},{STATED}"]
    with replacing(target) as part, open_video(video, raw) as frames:
        arguments = [*raw_input(look, "-"), *filters, *SHOWN_AS, "-movflags", "+faststart", part.name]
        with ffmpeg.FfmpegWriter(arguments, str(part.parent)) as pipe:
            for planes in map(PlaneConverter(SHOWN), islice(frames, clip.frames)):
                pipe.write(planes.tobytes())
