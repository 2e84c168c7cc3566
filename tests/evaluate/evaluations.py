"""Small evaluations for tests: a made-up clip, hybrid codecs at their fastest, and figures from thin air."""

import json
from fractions import Fraction
from pathlib import Path

from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.evaluate.evaluation import CodecEntry, Evaluation, ReportOptions
from gnvc_vd.evaluate.points import Point
from gnvc_vd.video import create_video
from tests.conftest import smooth_clip

FRAMES, SIDE = 4, 64  # of a clip


def made_up_set(folder: Path, sequences: int = 2) -> Path:
    """A manifest and its films."""
    folder.mkdir(exist_ok=True)
    entries = []
    for number in range(sequences):
        with create_video(folder / f"s{number}.mp4", SIDE, SIDE, Fraction(25)) as out:
            for frame in smooth_clip(SIDE, SIDE, FRAMES, seed=number):
                out.write(frame)
        entry = {"name": f"s{number}", "file": f"s{number}.mp4", "width": SIDE, "height": SIDE, "rate": "25"}
        entries.append({**entry, "frames": FRAMES, "matrix": "bt601"})
    about = {"format": 1, "title": "a made-up set", "home": "", "licence": "", "frames": FRAMES, "gop": 25}
    (folder / "set.json").write_text(json.dumps({**about, "sequences": entries}))
    return folder / "set.json"


def evaluation(folder: Path, **changes: object) -> Evaluation:
    """x264 and x265 at three rates each."""
    codecs = {name: CodecEntry(hybrid=Hybrid(name, (24, 36, 48), preset="ultrafast")) for name in ("x264", "x265")}
    told: dict[str, object] = {
        "name": "made-up",
        "folder": str(folder / "out"),
        "manifest": str(folder / "set.json"),
        "root": str(folder),
        "codecs": codecs,
        "metrics": ("psnr_rgb", "psnr_yuv"),
        "device": "cpu",
        "report": ReportOptions(anchor="x265", rates=(0.05, 0.5)),
    }
    return Evaluation(**{**told, **changes})  # type: ignore[arg-type]


def point(codec: str, sequence: str, level: int, bpp: float, **figures: float | None) -> Point:
    """With everything else as it may be."""
    return Point(
        codec=codec,
        sequence=sequence,
        level=level,
        bytes=round(bpp * 1000),
        frames=8,
        width=40,
        height=25,
        bpp=bpp,
        kbps=bpp * 25,
        figures=figures,
        missing={},
        notices=[],
        asked=list(figures),
        fresh=True,
        encode_seconds=8.0,
        decode_seconds=4.0,
        encode=["codec", "-q", str(level)],
        decode=["codec", "-d"],
        stream_sha256="0" * 64,
        key="",
        settings={},
        environment={},
    )
