"""x264, x265, SVT-AV1 and VVenC through the packaged ffmpeg: raw elementary streams, one thread, settings by name.

    source.mkv ──ffmpeg -c:v ENCODER──▶ stream.hevc ──ffmpeg──▶ decoded.mkv

What is in a stream and no decoder needs is left out: x265's and x264's lines about themselves, VVenC's delimiters.
One thread, because x264 and x265 make another stream with another number of threads.
"""

from dataclasses import dataclass

from gnvc_vd.baselines.commands import DECODED, FFV1, SOURCE, Clip, Commands, check_levels, colour_filters
from gnvc_vd.common.strict import require
from gnvc_vd.video.ffmpeg import QUIET

STRUCTURES = ("low-delay", "random-access")
TUNINGS = ("default", "psnr")
SUFFIXES = {"x264": "h264", "x265": "hevc", "svt-av1": "obu", "vvenc": "vvc"}  # ffmpeg's names of the raw formats
PRESETS = {"x264": "veryslow", "x265": "veryslow", "svt-av1": "4", "vvenc": "medium"}
HIGHEST = {"x264": 51, "x265": 51, "svt-av1": 70, "vvenc": 63}  # levels: CRF, and QP of VVenC
EACH_FRAME = ("-fps_mode", "passthrough")
NEVER = 1 << 20  # frames: an intra period that no clip reaches


@dataclass(frozen=True)
class Hybrid:
    """One encoder and its settings; a level is a CRF (x264, x265, SVT-AV1) or a QP (VVenC), lower is better.

    Args:
        structure: low-delay (every picture looks back only) or random-access (the encoder's hierarchy of pictures).
        intra: frames from one picture that starts anew to the next, with nothing in between that looks across it;
            0 is the first picture alone. Cuts change nothing.
        tuning: default is what the encoder does unasked, psychovisual or not; psnr is its setting for fidelity.
        preset: the encoder's name of its speed; None is PRESETS.
    """

    encoder: str
    levels: tuple[int, ...]
    structure: str = "low-delay"
    intra: int = 0
    tuning: str = "default"
    preset: str | None = None

    def __post_init__(self) -> None:
        for name, choices in (("encoder", SUFFIXES), ("structure", STRUCTURES), ("tuning", TUNINGS)):
            value = getattr(self, name)
            require(value in choices, f"there is no {name} {value!r}; there are {', '.join(choices)}")
        check_levels(self.levels, self.encoder, HIGHEST[self.encoder])
        require(self.intra >= 0, f"an intra period is not negative: {self.intra}")

    def commands(self, clip: Clip, level: int) -> Commands:
        even = clip.width % 2 == clip.height % 2 == 0
        require(even, f"{self.encoder} codes 4:2:0 of even sizes only, not {clip.width}×{clip.height}")
        stream = f"stream.{SUFFIXES[self.encoder]}"
        encoder = ("-c:v", f"lib{self.encoder.replace('-', '')}", "-preset", self.preset or PRESETS[self.encoder])
        coded = (*encoder, *_SETTINGS[self.encoder](self, level), *EACH_FRAME, "-f", SUFFIXES[self.encoder], stream)
        decoded = ("-vf", colour_filters(clip), *EACH_FRAME, *FFV1, DECODED)
        encode = ("ffmpeg", *QUIET, "-i", SOURCE, "-an", *coded)
        return Commands(encode, ("ffmpeg", *QUIET, "-framerate", str(clip.rate), "-i", stream, *decoded), stream)


def _x264(one: Hybrid, level: int) -> list[str]:
    tunes = [*(["psnr"] if one.tuning == "psnr" else []), *(["zerolatency"] if one.structure == "low-delay" else [])]
    tune = ["-tune", ",".join(tunes)] if tunes else []
    parameters = f"keyint={one.intra or 'infinite'}:scenecut=0:threads=1:sliced-threads=0"
    no_sei = ("-bsf:v", "filter_units=remove_types=6")  # 600 bytes of x264's options, and no picture in it
    return ["-crf", str(level), *tune, "-x264-params", parameters, *no_sei]


def _x265(one: Hybrid, level: int) -> list[str]:
    # Its two tunes exclude one another: zero latency is spelt out beside psnr's.
    low_delay = "bframes=0:rc-lookahead=0:b-adapt=0:cutree=0:" if one.structure == "low-delay" else ""
    period = f"keyint={one.intra or -1}:scenecut=0:open-gop=0"
    tune = ["-tune", "psnr"] if one.tuning == "psnr" else []
    parameters = f"{low_delay}{period}:info=0:pools=none:frame-threads=1:wpp=0:log-level=error"
    return ["-crf", str(level), *tune, "-x265-params", parameters]


def _svt_av1(one: Hybrid, level: int) -> list[str]:
    structure = 1 if one.structure == "low-delay" else 2
    tune = "tune=1:" if one.tuning == "psnr" else ""
    # ffmpeg's own -crf ends at 63; the encoder's goes on.
    return ["-svtav1-params", f"crf={level}:{tune}pred-struct={structure}:keyint={one.intra or -1}:lp=1"]


def _vvenc(one: Hybrid, level: int) -> list[str]:
    if one.structure == "low-delay":  # VVenC has low delay with GOPs of 8 and no refresh only
        require(not one.intra, "VVenC's low delay has one intra picture, the first")
        structure = "picreordering=0:gopsize=8:decodingrefreshtype=none:poc0idr=1:intraperiod=-1"
    else:  # its "idr" has the intra picture last of its GOP, and none in the clip's last
        structure = f"decodingrefreshtype=idr_no_radl:poc0idr=1:intraperiod={one.intra or NEVER}"
    perceptual = "0" if one.tuning == "psnr" else "1"
    parameters = f"{structure}:accessunitdelimiter=0:threads=1"
    return ["-qp", str(level), "-qpa", perceptual, "-vvenc-params", parameters]


_SETTINGS = {"x264": _x264, "x265": _x265, "svt-av1": _svt_av1, "vvenc": _vvenc}
