"""Small films and pictures that tests make for themselves."""

import runpy
import sys
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from gnvc_vd.conventions import Frame
from gnvc_vd.video import create_video
from tests.conftest import smooth_clip


def numbered(count: int, height: int = 48, width: int = 64) -> list[Frame]:
    """Frame t is grey level 4·t in red, its row in green and its column in blue: any part says where and when it is."""
    frames = []
    for t in range(count):
        frame = np.zeros((height, width, 3), dtype=np.uint8)
        frame[..., 0], frame[..., 1], frame[..., 2] = 4 * t, np.arange(height)[:, None], np.arange(width)
        frames.append(frame)
    return frames


def film(path: Path, frames: list[Frame]) -> Path:
    """Lossless in RGB if the name ends in .mkv."""
    height, width = frames[0].shape[:2]
    with create_video(path, width, height, Fraction(25)) as out:
        for frame in frames:
            out.write(frame)
    return path


def septuplets(root: Path, names: list[str], height: int = 48, width: int = 64) -> None:
    """Vimeo-90K's layout; the frames of septuplet k are numbered from 7·k on."""
    frames = numbered(7 * len(names), height, width)
    for k, name in enumerate(names):
        folder = root / "sequences" / name
        folder.mkdir(parents=True)
        for i in range(7):
            Image.fromarray(frames[7 * k + i]).save(folder / f"im{i + 1}.png")
    (root / "sep_trainlist.txt").write_text("\n".join(names) + "\n\n")


def photo(path: Path, height: int = 120, width: int = 160, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(smooth_clip(height, width, 1, seed)[0]).save(path)
    return path


def run_script(name: str, *arguments: object) -> object:
    """A script of the checkout in this process, where what it imports is imported already: its exit code."""
    path = Path(__file__).parents[2] / name
    with patch.object(sys, "argv", [str(path), *map(str, arguments)]):
        try:
            runpy.run_path(str(path))
        except SystemExit as done:
            return done.code
    raise AssertionError("a script ends with an exit code")
