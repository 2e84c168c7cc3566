"""The choice of a way for each GOP, files of any policy in another process, and what a whole study prints."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from gnvc_vd.bitstream import pack_stream
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.codecs.load import load
from gnvc_vd.learned.codec import GnvcVd
from gnvc_vd.report.curves import Row
from gnvc_vd.video import open_video
from lab.coded_files import Pattern, decode_apart, info_of, levels_of, pattern_decoders
from lab.coded_files import main as decode_command
from lab.study_choices import LEVELS, SETTINGS, Point, choose, compared, main, pattern_ways, rate_of, slope_between

PATTERNS: dict[str, Pattern] = {"steep": [9, -9, 0], "flat": [1, 1, 1]}  # of a GOP of three latents


@pytest.fixture(scope="module")
def contextual() -> GnvcVd:
    return load("nano")


def test_the_best_way_is_on_the_lower_side_of_the_usual_way_s_slope() -> None:
    usual = [Point(100 * 2**level, 64.0 / 2**level) for level in range(8)]
    assert slope_between(usual[0], usual[1]) == 0.32
    better = [*usual[:4], *(Point(one.bits, 0.9 * one.error) for one in usual[4:])]
    dear = [Point(2 * one.bits, 0.99 * one.error) for one in usual]
    assert choose({"usual": usual, "better": better, "dear": dear}, "usual") == ["usual"] * 4 + ["better"] * 4


def test_a_way_of_half_the_bits_takes_half_the_rate() -> None:
    def rows(name: str, part: float) -> list[Row]:
        return [
            Row(name, "clip", level, 0, part * 0.001 * 2**level, 1.0, {"psnr_rgb": 20.0 + level, "cvvdp": 1.0})
            for level in range(5)
        ]

    both = rows("usual", 1.0) + rows("half", 0.5)
    assert rate_of(both, "usual", "half", "psnr_rgb") == pytest.approx(-50.0)
    assert math.isnan(rate_of(both, "usual", "half", "cvvdp"))  # no curve
    assert compared(both, "usual", "half", ["psnr_rgb", "cvvdp"]) == "-50.0 % / –"


@pytest.mark.parametrize("apart", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_decoder_that_was_told_patterns_decodes_their_files_in_another_process_too(
    apart: bool, contextual: GnvcVd, tmp_path: Path
) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    (gop,) = contextual.latents(clip, SETTINGS)
    ways, files = pattern_ways(contextual, PATTERNS), list[Path]()
    header, shown = contextual.header(info_of(clip), SETTINGS), []
    for name, way in ways.items():
        unit = way(0, gop, 20)
        files.append(tmp_path / f"{name}.gnvc")
        files[-1].write_bytes(pack_stream(header, [unit]))
        decoder = pattern_decoders(contextual, PATTERNS)(header, DecodeOptions(steps=0))
        shown.append(np.concatenate(list(decoder.frames(unit))))
    assert [way(0, gop, 20).policy for way in ways.values()] == [0, 1, 2, 3]
    told = tmp_path / "patterns.json"
    told.write_text(json.dumps(PATTERNS), encoding="utf-8")
    options, out = ["--patterns", str(told), "--steps", "0"], tmp_path / "out"
    if apart:
        decoded = decode_apart(["lab.coded_files", "nano"], files, out, options)
    else:
        assert decode_command(["nano", *map(str, files), "--out", str(out), *options]) == 0
        decoded = [out / f"{path.stem}.mkv" for path in files]
    for path, wanted in zip(decoded, shown, strict=True):
        assert np.array_equal(np.stack(list(open_video(path))), wanted)


def test_unknown_or_unfitting_patterns_are_refused_in_a_sentence(
    contextual: GnvcVd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    (gop,) = contextual.latents(clip, SETTINGS)
    unit = pattern_ways(contextual, PATTERNS)["steep"](0, gop, 20)
    path, told = tmp_path / "steep.gnvc", tmp_path / "patterns.json"
    path.write_bytes(pack_stream(contextual.header(info_of(clip), SETTINGS), [unit]))
    for text, sentence in (
        ("{}", "GOP 0 has policy 2, which this program does not know"),
        ('{"long": [1, 2, 3, 4]}', "GOP 0 has 3 latents, but its policy is for 4"),
        ('{"half": [0.5, 0, 0]}', "a pattern is a list of whole numbers"),
        ('{"other": [3, 3, 3]}', "GOP 0 is damaged"),  # symbols with other tables: their hash, or the coder, tells
    ):
        told.write_text(text, encoding="utf-8")
        call = ["nano", str(path), "--out", str(tmp_path / "out"), "--patterns", str(told)]
        assert decode_command(call) == 1
        (said,) = capsys.readouterr().err.splitlines()
        assert sentence in said


def test_offsets_are_held_within_the_qualities() -> None:
    assert levels_of([6, -7, 0], 60) == [63, 53, 60]


@pytest.mark.slow
def test_a_study_of_both_codecs_prints_a_row_for_each_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.study_choices.LEVELS", LEVELS[1:3])
    monkeypatch.setattr("lab.coded_files.SIDE", 64)
    clip = "gnvc_vd/assets/clips/bunny.mp4"
    for model in ("tiny", "tiny-contextual"):
        out = tmp_path / model
        assert main([model, clip, "--out", str(out), "--gops", "1", "--metrics", "psnr_rgb"]) == 0
        rows = [json.loads(line) for line in (out / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
        for row in rows:
            assert row["bytes"] == (out / "bunny" / f"{row['codec']} {row['level']}.gnvc").stat().st_size
        by_way = {(row["codec"], row["level"]): row["figures"]["psnr_rgb"] for row in rows}
        assert len(by_way) == 2 * (4 if model == "tiny" else 3) and all(15 < one < 40 for one in by_way.values())
    transform, contextual = (one for one in capsys.readouterr().out.splitlines() if one.startswith("| bunny"))
    assert transform.count("|") == 6 and contextual.count("|") == 5
