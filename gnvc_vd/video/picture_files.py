"""One photograph: a JPEG or PNG file to H W 3 uint8, in the colours of the conversion that films go through."""

from pathlib import Path

import av

from gnvc_vd.conventions import MAX_PIXELS, Colour, Frame
from gnvc_vd.video.colour import to_rgb
from gnvc_vd.video.orientation import Orientation
from gnvc_vd.video.reader import VideoError

MAX_FILE = 1 << 28  # bytes
DECODERS = {b"\xff\xd8\xff": "mjpeg", b"\x89PNG": "png"}
JFIF = Colour("bt601", "full")  # what a JPEG file is; PNG holds RGB


def read_picture(path: Path) -> Frame:
    """Decode a photograph. Quarter turns that EXIF states are applied, and alpha is composited onto black."""
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
    decoder.options = {"err_detect": "crccheck+bitstream+buffer+explode", "max_pixels": str(MAX_PIXELS)}
    decoder.thread_count = 1
    try:
        frames = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: damaged or cut") from error
    if not frames or frames[0].is_corrupt:
        raise VideoError(f"{path}: damaged or cut")
    return Orientation.of(frames[0], name).applied(to_rgb(frames[0], JFIF, name)(frames[0]))
