"""Decoded videos as browsers play them: for looking at side by side, never for measuring.

    any video ──RGB──▶ 4:2:0, BT.709 ──x264, CRF 12, a key frame every 12, no B-frames──▶ .mp4

Every codec's pictures, and the source's, go this one way, so what it costs they share.
"""

from dataclasses import replace
from pathlib import Path

from gnvc_vd.baselines.commands import Clip, raw_input, tagged
from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import Colour
from gnvc_vd.video import PlanesOf, ffmpeg, open_video

COLOUR = Colour("bt709", "limited")
ENCODER = ["-c:v", "libx264", "-preset", "medium", "-threads", "1", "-crf", "12", "-bf", "0", "-g", "12"]
EVEN = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  # H.264's 4:2:0 has no odd sizes
# A browser believes the matrix only where primaries and transfer stand beside it, and else goes by the size.
STATED = "setparams=color_primaries=bt709:color_trc=bt709"


def show(video: Path, clip: Clip, target: Path) -> None:
    """A copy for the player; the same frames at the same rate."""
    target.parent.mkdir(parents=True, exist_ok=True)
    look = replace(clip, colour=COLOUR, pixel_format="yuv420p")
    with replacing(target) as part, open_video(video) as frames:
        filters = ["-vf", f"{tagged(look)},{EVEN},{STATED}"]
        arguments = [*raw_input(look, "-"), *filters, *ENCODER, "-movflags", "+faststart"]
        convert = PlanesOf(COLOUR)
        with ffmpeg.Fed([*arguments, part.name], str(part.parent)) as pipe:
            for frame in frames:
                pipe.write(convert(frame).tobytes())
