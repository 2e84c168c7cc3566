"""Random access to a film's frames, for training clips.

    file ──packets' pts and dts──▶ FilmIndex (once)
    frame numbers ──seek to the preceding key frame──▶ decode ──crop──▶ colour.to_rgb ──▶ T H W 3 uint8

"exact"   PyAV: the same frames and colours as `open_video`, bit for bit, in every format that it reads; only the crop
          is converted to RGB. Formats without seeking (raw bitstreams) or without times of display (H.264 and HEVC in
          AVI; ASF, MXF) are decoded from the beginning each time.
"decord"  Linux x86-64 only, for mp4, mov, mkv and webm without rotation (other films are read by "exact"): libswscale's
          fast colour conversion, always BT.601 with nearest-neighbour chroma, whatever the file says. In files with
          open GOPs (x265's default) it may return neighbouring frames instead of those near key frames.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

from gnvc_vd.conventions import Colour, Frame, UsageError
from gnvc_vd.video.colour import Converter, colour_of, to_rgb
from gnvc_vd.video.orientation import Orientation
from gnvc_vd.video.reader import VideoError, average_rate, is_shown, open_container

Backend = Literal["exact", "decord"]
DECORD_FORMATS = ("mov", "matroska")  # in others decord's frame numbers are unreliable (MPEG-PS: one GOP late)
SOUGHT_BY_TIME_SHOWN = ("mov", "matroska")  # seek by pts; other formats by dts
UNTIMED = ("asf", "mxf")  # libav may show the decoding order's times as pts
UNTIMED_IN_AVI = ("h264", "hevc", "vvc")  # for others libav reads the order of display from the packets
KEYS_TRIED = 3
THREADS = 1  # training data loaders run one process per core
GRAIN = 8  # crops before conversion are aligned to this, with at least this margin: chroma keeps its neighbours


@dataclass(frozen=True)
class Area:
    """A crop, in pixels of the displayed (rotated) picture."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, frame: Frame) -> Frame:
        return frame[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class FilmIndex:
    """Index for random access to a film's frames, built from all its packets and one decoded frame."""

    frames: int
    width: int  # of the displayed (rotated) picture
    height: int
    rate: float  # average frames per second; 0 if unknown
    times: NDArray[np.int64] | None  # sorted pts of all frames; None if unusable: always decode from the beginning
    keys: NDArray[np.int64]  # N 2: each key frame's pts, and the timestamp (pts or dts) to seek to it
    colour: Colour
    codec: str
    container: str
    orientation: Orientation


def index_film(path: Path) -> FilmIndex:
    """Build a film's index."""
    times: list[int | None] = []
    keys: list[tuple[int | None, int | None]] = []
    with open_container(path) as (container, stream):
        by_shown = container.format.name.startswith(SOUGHT_BY_TIME_SHOWN)
        try:
            for packet in container.demux(stream):
                if is_shown(packet):
                    times.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append((packet.pts, packet.pts if packet.dts is None or by_shown else packet.dts))
        except av.error.FFmpegError as error:
            raise VideoError(f"{path}: damaged or cut after {len(times)} packets") from error
        rate, codec, container_name = average_rate(stream), stream.codec_context.name, container.format.name
    with open_container(path, threads=THREADS, damage="damaged at its beginning") as (container, stream):
        first = next(container.decode(stream), None)
    if not times or first is None:
        raise VideoError(f"{path}: holds no video frame")
    guessed = container_name in UNTIMED or (container_name == "avi" and codec in UNTIMED_IN_AVI)
    ordered = None not in times and len(set(times)) == len(times) and keys and not guessed
    orientation = Orientation.of(first, codec)
    height, width = (first.width, first.height) if orientation.transposed else (first.height, first.width)
    return FilmIndex(
        frames=len(times),
        width=width,
        height=height,
        rate=float(rate or 0),
        times=np.sort(np.array(times, np.int64)) if ordered else None,
        keys=np.array(sorted(keys) if ordered else [], np.int64).reshape(-1, 2),
        colour=colour_of(first)[0],
        codec=codec,
        container=container_name,
        orientation=orientation,
    )


def read_frames(
    path: Path, index: FilmIndex, start: int, count: int, stride: int = 1, area: Area | None = None,
    backend: Backend = "exact",
) -> Frame:  # fmt: skip
    """Read frames start, start + stride, … of a film, optionally cropped: T H W 3 uint8.

    Raises VideoError if they cannot be decoded; errors that libav silently ignores are ignored here too.
    """
    last = start + (count - 1) * stride
    if start < 0 or count < 1 or stride < 1 or last >= index.frames:
        raise ValueError(f"frames {start} to {last} of {index.frames}")
    numbers, area = range(start, last + 1, stride), area or Area(0, 0, index.height, index.width)
    if backend == "decord":
        if importlib.util.find_spec("decord") is None:
            raise UsageError("decord is not installed (it is built for Linux on x86-64 only); use the exact reader")
        if index.container.startswith(DECORD_FORMATS) and index.orientation == Orientation():
            return _by_decord(path, index, numbers, area)
    crop = _Cropper(index, area)
    frames = None if index.times is None else _read_by_seeking(path, index.keys, index.times[numbers], start, crop)
    return _read_by_counting(path, numbers, crop) if frames is None else frames


class _Cropper:
    """Crops decoded frames and converts them to RGB, converting little more than the crop."""

    def __init__(self, index: FilmIndex, area: Area) -> None:
        self._orientation, self._area = index.orientation, area
        self._convert = to_rgb(index.colour, index.codec)
        self._crop: Converter | None = None
        if index.orientation == Orientation():
            top, bottom = _widen(area.top, area.top + area.height, index.height)
            left, right = _widen(area.left, area.left + area.width, index.width)
            self._area = Area(area.top - top, area.left - left, area.height, area.width)
            if (bottom - top, right - left) != (index.height, index.width):
                self._crop = Converter(("crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1"))

    def __call__(self, frame: av.VideoFrame) -> Frame:
        rgb = self._convert(self._crop(frame) if self._crop else frame)
        return self._area.cut(self._orientation.apply(rgb))


def _read_by_seeking(
    path: Path, keys: NDArray[np.int64], times: NDArray[np.int64], start: int, crop: _Cropper
) -> Frame | None:
    """Frames with these pts, from frame `start` on; None if seeking did not find all of them.

    In an open GOP, pictures after a key frame may refer to pictures before it, and the decoder reports these missing
    references as damage. So before damage is reported, decoding is retried from one and two key frames earlier.
    """
    starts = keys[keys[:, 0] <= times[0]][-KEYS_TRIED:][::-1].tolist()
    wanted = set(times.tolist())
    for key, sought in starts:
        frames = {}
        try:
            with open_container(path, threads=THREADS, damage=f"damaged after frame {start}") as (container, stream):
                container.seek(sought, stream=stream, backward=True)
                for frame in _decode_from(starts[0][0], container.demux(stream)):
                    if frame.pts in wanted and not frame.is_corrupt:
                        frames[frame.pts] = crop(frame)
                    if frame.pts is None or frame.pts >= times[-1]:
                        break
        except VideoError:
            if [key, sought] == starts[-1]:
                raise
        else:
            return np.stack([frames[time] for time in times.tolist()]) if len(frames) == len(times) else None
    return None


def _decode_from(key: int, packets: Iterator["av.Packet[av.VideoStream]"]) -> Iterator[av.VideoFrame]:
    """Decode packets; errors in frames displayed before the key frame, whose references may be missing, are ignored."""
    for packet in packets:
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            if packet.pts is None or packet.pts >= key:
                raise


def _read_by_counting(path: Path, numbers: range, crop: _Cropper) -> Frame:
    """Frames with these numbers, decoding from the beginning."""
    frames = []
    with open_container(path, threads=THREADS, damage=f"damaged before frame {numbers[-1]}") as (container, stream):
        for number, frame in enumerate(container.decode(stream)):
            if number in numbers and not frame.is_corrupt:
                frames.append(crop(frame))
            if number == numbers[-1]:
                break
    if len(frames) != len(numbers):
        raise VideoError(f"{path}: frames {numbers[0]} to {numbers[-1]} cannot all be decoded")
    return np.stack(frames)


def _by_decord(path: Path, index: FilmIndex, numbers: range, area: Area) -> Frame:
    import decord  # available on Linux x86-64 only

    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        frames: Frame = reader.get_batch(list(numbers)).asnumpy()
    except (RuntimeError, decord.DECORDError, IndexError) as error:
        raise VideoError(f"{path}: damaged near frame {numbers[0]}") from error
    if frames.shape[1:3] != (index.height, index.width):
        raise VideoError(f"{path}: decord shows {frames.shape[2]}×{frames.shape[1]}, not {index.width}×{index.height}")
    return np.stack([area.cut(frame) for frame in frames])


def _widen(start: int, stop: int, end: int) -> tuple[int, int]:
    return max(0, start // GRAIN - 1) * GRAIN, min(end, (-(-stop // GRAIN) + 1) * GRAIN)
