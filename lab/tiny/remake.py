"""What becomes of a package's file: pictures no larger than training wants, films cut and written anew."""

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import Frame, GnvcError
from gnvc_vd.video import create_video, open_video
from gnvc_vd.video.pictures import read_picture
from lab.tiny.packages import JPEG, RIFF, Cut, Material

LONGEST_SIDE = 1920  # of a photograph
SHORT_SIDE = 360  # of a film that is written anew
QUALITY = 95  # of JPEG files that are written, without chroma subsampling
FRAMES_A_SECOND = Fraction(25)  # of a film that came as pictures


def keep(file: Material, parts: list[bytes], folder: Path) -> None:
    """Write a file as training reads it."""
    target = file.below(folder)
    if file.cut is not None:
        _write_film(file.cut, file.path, parts, target)
        return
    with replacing(target) as part:
        part.write_bytes(gzip.decompress(parts[0]) if file.path.endswith(".gz") else parts[0])
        if file.is_photo:
            _as_trained_on(part, target.suffix)


def _as_trained_on(path: Path, suffix: str) -> None:
    """Shrink a picture in its place, and write it as what its name says it is."""
    data = path.read_bytes()
    other = data.startswith(RIFF) or (suffix == ".png") == data.startswith(JPEG)
    picture = _decode(data) if other else read_picture(path)
    scale = LONGEST_SIDE / max(picture.shape)
    if scale < 1:
        picture = resize(picture, *(round(side * scale) for side in picture.shape[:2]))
    if scale < 1 or other:
        path.write_bytes(_encode(picture, suffix))


def _write_film(cut: Cut, path: str, parts: list[bytes], target: Path) -> None:
    """The film's part, in square pixels, as H.264."""
    with ExitStack() as stack:
        if len(parts) == 1:
            beside = Path(stack.enter_context(tempfile.TemporaryDirectory())) / f"film{Path(path).suffix}"
            beside.write_bytes(parts[0])
            video = stack.enter_context(open_video(beside))
            frames, rate = iter(video), video.info.rate / cut.stride
        else:
            frames, rate = map(_decode, parts), FRAMES_A_SECOND / cut.stride
        stop = cut.start + cut.frames * cut.stride if cut.frames else None
        written = _reshape(islice(frames, cut.start, stop, cut.stride), cut)
        first = next(written, None)
        if first is None:
            raise GnvcError(f"{path}: no frame from {cut.start} on")
        height, width = first.shape[:2]
        if cut.rate:
            rate = Fraction(cut.rate).limit_denominator(1001)
        with create_video(target, width, height, rate) as out:
            for frame in chain([first], written):
                out.write(frame)
            if out.count < cut.frames:
                raise GnvcError(f"{path}: {out.count} frames from {cut.start} on, of {cut.frames}")


def _reshape(frames: Iterator[Frame], cut: Cut) -> Iterator[Frame]:
    for frame in frames:
        inner = frame[cut.rows : frame.shape[0] - cut.rows, cut.columns : frame.shape[1] - cut.columns]
        height, width = inner.shape[0], inner.shape[1] * cut.wider
        scale = min(1.0, SHORT_SIDE / min(height, width))
        yield resize(inner, *(2 * max(1, round(side * scale / 2)) for side in (height, width)))


def resize(picture: Frame, height: int, width: int) -> Frame:
    """Each pixel a weighted average where a picture becomes smaller: what an earlier JPEG left goes too."""
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    planes = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
    small = interpolate(planes, (height, width), mode="bicubic", antialias=True)[0].round().clamp(0, 255)
    return np.ascontiguousarray(small.permute(1, 2, 0).byte().numpy())


def _decode(data: bytes) -> Frame:
    """A picture that `read_picture` does not read."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise GnvcError("a file of a package is no picture that can be decoded")
    return np.ascontiguousarray(picture[..., ::-1])


def _encode(picture: Frame, suffix: str) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(suffix, picture[..., ::-1], options)
    if not done:
        raise GnvcError(f"a picture could not be written as {suffix}")
    return data.tobytes()
