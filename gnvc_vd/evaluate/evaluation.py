"""The settings of an evaluation: its codecs, sequences, metrics and report."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from omegaconf import DictConfig

from gnvc_vd.baselines.commands import check_levels
from gnvc_vd.baselines.external import External
from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.bitstream.gop import check_gop
from gnvc_vd.codecs.contract import RATE_OPTIONS
from gnvc_vd.common.strict import parse, require
from gnvc_vd.conventions import UsageError
from gnvc_vd.evaluate.compare import METRICS, check_measures
from gnvc_vd.evaluate.protocols import read_protocol
from gnvc_vd.metrics.bdrate import SMALLEST_OVERLAP
from gnvc_vd.train.experiments import plain

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # names are used for folders


Setting = bool | int | float | str | None


@dataclass(frozen=True)
class OwnCodec:
    """One of our codecs, run by its command line. A level is a quality, or GVC's atoms: higher is better.

    Args:
        model: None: the default model.
        encode, decode: further options by name, as in {seed: 1} or {no-refine: true}; null and false leave one out.
        models: a model for each level, for models of a single rate, instead of `levels` and `model`.
    """

    levels: tuple[int, ...] = ()
    codec: str = "gnvc-vd"
    model: str | None = None
    encode: dict[str, Setting] = field(default_factory=dict)
    decode: dict[str, Setting] = field(default_factory=dict)
    models: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.codec in RATE_OPTIONS, f"our codecs are {' and '.join(RATE_OPTIONS)}, not {self.codec!r}")
        if self.models:
            one_each = self.model is None and self.levels in ((), tuple(self.models))
            require(one_each, "models has a model for each level: give neither levels nor a model beside it")
            object.__setattr__(self, "levels", tuple(self.models))
        check_levels(self.levels, self.codec, RATE_OPTIONS[self.codec].largest)

    def model_at(self, level: int) -> str | None:
        return self.models.get(level, self.model)


def words(options: Mapping[str, Setting]) -> list[str]:
    """Options as words of a command line."""
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    return [word for name, value in given.items() for word in (f"--{name}", *([] if value is True else [str(value)]))]


@dataclass(frozen=True)
class CodecEntry:
    """A codec of one of three kinds."""

    ours: OwnCodec | None = None
    hybrid: Hybrid | None = None
    external: External | None = None

    def __post_init__(self) -> None:
        given = [codec for codec in vars(self).values() if codec is not None]
        require(len(given) == 1, "a codec is exactly one of ours, hybrid and external")

    @property
    def kind(self) -> str:
        return next(kind for kind, codec in vars(self).items() if codec is not None)

    @property
    def codec(self) -> OwnCodec | Hybrid | External:
        codec: OwnCodec | Hybrid | External = vars(self)[self.kind]
        return codec


@dataclass(frozen=True)
class ReportOptions:
    """Options of the report.

    Args:
        anchor: the codec that BD-rates compare with.
        overlap: share of a range, 0 to 1, that two curves must both cover for a difference between them.
        rates: bits per pixel; the player has each codec's point nearest to each of these rates.
        shown: sequences in the player; default: all, as far as they fit on a page.
        published: papers whose tables are printed beside ours.
        points: files of rate points that others published (report/published.py).
    """

    anchor: str | None = None
    overlap: float = SMALLEST_OVERLAP
    rates: tuple[float, ...] = ()
    shown: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    points: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(0 <= self.overlap <= 1, f"an overlap is a share, 0 to 1: not {self.overlap}")
        positive = all(0 < rate < float("inf") for rate in self.rates)
        require(positive, f"rates are positive, in bits per pixel: not {self.rates}")


@dataclass(frozen=True)
class Evaluation:
    """All settings of an evaluation.

    Args:
        root: folder of the manifest's files; None: the package's clips.
        protocol: a paper's test conditions, which the report prints beside those of the evaluation.
        frames, gop: None: the protocol's, if there is one, or the manifest's.
        crop: width and height of a centre crop; None: whole pictures.
        sequences: some of the manifest's sequences; default: all.
        only: the codecs of this call, to distribute them over jobs; default: all.
        at_once: points that a process makes in parallel, each with a share of the processor's threads.
    """

    name: str
    folder: str
    manifest: str
    codecs: dict[str, CodecEntry]
    root: str | None = None
    protocol: str | None = None
    frames: int | None = None
    gop: int | None = None
    crop: tuple[int, ...] | None = None
    sequences: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    metrics: tuple[str, ...] = tuple(METRICS)
    flow: str = "dis"
    device: str = "auto"
    at_once: int = 1
    report: ReportOptions = ReportOptions()

    def __post_init__(self) -> None:
        require(self.codecs, "an evaluation has a codec")
        for name in self.codecs:
            fine = NAME.fullmatch(name) and name != "source"
            require(fine, f"a codec is called by letters, digits, dots and dashes, not {name!r}")
        require(self.at_once >= 1, f"at_once is at least 1, not {self.at_once}")
        require(self.frames is None or self.frames > 0, f"frames is at least 1, not {self.frames}")
        if self.gop is not None:
            check_gop(self.gop)
        if self.crop is not None and (len(self.crop) != 2 or min(self.crop) <= 0 or any(n % 2 for n in self.crop)):
            raise UsageError(f"a crop is a width and a height, both even: not {self.crop}")
        check_measures(self.metrics, self.flow)
        if self.protocol is not None:
            read_protocol(self.protocol)
        for name in (*self.only, *([self.report.anchor] if self.report.anchor else [])):
            require(name in self.codecs, f"there is no codec {name!r}; there are {', '.join(self.codecs)}")


def evaluation_of(config: DictConfig) -> Evaluation:
    """Parse a Hydra configuration strictly."""
    return parse(Evaluation, plain(config), "configuration")
