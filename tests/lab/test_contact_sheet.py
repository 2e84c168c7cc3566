"""A contact sheet shows what an evaluation made, at the rates that were asked for."""

from pathlib import Path

import numpy as np
import pytest

from gnvc_vd.evaluate.points import write_point
from gnvc_vd.evaluate.run import player_path
from gnvc_vd.video.pictures import read_picture
from lab import contact_sheet, draw_front
from tests.data.material import film
from tests.evaluate.evaluations import point

LEVELS = {"ours": {0: 0.004, 9: 0.011, 18: 0.03}, "theirs": {51: 0.006, 40: 0.02}}
HEIGHT, WIDTH, FRAMES = 40, 60, 5


def grey(level: int) -> list[np.ndarray]:
    return [np.full((HEIGHT, WIDTH, 3), 5 * level, dtype=np.uint8)] * FRAMES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of two sequences; a codec's pictures are as grey as its level is high, the original is white."""
    for sequence in ("a", "b"):
        for codec, levels in LEVELS.items():
            for level, bpp in levels.items():
                write_point(tmp_path, point(codec, sequence, level, bpp, psnr_rgb=30 + bpp))
                shown = player_path(tmp_path, codec, sequence, level)
                shown.parent.mkdir(parents=True, exist_ok=True)
                film(shown, grey(level))
        shown = player_path(tmp_path, contact_sheet.SOURCE, sequence)
        shown.parent.mkdir(parents=True)
        film(shown, grey(51))
    return tmp_path


def test_each_codec_stands_at_the_level_nearest_to_each_rate(folder: Path) -> None:
    points = contact_sheet.points_of(folder, "b", None)
    rows = contact_sheet.rows_of(folder, points, [0.006, 0.02])
    assert [row.label for row in rows] == [
        "original", "ours 0\n0.0040 bpp", "theirs 51\n0.0060 bpp", "ours 18\n0.0300 bpp", "theirs 40\n0.0200 bpp",
    ]  # fmt: skip
    assert [int(np.median(row.frames)) for row in rows] == pytest.approx([255, 0, 255, 90, 200], abs=2)
    (only,) = {one.codec for one in contact_sheet.points_of(folder, None, ["theirs"])}
    assert only == "theirs"


def test_the_picture_has_a_row_for_each_and_its_frames_at_their_size(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    assert contact_sheet.main([str(folder), str(out), "--rates", "0.02", "--frames", "2"]) == 0
    sheet = read_picture(out)
    rows = sheet[:, -10].mean(1)  # of the strips at the right
    assert len(sheet) == pytest.approx(3 * HEIGHT + 12, abs=1)
    levels = [int(np.median(part)) for part in np.array_split(rows, 3)]
    assert levels == pytest.approx([255, 90, 200], abs=2)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["--sequence", "c"], "has no sequence c; there are a, b"),
        (["--codecs", "ours", "others"], "has no codec others"),
    ],
)
def test_what_is_not_there_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str], sentence: str
) -> None:
    assert contact_sheet.main([str(folder), str(tmp_path / "sheet.png"), *asked]) == 1
    assert capsys.readouterr().err.endswith(f"{sentence}\n") and not (tmp_path / "sheet.png").exists()
    assert contact_sheet.main([str(tmp_path / "none"), str(tmp_path / "sheet.png")]) == 1
    assert "no points of an evaluation there" in capsys.readouterr().err


def test_the_front_picture_shows_both_codecs_at_about_one_size(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(draw_front, "CODECS", {"ours": "ours", "theirs": "theirs"})
    out = tmp_path / "front.png"
    words = [str(folder), str(out), "--sequence", "b", "--rate", "0.02", "--metric", "psnr_rgb"]
    assert draw_front.main(words) == 0
    grey = read_picture(out)[..., 0]
    middle = grey[grey.shape[0] // 2]
    seen = [int(np.median(part)) for part in np.array_split(middle[: len(middle) * 12 // 17], 3)]
    assert seen == pytest.approx([255, 90, 200], abs=3)  # the original, ours at level 18, theirs at 40
    assert draw_front.main([*words[:-1], "vmaf"]) == 1 and "vmaf was not asked for" in capsys.readouterr().err
