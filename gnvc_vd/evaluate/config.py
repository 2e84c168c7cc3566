"""An evaluation as frozen dataclasses: whose codecs, on which sequences, judged by what."""

import re
from dataclasses import dataclass
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from gnvc_vd import strict
from gnvc_vd.baselines.external import External
from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.conventions import QUALITIES, UsageError
from gnvc_vd.evaluate.compare import METRICS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # it names folders
LOWER_IS_BETTER = frozenset(
    {"lpips_alex", "lpips_vgg", "dists", "st_lpips_alex", "st_lpips_vgg", "e_warp"}  # and all others rise
)


@dataclass(frozen=True)
class Ours:
    """A codec of this program, through its command line; a level is a quality, higher is better.

    Args:
        model: None is the program's default.
        encode, decode: further options, word by word: [--seed, "1"], [--no-refine].
    """

    levels: tuple[int, ...]
    codec: str = "gnvc-vd"
    model: str | None = None
    encode: tuple[str, ...] = ()
    decode: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.levels or not all(0 <= level < QUALITIES for level in self.levels):
            raise UsageError(f"levels of our codecs are qualities from 0 to {QUALITIES - 1}: not {self.levels}")


@dataclass(frozen=True)
class Contestant:
    """One of three kinds of codec."""

    ours: Ours | None = None
    hybrid: Hybrid | None = None
    external: External | None = None

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.ours, self.hybrid, self.external)) != 1:
            raise UsageError("a codec is exactly one of ours, hybrid and external")

    @property
    def codec(self) -> Ours | Hybrid | External:
        codec = self.ours or self.hybrid or self.external
        assert codec is not None
        return codec

    @property
    def kind(self) -> str:
        return "ours" if self.ours else "hybrid" if self.hybrid else "external"


@dataclass(frozen=True)
class Reporting:
    """What is made of the points.

    Args:
        anchor: the codec that BD-rates are against.
        rates: in bits per pixel; the player offers each codec's point nearest to each of these.
        published: tables of papers to set beside ours.
        points: files of rate points that others published, read by baselines/external.py.
    """

    anchor: str | None = None
    rates: tuple[float, ...] = ()
    published: tuple[str, ...] = ()
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """All of it.

    Args:
        root: the folder of the manifest's files; None for the shipped clips.
        frames, gop: None is the manifest's protocol.
        sequences: some of the manifest's; none named are all.
        only: the codecs of this call, for spreading them over jobs; none named are all.
    """

    name: str
    folder: str
    manifest: str
    codecs: dict[str, Contestant]
    root: str | None = None
    frames: int | None = None
    gop: int | None = None
    sequences: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    metrics: tuple[str, ...] = METRICS
    flow: str = "dis"
    device: str = "auto"
    report: Reporting = Reporting()

    def __post_init__(self) -> None:
        if not self.codecs:
            raise UsageError("an evaluation has a codec")
        for name in self.codecs:
            if not NAME.fullmatch(name) or name == "source":
                raise UsageError(f"a codec is called by letters, digits, dots and dashes, not {name!r}")
        strange = [name for name in self.metrics if name not in METRICS]
        if strange or not self.metrics:
            raise UsageError(f"there is no metric {', '.join(strange) or 'to compute'}; there are {', '.join(METRICS)}")
        for name in (*self.only, *([self.report.anchor] if self.report.anchor else [])):
            if name not in self.codecs:
                raise UsageError(f"there is no codec {name!r}; there are {', '.join(self.codecs)}")


def evaluation_of(config: DictConfig) -> Evaluation:
    """A Hydra configuration, parsed strictly."""
    return strict.parse(Evaluation, cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)), "configuration")
