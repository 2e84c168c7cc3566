"""Still pictures: JPEG and PNG files to H W 3 uint8 and back to PNG, and sheets of frames.

Colours are those of the conversion that films go through.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from gnvc_vd.conventions import MAX_PIXELS, Colour, Frame
from gnvc_vd.video.colour import to_rgb
from gnvc_vd.video.orientation import Orientation
from gnvc_vd.video.reader import STRICT, VideoError

MAX_FILE = 1 << 28  # bytes
DECODERS = {b"\xff\xd8\xff": "mjpeg", b"\x89PNG": "png"}
JFIF = Colour("bt601", "full")  # what a JPEG file is; PNG holds RGB
STRIP_FRAMES = 5


def read_picture(path: Path) -> Frame:
    """Decode a photograph. Quarter turns that EXIF states are applied, and alpha is composited onto black."""
    decoder, frames = _decode(path)
    if not frames or frames[0].is_corrupt:
        raise VideoError(f"{path}: damaged or cut")
    return Orientation.of(frames[0], decoder.name).apply(to_rgb(JFIF, decoder.name)(frames[0]))


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width by a photograph's header, before EXIF's turn. Nothing is decoded, and damage goes unnoticed."""
    decoder, _ = _decode(path, header_only=True)
    return decoder.height, decoder.width


def _decode(path: Path, header_only: bool = False) -> tuple[av.VideoCodecContext, list[av.VideoFrame]]:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror}") from error
    name = next((decoder for magic, decoder in DECODERS.items() if data.startswith(magic)), None)
    if name is None or len(data) > MAX_FILE:
        raise VideoError(f"{path}: neither a JPEG nor a PNG file" + (" of a sensible size" if name else ""))
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.options = STRICT | {"max_pixels": str(MAX_PIXELS)}
    decoder.thread_count, decoder.skip_frame = 1, "ALL" if header_only else "DEFAULT"
    try:
        return decoder, [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: damaged or cut") from error


def write_picture(path: Path, frame: Frame) -> None:
    """One PNG."""
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = picture.width, picture.height
    encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1, 25)
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)]))


def sheets(original: Frame, decoded: dict[str, Frame]) -> dict[str, Frame]:
    """Videos beside one another: a few frames side by side, a row for each way; and what one column of pixels does over
    time, where flicker shows, the ways side by side.
    """
    rows = [original, *decoded.values()]
    places = np.linspace(0, len(original) - 1, min(STRIP_FRAMES, len(original))).round().astype(int)
    frames = np.concatenate([np.concatenate(list(video[places]), axis=1) for video in rows])
    middle = original.shape[2] // 2
    flicker = np.concatenate([video[:, :, middle].transpose(1, 0, 2).repeat(4, axis=1) for video in rows], axis=1)
    return {"frames": frames, "flicker": flicker}
