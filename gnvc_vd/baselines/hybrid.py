"""x264, x265, SVT-AV1 and VVenC through the packaged ffmpeg: raw elementary streams, one thread, settings by name.

    source.mkv ──ffmpeg -c:v ENCODER──▶ stream.hevc ──ffmpeg──▶ decoded.mkv

What is in a stream and no decoder needs is left out: x265's and x264's lines about themselves, VVenC's delimiters.
One thread, because x264 and x265 make another stream with another number of threads.
"""

from dataclasses import dataclass

from gnvc_vd.baselines.commands import DECODED, FFV1, SOURCE, Clip, Commands, check_different, tagged
from gnvc_vd.conventions import UsageError

STRUCTURES = ("low-delay", "random-access")
TUNINGS = ("default", "psnr")
SUFFIXES = {"x264": "h264", "x265": "hevc", "svt-av1": "obu", "vvenc": "vvc"}  # ffmpeg's names of the raw formats
PRESETS = {"x264": "veryslow", "x265": "veryslow", "svt-av1": "4", "vvenc": "medium"}
HIGHEST = {"x264": 51, "x265": 51, "svt-av1": 70, "vvenc": 63}  # levels: CRF, and QP of VVenC
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
        for name, value, known in (
            ("encoder", self.encoder, tuple(SUFFIXES)),
            ("structure", self.structure, STRUCTURES),
            ("tuning", self.tuning, TUNINGS),
        ):
            if value not in known:
                raise UsageError(f"there is no {name} {value!r}; there are {', '.join(known)}")
        if not self.levels or not all(0 <= level <= HIGHEST[self.encoder] for level in self.levels):
            raise UsageError(f"levels of {self.encoder} are 0 to {HIGHEST[self.encoder]}: not {self.levels}")
        check_different(self.levels)
        if self.intra < 0:
            raise UsageError(f"an intra period is not negative: {self.intra}")

    def commands(self, clip: Clip, level: int) -> Commands:
        if clip.width % 2 or clip.height % 2:
            raise UsageError(f"{self.encoder} codes 4:2:0 of even sizes only, not {clip.width}×{clip.height}")
        form = SUFFIXES[self.encoder]
        stream = f"stream.{form}"
        quiet = ("ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-y")
        settings = _SETTINGS[self.encoder](self, level)
        encode = (*quiet, "-i", SOURCE, "-an", *settings, "-fps_mode", "passthrough", "-f", form, stream)
        show = ("-vf", tagged(clip), "-fps_mode", "passthrough", *FFV1, DECODED)
        return Commands(encode, (*quiet, "-framerate", str(clip.rate), "-i", stream, *show), stream)

    @property
    def speed(self) -> str:
        return self.preset or PRESETS[self.encoder]


def _x264(one: Hybrid, level: int) -> list[str]:
    tune = [*(["psnr"] if one.tuning == "psnr" else []), *(["zerolatency"] if one.structure == "low-delay" else [])]
    parameters = f"keyint={one.intra or 'infinite'}:scenecut=0:threads=1:sliced-threads=0"
    return [
        *("-c:v", "libx264", "-preset", one.speed, "-crf", str(level)),
        *(["-tune", ",".join(tune)] if tune else []),
        *("-x264-params", parameters),
        *("-bsf:v", "filter_units=remove_types=6"),  # SEI: 600 bytes of x264's options, and no picture in it
    ]


def _x265(one: Hybrid, level: int) -> list[str]:
    # Its two tunes exclude one another: zero latency is spelt out beside psnr's.
    low_delay = "bframes=0:rc-lookahead=0:b-adapt=0:cutree=0:" if one.structure == "low-delay" else ""
    period = f"keyint={one.intra or -1}:scenecut=0:open-gop=0"
    tune = ["-tune", "psnr"] if one.tuning == "psnr" else []
    parameters = f"{low_delay}{period}:info=0:pools=none:frame-threads=1:wpp=0:log-level=error"
    return ["-c:v", "libx265", "-preset", one.speed, "-crf", str(level), *tune, "-x265-params", parameters]


def _svt_av1(one: Hybrid, level: int) -> list[str]:
    structure = 1 if one.structure == "low-delay" else 2
    tune = "tune=1:" if one.tuning == "psnr" else ""
    # ffmpeg's own -crf ends at 63; the encoder's goes on.
    parameters = f"crf={level}:{tune}pred-struct={structure}:keyint={one.intra or -1}:lp=1"
    return ["-c:v", "libsvtav1", "-preset", one.speed, "-svtav1-params", parameters]


def _vvenc(one: Hybrid, level: int) -> list[str]:
    if one.structure == "low-delay":  # VVenC has low delay with GOPs of 8 and no refresh only
        if one.intra:
            raise UsageError("VVenC's low delay has one intra picture, the first")
        structure = "picreordering=0:gopsize=8:decodingrefreshtype=none:poc0idr=1:intraperiod=-1"
    else:  # its "idr" has the intra picture last of its GOP, and none in the clip's last
        structure = f"decodingrefreshtype=idr_no_radl:poc0idr=1:intraperiod={one.intra or NEVER}"
    perceptual = "0" if one.tuning == "psnr" else "1"
    parameters = f"{structure}:accessunitdelimiter=0:threads=1"
    quality = ["-qp", str(level), "-qpa", perceptual]
    return ["-c:v", "libvvenc", "-preset", one.speed, *quality, "-vvenc-params", parameters]


_SETTINGS = {"x264": _x264, "x265": _x265, "svt-av1": _svt_av1, "vvenc": _vvenc}
