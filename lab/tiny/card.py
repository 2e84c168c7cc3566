"""What a leg made, told beside its model: the codec's curve, the record of every leg, and a card made from them."""

import dataclasses
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
from torch import Tensor
from tqdm import tqdm

from gnvc_vd.codecs.load import load
from gnvc_vd.common import strict
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import QUALITIES, Colour, GnvcError
from gnvc_vd.learned.codec import EncodeOptions
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.train.log import RUN
from gnvc_vd.video import Video, VideoInfo
from gnvc_vd.video.pixels import pixels_of
from lab.tiny.leg import Point, Record

LEGS, CARD, CURVES = "legs.json", "MODEL_CARD.md", "curves.png"


def curve_of(model: Path, clips: Sequence[Tensor]) -> tuple[Point, ...]:
    """Mean bits per pixel of whole streams and PSNR of whole clips, each one GOP."""
    codec, points = load(model), []
    for quality in tqdm(range(0, QUALITIES, 9), desc="curve", unit="quality", disable=None):
        curve = []
        for video in map(pixels_of, clips):
            frames, height, width = video.shape[:3]
            info = VideoInfo(width, height, Fraction(25), None, Colour("bt709", "limited"), "", "")
            encoding = EncodeOptions(quality, gop=frames, scenecut=False, canvas="off")
            stream = codec.encode(Video(info, ((frame, None) for frame in video)), encoding)
            decoded = np.concatenate(list(codec.decode(stream)))
            curve.append((8 * len(stream) / (frames * height * width), psnr(video, decoded)))
        points.append(Point(quality, *np.mean(curve, axis=0).tolist()))
    return tuple(points)


def environment_of(run: Path) -> dict[str, str]:
    """Where a run was made, by its own record."""
    made = strict.read_object(run / RUN)["environment"]
    return {"hardware": str(made["device"]), "git": str(made["git"])} if isinstance(made, dict) else {}


def legs_of(model: str | None) -> list[Record]:
    """The legs that made a model, the first one first; none where it does not say."""
    path = Path(model) / LEGS if model is not None else None
    if path is None or not path.is_file():
        return []
    legs = strict.read_object(path).get("legs")
    require(isinstance(legs, list), f"{path}: no list of legs", GnvcError)
    return [strict.parse(Record, leg, f"{path} leg {place}") for place, leg in enumerate(cast(list[object], legs))]


def write_beside(model: Path, legs: Sequence[Record]) -> None:
    """The record and the card, into a model folder."""
    record = {"legs": [dataclasses.asdict(leg) for leg in legs]}
    (model / LEGS).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (model / CARD).write_text(card(legs), encoding="utf-8")


def card(legs: Sequence[Record]) -> str:
    parts = [
        "# A small model for gnvc-vd",
        "Made by `python -m lab.tiny.train`. Its licence is that of what it was trained on.",
        "## How it was made",
        *(_leg(number, leg) for number, leg in enumerate(legs, 1)),
        "![Losses and validations of the last leg](curves.png)",
    ]
    if legs[-1].curve:
        parts += ["## What it achieves", "On clips of the validation, which it was not trained on, each one GOP:"]
        parts.append(table(legs[-1].curve))
    return "\n\n".join(parts) + "\n"


def _leg(number: int, leg: Record) -> str:
    rows = [
        f"| {name} | {part.steps or ''} | {part.seconds:.0f} of {part.budget:.0f} |" for name, part in leg.parts.items()
    ]
    command = (
        f"Leg {number}: from {leg.start}, {leg.budget} on {leg.hardware or leg.device}, at commit {leg.git[:12]}, with"
    )
    heading = [
        f"{command} `{' '.join(leg.settings)}`.",
        "",
        "| part | steps | seconds, and of how many |",
        "|---|---|---|",
    ]
    return "\n".join([*heading, *rows])


def table(curve: Sequence[Point]) -> str:
    rows = [f"| {point.quality} | {point.bpp:.5f} | {point.psnr:.2f} |" for point in curve]
    return "\n".join(["| quality | bits per pixel | PSNR, dB |", "|---|---|---|", *rows])
