"""Points of a release: what is kept of an evaluation, what pages show of it, and that the pages are current."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import pytest

from gnvc_vd import __version__
from gnvc_vd.conventions import GnvcError
from gnvc_vd.evaluate.points import Point, write_point
from lab.results import FOLDER, PAGES, ROOT, Release, add, read, redrawn

FIGURES = {("ours", 10): 30.0, ("ours", 20): 34.0, ("x265", 40): 31.0, ("x265", 30): 33.5}


def point(codec: str, sequence: str, level: int, bpp: float, psnr: float) -> Point:
    size = round(bpp * 5 * 64 * 64 / 8)
    own = {"bytes": size, "frames": 5, "width": 64, "height": 64, "bpp": bpp, "kbps": bpp * 100}
    times = {"encode_seconds": 1.23456, "decode_seconds": 2.0}
    where = {"commit": "abc", "processor": "a chip"}
    rest = {"missing": {}, "notices": [], "fresh": True, "encode": [], "decode": [], "stream_sha256": "", "key": ""}
    figures, asked = {"psnr_rgb": psnr, "vmaf": None}, ["psnr_rgb", "vmaf"]
    given = {"codec": codec, "sequence": sequence, "level": level, "figures": figures, "asked": asked}
    return Point(**given, **own, **times, **rest, settings={}, environment=where)  # type: ignore[arg-type]


POINTS = [
    point(codec, sequence, level, bpp * (1 if sequence == "a" else 2), FIGURES[codec, level] + (sequence == "b"))
    for sequence in ("a", "b")
    for codec, level, bpp in (("ours", 10, 0.01), ("ours", 20, 0.04), ("x265", 40, 0.02), ("x265", 30, 0.08))
]


@pytest.fixture
def release(tmp_path: Path) -> Release:
    for one in POINTS:
        write_point(tmp_path / "evaluation", one)
    return read(add(tmp_path / "evaluation", "small", tmp_path))


def page(marker: str) -> str:
    return f"Before.\n\n<!-- {marker} -->\n| old |\n<!-- end -->\n\nAfter.\n"


def test_a_point_keeps_every_digit_and_where_it_comes_from(tmp_path: Path) -> None:
    for one in [*POINTS[:-1], replace(POINTS[-1], bpp=1 / 3)]:
        write_point(tmp_path / "evaluation", one)
    lines = list(csv.DictReader(io.StringIO(add(tmp_path / "evaluation", "small", tmp_path).read_text())))
    assert (
        len(lines) == 8
        and float(next(one for one in lines if one["sequence"] == "b" and one["level"] == "30")["bpp"]) == 1 / 3
    )
    first = lines[0]
    assert (first["codec"], first["sequence"], first["frames"], first["vmaf"]) == ("ours", "a", "5", "")
    assert (first["encode_seconds"], first["commit"], first["machine"]) == ("1.235", "abc", "a chip")


def test_a_table_of_rates_is_written_between_its_marks_and_nowhere_else(release: Release) -> None:
    text = redrawn(page("rates small mean psnr_rgb x265"), {"small": release})
    lines = text.splitlines()
    assert lines[:3] == ["Before.", "", "<!-- rates small mean psnr_rgb x265 -->"] and lines[-1] == "After."
    assert lines[3].startswith("| codec | level | bpp | kbit/s | PSNR RGB") and "old" not in text
    assert "| x265 | 40 | 0.0300 | 3.00 | 31.5 |" in lines and redrawn(text, {"small": release}) == text


def test_a_codec_is_set_beside_the_anchor_at_the_anchor_s_rates(release: Release) -> None:
    """Linear in log rate, only where the codec has points on both sides, the better one in bold."""
    text = redrawn(page("at small a x265 0.05 psnr_rgb ours"), {"small": release})
    mine = 30 + 4 * math.log(2) / math.log(4)
    rows = [line for line in text.splitlines() if line.startswith("| 0.")]
    assert rows == [f"| 0.02000 | **{mine:.4g}** / 31 |"]


def test_what_is_not_there_is_said(release: Release, tmp_path: Path) -> None:
    for marker, reason in (
        ("rates other mean psnr_rgb x265", "no such file of points"),
        ("rates small mean psnr_rgb x266", r"small.csv has no x266; it has ours, x265"),
        ("pie small", "there is no table 'pie'"),
        ("rates small mean psnr_rgb", "rates NAME is followed by SEQUENCE METRICS CODECS"),
        ("at small city x265 0.1 psnr_rgb ours more", "at NAME is followed by SEQUENCE ANCHOR MOST METRICS CODEC"),
    ):
        with pytest.raises(GnvcError, match=reason):
            redrawn(page(marker), {"small": release})
    (tmp_path / "bad.csv").write_text("codec,sequence\nx,y\n")
    with pytest.raises(GnvcError, match=r"bad.csv: not a file of rate–distortion points"):
        read(tmp_path / "bad.csv")


def test_the_pages_show_what_the_files_of_this_release_say() -> None:
    """If not: python -m lab.results draw"""
    releases = {path.stem: read(path) for path in sorted((FOLDER / __version__).glob("*.csv"))}
    for name in PAGES:
        if (ROOT / name).is_file():
            text = (ROOT / name).read_text(encoding="utf-8")
            assert redrawn(text, releases) == text, name


def test_an_ablation_keeps_every_seed_and_shows_the_spread(tmp_path: Path) -> None:
    """More PSNR at equal rates, by so much in each seed."""
    lifts = {"full": (0.0, 0.2, -0.2), "less": (-1.0, -1.1, -0.9)}
    for variant, each in lifts.items():
        for seed, lift in enumerate(each):
            for one in POINTS[:2]:
                figures = {"psnr_rgb": one.figures["psnr_rgb"] + lift, "vmaf": 1.0}  # type: ignore[operator]
                write_point(tmp_path / "ablation" / variant / f"seed-{seed}", replace(one, figures=figures))
    small = read(add(tmp_path / "ablation", "small", tmp_path))
    assert len({row.codec for row in small.rows}) == 6
    text = redrawn(page("spread small a full psnr_rgb"), {"small": small})
    spread = math.hypot(0.2, 0.1)
    assert f"| less (3 runs) | **−1 ± {spread:.2g}** |" in text and "| full" not in text
    with pytest.raises(GnvcError, match=r"small\.csv has no other; it has full, less"):
        redrawn(page("spread small a other psnr_rgb"), {"small": small})
