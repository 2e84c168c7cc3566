"""Points of rate–distortion curves, with all that is needed to reproduce them: one JSON file each."""

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gnvc_vd import __version__
from gnvc_vd.backbone.folder import DESCRIPTION
from gnvc_vd.backbone.sources import model_folder
from gnvc_vd.baselines.external import External
from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.codecs.load import DEFAULT_MODEL
from gnvc_vd.common.files import file_sha256, write_text
from gnvc_vd.common.provenance import commit, processor
from gnvc_vd.conventions import GnvcError
from gnvc_vd.evaluate.evaluation import CodecEntry, Evaluation, Setting
from gnvc_vd.evaluate.sequences import PreparedSource, describe_clip
from gnvc_vd.presets import BottleneckKind
from gnvc_vd.video import ffmpeg

PACKAGES = ("torch", "diffusers", "compressai", "av", "imageio-ffmpeg", "opencv-python-headless", "numpy")


@dataclass(frozen=True)
class Point:
    """The result of one codec on one sequence at one level.

    Args:
        settings: all settings that the result depends on; `key` is their hash.
        asked: the requested metrics.
        fresh: whether a separate process decoded the stream.
        bottleneck: GNVC-VD's latent codec; None for other codecs and in old points.
        stated: whether the rate is one that a program without a stream states (baselines/commands.py).
    """

    codec: str
    sequence: str
    level: int
    bytes: int
    frames: int
    width: int
    height: int
    bpp: float
    kbps: float
    figures: dict[str, float | None]
    missing: dict[str, str]
    notices: list[str]
    asked: list[str]
    fresh: bool
    encode_seconds: float
    decode_seconds: float
    encode: list[str]
    decode: list[str]
    stream_sha256: str
    key: str
    settings: dict[str, Any]
    environment: dict[str, str]
    bottleneck: BottleneckKind | None = None
    stated: bool = False
    flicker_spectrum: list[float] = dataclasses.field(default_factory=list)

    @property
    def rate(self) -> float:
        """Frames per second."""
        return self.kbps * 1000 * self.frames / (8 * self.bytes)


def settings_of(entry: CodecEntry, level: int, source: PreparedSource, evaluation: Evaluation) -> dict[str, Any]:
    """All settings that a point's bytes and pictures depend on, as plain data."""
    codec = entry.codec
    settings = {key: value for key, value in dataclasses.asdict(codec).items() if key not in ("levels", "models")}
    settings = {key: value for key, value in settings.items() if value or key not in ("values", "stated")}  # as before
    if isinstance(codec, Hybrid):
        commands = codec.commands(source.clip, level)
        settings |= {"encode": commands.encode, "decode": commands.decode, "ffmpeg": ffmpeg_version()}
    elif not isinstance(codec, External):
        model = model_identity(codec.model_at(level) or DEFAULT_MODEL)
        settings |= {"model": model, "gop": evaluation.gop, "version": __version__}
        settings |= {"encode": _by_content(codec.encode), "decode": _by_content(codec.decode)}
    return {
        entry.kind: settings,
        "level": level,
        "sequence": {"name": source.sequence.name, "sha256": source.sha256, **describe_clip(source.clip)},
        "crop": None if evaluation.crop is None else list(evaluation.crop),
        "flow": evaluation.flow,
    }


def _by_content(options: Mapping[str, Setting]) -> dict[str, Setting]:
    """Options, a file of weights by its sha256; one that is not there is for the codec to refuse."""
    file = Path(str(options.get("still-weights") or ""))
    return {**options, **({"still-weights": file_sha256(file)} if file.is_file() else {})}


def key_of(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def model_identity(model: str) -> str:
    """A model's name, with a hash of its model.json, if it has one, which holds its weights' hashes."""
    description = model_folder(model) / DESCRIPTION
    return f"{Path(model).name}@{file_sha256(description)[:16]}" if description.is_file() else model


def path_of(folder: Path, codec: str, sequence: str, level: int) -> Path:
    return folder / "points" / codec / sequence / f"{level:02}.json"


def write_point(folder: Path, point: Point) -> None:
    text = json.dumps(dataclasses.asdict(point), indent=1) + "\n"
    write_text(path_of(folder, point.codec, point.sequence, point.level), text)


def read_point(path: Path) -> Point | None:
    """None where there is no file yet."""
    if not path.is_file():
        return None
    try:
        return Point(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise GnvcError(f"{path}: not a point of this program ({error}); remove it to have it made again") from error


@cache
def ffmpeg_version() -> str:
    return " ".join(ffmpeg.run(["-version"]).decode().split()[:3])


def environment(device: str) -> dict[str, str]:
    """What a result may depend on beside its settings."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    here = {"commit": commit(), "processor": processor(), "machine": platform.machine()}
    return {"device": device, **here, "python": platform.python_version(), **packages}
