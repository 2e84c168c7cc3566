"""Any codec behind an encode and a decode command: VTM, HM, DCVC-RT, GLC-Video in the user's own checkout.

    source.yuv ──words of a template──▶ stream ──words of another──▶ decoded.yuv

A template's words are split as a shell would, and no shell runs them. These stand for values in all of its texts:

    $width $height $frames $rate $depth $level     of the clip and the point; $whole_rate is the rate rounded
    $folder                                        where the commands run, an absolute path
    $checkout                                      where the other codec lies, as the configuration says

configs/evaluate/anchors/ has templates of VTM, HM, DCVC-RT, DCVC-UF, GLC-Video, GVC-RT and S²VC.
"""

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template

from gnvc_vd.baselines.commands import FORMS, Clip, Commands, StatedRate, check_different
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import UsageError


@dataclass(frozen=True)
class External:
    """A codec as two templates.

    Args:
        levels: what $level stands for, point by point.
        decode: None where encoding writes the decoded pictures too; then no fresh process has decoded.
        reads: mkv (FFV1), yuv (planes) or png (RGB pictures source/im00001.png …, converted as ours are).
        stream, decoded: patterns of what the commands make; decoded is .yuv in the clip's format, a folder of PNGs,
            or any video that states its colours.
        files: texts that the commands read, by name.
        version: what is known of the checkout's; another one makes all points again.
        values: further names that stand for values, of each level: {3: {lambda: "2.6"}}.
        stated: where the rate is read from what the programs state, instead of from a stream's bytes.
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
    values: dict[int, dict[str, str]] = field(default_factory=dict)
    stated: tuple[StatedRate, ...] = ()

    def __post_init__(self) -> None:
        check_different(self.levels)
        require(self.reads in FORMS, f"a codec reads {', '.join(FORMS)}, not {self.reads!r}")
        given = not self.values or set(self.levels) <= set(self.values)
        require(given, f"values are of every level or of none: there are levels {self.levels}")

    def commands(self, clip: Clip, level: int, folder: Path) -> Commands:
        values: dict[str, object] = {name: getattr(clip, name) for name in ("width", "height", "frames", "rate")}
        values |= {"depth": 10 if clip.pixel_format.endswith("10le") else 8, "level": level}
        values |= {"whole_rate": round(clip.rate), **self.values.get(level, {})}
        values |= {"folder": folder.absolute(), "checkout": Path(self.checkout or ".").absolute()}

        def words(text: str | None) -> tuple[str, ...]:
            return tuple(_fill_template(word, values) for word in shlex.split(text or ""))

        written = {name: _fill_template(text, values) for name, text in (self.files or {}).items()}
        stream, decoded = (_fill_template(text, values) for text in (self.stream, self.decoded))
        stated = tuple(replace(one, files=_fill_template(one.files, values)) for one in self.stated)
        return Commands(words(self.encode), words(self.decode), stream, FORMS[self.reads], decoded, written, stated)


def _fill_template(text: str, values: dict[str, object]) -> str:
    try:
        return Template(text).substitute(values)
    except (KeyError, ValueError) as error:
        names = " ".join(f"${name}" for name in values)
        raise UsageError(f"the template {text!r} holds something else than {names}: {error}") from error
