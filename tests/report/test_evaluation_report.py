"""Curves, tables and plots from figures whose answers are known."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.conventions import UsageError
from gnvc_vd.evaluate.evaluation import CodecEntry, OwnCodec, ReportOptions
from gnvc_vd.evaluate.points import Point
from gnvc_vd.evaluate.run import player_path
from gnvc_vd.presets import BottleneckKind
from gnvc_vd.report.curves import MEAN, OF_SEQUENCES, Row, differences, labels_of, rows_of
from gnvc_vd.report.evaluation_report import our_tables, protocol_table, published_beside, write_report
from gnvc_vd.report.page import page
from gnvc_vd.report.tables import (
    as_latex,
    as_markdown,
    differences_csv,
    points_csv,
    spectrum_tables,
    speed_table,
    three_digits,
)
from tests.evaluate.evaluations import evaluation, made_up_set, point
from tests.report.markup import check_stands_alone

METRICS = ("psnr_rgb", "st_lpips_alex", "vmaf")


def curve(codec: str, sequence: str, scale: float, lift: float = 0) -> list[Point]:
    """PSNR rises 6 dB and ST-LPIPS halves with each quadrupling of the rate; VMAF lacks at one point."""
    rates = (0.01, 0.04, 0.16)
    return [
        point(
            codec,
            sequence,
            level,
            scale * rate,
            psnr_rgb=30 + 6 * level + lift,
            st_lpips_alex=0.4 / 2**level,
            vmaf=None if level == 1 else 50.0 + level,
        )
        for level, rate in enumerate(rates)
    ]


POINTS = [
    *curve("anchor", "s0", 1),
    *curve("anchor", "s1", 2, lift=1),
    *curve("half", "s0", 0.5),
    *curve("half", "s1", 1, lift=1),
    *curve("far", "s0", 1, lift=40),
    *curve("far", "s1", 2),
]


def test_half_the_rate_is_minus_fifty_percent_for_every_direction() -> None:
    found = differences(rows_of(POINTS), "anchor", METRICS)
    of = {(one.codec, one.sequence, one.metric): one for one in found}
    for sequence in ("s0", "s1", MEAN, OF_SEQUENCES):
        for metric, gain in (("psnr_rgb", 3.0), ("st_lpips_alex", None)):
            one = of["half", sequence, metric]
            assert one.rate == pytest.approx(-50, abs=1e-9) and one.reason is None and one.value is not None
            assert one.value == pytest.approx(gain, abs=0.01) if gain else one.value < 0  # lower is better
    assert of["far", "s0", "psnr_rgb"].value == pytest.approx(40)  # at equal rate there is an answer all the same
    assert of["far", "s0", "psnr_rgb"].rate is None and "range (0 %" in (of["far", "s0", "psnr_rgb"].reason or "")
    assert of["far", "s1", "psnr_rgb"].rate is not None
    assert of["half", "s0", "psnr_rgb"].overlap == 1 and of["far", "s0", "psnr_rgb"].overlap is None
    assert of["far", "s1", "psnr_rgb"].overlap == pytest.approx(11 / 13)  # 31 … 42 of 30 … 43
    assert of["far", OF_SEQUENCES, "psnr_rgb"].reason == "there is none for s0"
    assert of["half", "s0", "vmaf"].reason == "anchor has no vmaf at 1 of its points"


def test_a_smaller_overlap_is_enough_where_it_is_asked_for_and_is_told() -> None:
    rows = rows_of([*curve("anchor", "s0", 1), *curve("high", "s0", 1, lift=5)])  # 35 … 42 of 30 … 47
    (refused,) = differences(rows, "anchor", ["psnr_rgb"])
    assert refused.rate is None and "range (41 %" in (refused.reason or "") and refused.value == pytest.approx(5)
    found = differences(rows, "anchor", ["psnr_rgb"], smallest_overlap=0.1)
    assert found[0].rate == pytest.approx(100 * (4 ** (-5 / 6) - 1)) and found[0].reason is None
    (table, _, _) = our_tables(rows, found, "anchor", ["psnr_rgb"])
    assert table.notes == ("high, PSNR RGB, dB: on the 41 % of its range both have",)
    with pytest.raises(UsageError, match="a share, 0 to 1: not 2"):
        ReportOptions(overlap=2)


def test_the_mean_curve_is_of_equal_levels() -> None:
    rows = [row for row in rows_of(POINTS) if (row.codec, row.sequence) == ("anchor", MEAN)]
    assert [row.bpp for row in rows] == pytest.approx([0.015, 0.06, 0.24])
    assert [row.figures["psnr_rgb"] for row in rows] == [30.5, 36.5, 42.5]
    assert [row.figures["vmaf"] for row in rows] == [50, None, 52] and [row.bytes for row in rows] == [30, 120, 480]
    assert not any(row.sequence == MEAN for row in rows_of(curve("anchor", "s0", 1)))


def test_a_level_that_a_sequence_lacks_is_not_on_the_mean_curve() -> None:
    """The same codec twice, one evaluation interrupted: the mean curves are the same where both are."""
    rows = rows_of([*curve("whole", "s0", 1), *curve("whole", "s1", 2, lift=1)])
    cut = rows_of([*curve("cut", "s0", 1), *curve("cut", "s1", 2, lift=1)[:2]])
    assert [row.level for row in rows if row.sequence == MEAN] == [0, 1, 2]
    assert [row.level for row in cut if row.sequence == MEAN] == [0, 1]
    found = {one.sequence: one for one in differences([*rows, *cut], "whole", ["psnr_rgb"])}
    assert found[MEAN].rate == pytest.approx(0, abs=1e-9) and found[MEAN].overlap == pytest.approx(0.5)


def test_points_that_were_asked_for_more_average_with_those_that_were_not() -> None:
    more = point("anchor", "s0", 0, 0.01, psnr_rgb=30.0, vmaf=50.0)
    row = rows_of([more, point("anchor", "s1", 0, 0.03, psnr_rgb=32.0)])[-1]
    assert (row.sequence, row.figures["psnr_rgb"], row.figures["vmaf"]) == (MEAN, 31.0, None)


def test_markdown_csv_and_latex_hold_the_same_figures() -> None:
    rows = rows_of(POINTS)
    found = differences(rows, "anchor", METRICS)
    tables = our_tables(rows, found, "anchor", METRICS)
    assert [table.title.split(" (")[0] for table in tables] == [
        "BD-rate against anchor, %, mean of the sequences' own",
        "BD-metric against anchor at equal rate, mean of the sequences' own",
        "BD-rate against anchor, %, of the mean curve",
        "BD-metric against anchor at equal rate, of the mean curve",
        "BD-rate against anchor, %, s0",
        "BD-metric against anchor at equal rate, s0",
        "BD-rate against anchor, %, s1",
        "BD-metric against anchor at equal rate, s1",
        "Rate and quality, mean of the sequences",
        "Rate and quality, s0",
        "Rate and quality, s1",
    ]
    text = as_markdown(tables)
    assert "| half | −50.0 | −50.0 |\n" in text and "| far | – | +0.00 |\n" in text  # and no column of VMAF
    assert "- far, PSNR RGB, dB: there is none for s0" in text and "| far | +40.0 | +0.00 |\n" in text
    assert "| anchor | 1 | 0.0400 | 1.00 | 36.0 | 0.200 | – |" in text
    printed = as_latex(tables)
    assert "half & $-$50.0 & $-$50.0 \\\\" in printed and printed.count(r"\begin{tabular}") == len(tables)
    read = list(csv.DictReader(io.StringIO(points_csv(rows, METRICS))))
    assert len(read) == len(POINTS) and float(read[1]["bpp"]) == 0.04 and read[1]["vmaf"] == ""
    deltas = list(csv.DictReader(io.StringIO(differences_csv(found, "anchor"))))
    assert len(deltas) == 2 * len(METRICS) * 4
    half = next(one for one in deltas if (one["codec"], one["sequence"], one["metric"]) == ("half", "s0", "psnr_rgb"))
    assert float(half["bd_rate_percent"]) == pytest.approx(-50) and half["anchor"] == "anchor"
    assert half["overlap"] == "1.0"
    speed = speed_table(POINTS)
    assert speed.rows[0] == ("anchor", "1.00", "0.500")  # 8 and 4 seconds for each 8 frames


def test_a_bd_rate_is_shown_only_where_both_curves_have_two_points_in_common() -> None:
    """Both cover two thirds of all qualities; without its second point, x265 has one alone where ours are."""
    ours = [point("ours", "s0", level, 0.01 * 2**level, psnr_rgb=30.0 + 2 * level) for level in range(3)]
    apart = [point("x265", "s0", level, 0.01 * 3**level, psnr_rgb=29.5 + 1.8 * level) for level in range(3)]
    rows = rows_of([*ours, *apart])
    (found,) = differences(rows, "x265", ["psnr_rgb"])
    assert found.rate is not None and found.overlap == pytest.approx(3.1 / 4.5)  # 30 … 33.1 of 29.5 … 34
    few = rows_of([*ours, *(one for one in apart if one.level != 1)])
    (refused,) = differences(few, "x265", ["psnr_rgb"])
    assert refused.rate is None
    rates, values, _ = our_tables(few, [refused], "x265", ["psnr_rgb"])
    said = "ours, PSNR RGB, dB: the anchor has fewer than 2 points in the part of the {}'s range that both have"
    assert rates.rows == () and rates.notes == (said.format("metric"),)
    assert values.rows == () and values.notes == (said.format("rate"),)


def test_each_reason_stands_once_with_all_that_it_holds_for() -> None:
    falls = [point(name, "s0", n, 0.01 * 4**n, psnr_rgb=30.0 + n, e_warp=9.0 + n) for name in "abc" for n in range(3)]
    lifted = [point("d", "s0", n, 0.01 * 4**n, psnr_rgb=60.0 + n, e_warp=9.0 + n) for n in range(3)]
    tables = our_tables(
        rows := rows_of([*falls, *lifted]), differences(rows, "a", ["psnr_rgb", "e_warp"]), "a", ["psnr_rgb", "e_warp"]
    )
    assert tables[0].columns == ("codec", "PSNR RGB, dB") and tables[1].columns[1:] == ("PSNR RGB, dB", "E_warp")
    assert tables[0].notes == (
        "all codecs, E_warp: the anchor: the metric must fall with every step in rate, and here it does not",
        "d, PSNR RGB, dB (0 %, and a delta needs 50 %): the curves overlap in too little of the metric's range",
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"),
        (0.0, "0.00"),
        (-1e-12, "0.00"),
        (0.00123456, "0.00123"),
        (9.996, "10.0"),
        (-23.456, "−23.5"),
        (99.96, "100"),
        (1234.5, "1234"),
        (0.0000123, "0.0000123"),
    ],
)
def test_figures_have_three_significant_digits(value: float | None, said: str) -> None:
    assert three_digits(value) == said


def fake_videos(folder: Path) -> None:
    for one in POINTS:
        for path in (
            player_path(folder, one.codec, one.sequence, one.level),
            player_path(folder, "source", one.sequence),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"video")


@pytest.mark.slow
def test_a_report_is_whole_and_the_same_for_the_same_points(tmp_path: Path) -> None:
    made_up_set(tmp_path)
    whole = evaluation(
        tmp_path,
        metrics=METRICS,
        report=ReportOptions(anchor="x265", rates=(0.02, 0.1), published=("gnvc-vd", "gvc")),
    )
    left_out = {"unrefined": CodecEntry(ours=OwnCodec((0,)))}  # it has no points where its model does not refine
    whole = replace(whole, codecs=whole.codecs | left_out)
    named = {"anchor": "x265", "half": "x264"}
    points = [Point(**{**vars(one), "codec": named[one.codec]}) for one in POINTS if one.codec in named]
    fake_videos(Path(whole.folder))
    for one in points:
        path = player_path(Path(whole.folder), one.codec, one.sequence, one.level)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")
    folder = Path(whole.folder) / "report"
    assert write_report(whole, points, folder) == folder / "index.html"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_report(whole, points, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    plots = {f"{metric}.{suffix}" for metric in METRICS for suffix in ("png", "pdf")}
    texts = {"tables.md", "tables.tex", "points.csv", "bd.csv", "speed.md", "index.html"}
    assert set(before) == plots | texts
    assert before["vmaf.png"].startswith(b"\x89PNG") and before["vmaf.pdf"].startswith(b"%PDF")
    markdown = before["tables.md"].decode()
    assert "| GNVC-VD | −89.4 | −94.5 | −86.5 | −96.1 | −90.8 |" in markdown and "not measured here" in markdown


def noted(codec: str, kind: BottleneckKind | None, scale: float = 1) -> list[Point]:
    return [replace(one, bottleneck=kind) for one in curve(codec, "s0", scale)]


def test_gnvc_vd_is_called_by_its_latent_codec_and_by_its_own_name_too_where_several_have_the_same() -> None:
    paper, ours = noted("gnvc-vd", "contextual"), noted("new", "transform")
    assert labels_of([*paper, *ours, *noted("x265", None)]) == {
        "gnvc-vd": "GNVC-VD (contextual, as published)",
        "new": "GNVC-VD-T",
        "x265": "x265",
    }
    assert labels_of([*ours, *noted("new-unrefined", "transform"), *paper]) == {
        "new": "GNVC-VD-T: new",
        "new-unrefined": "GNVC-VD-T: new-unrefined",
        "gnvc-vd": "GNVC-VD (contextual, as published)",
    }
    older = replace(ours[0], bottleneck=None)
    assert labels_of([older, *ours[1:]]) == labels_of([*ours[1:], older]) == {"new": "GNVC-VD-T"}
    assert labels_of([*noted("x264", None), *noted("x265", None)]) == {"x264": "x264", "x265": "x265"}


def test_what_is_read_calls_a_codec_by_its_label_and_csv_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up_set(tmp_path, sequences=1)
    codecs = {"x265": CodecEntry(hybrid=Hybrid("x265", (0,))), "new": CodecEntry(ours=OwnCodec((0, 1, 2)))}
    codecs["new-unrefined"] = CodecEntry(ours=OwnCodec((0, 1, 2)))  # without points: it does what "new" does
    whole = evaluation(tmp_path, codecs=codecs, metrics=METRICS, report=ReportOptions(anchor="x265"))
    points = [*noted("x265", None, 2), *noted("new", "transform")]
    for one in points:
        for path in (
            player_path(Path(whole.folder), one.codec, "s0", one.level),
            player_path(Path(whole.folder), "source", "s0"),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"video")
    legends: list[tuple[list[str], list[str]]] = []

    def plotted(rows: Sequence[Row], metrics: object, title: object, thick: Sequence[str], *_: object) -> None:
        legends.append((list(dict.fromkeys(row.codec for row in rows)), list(thick)))

    monkeypatch.setattr("gnvc_vd.report.evaluation_report.plot_metrics", plotted)
    text = write_report(whole, points, tmp_path / "report").read_text(encoding="utf-8")
    assert legends == [(["x265", "GNVC-VD-T"], ["GNVC-VD-T"])]
    markdown, speed = ((tmp_path / "report" / name).read_text() for name in ("tables.md", "speed.md"))
    assert "| GNVC-VD-T | −50.0 | −50.0 |\n" in markdown and "| GNVC-VD-T | 1.00 | 0.500 |" in speed
    assert "| new |" not in markdown + speed
    for name in ("points.csv", "bd.csv"):
        read = [row["codec"] for row in csv.DictReader(io.StringIO((tmp_path / "report" / name).read_text()))]
        assert "new" in read and "GNVC-VD-T" not in read
    held = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert held is not None
    data = json.loads(held[1])
    assert [(one["name"], one["label"]) for one in data["codecs"]] == [("x265", "x265"), ("new", "GNVC-VD-T")]
    assert {row["codec"] for row in data["rows"]} == {"x265", "new"}  # what its parts find one another by


def test_the_page_holds_its_data_and_asks_for_nothing(tmp_path: Path) -> None:
    made_up_set(tmp_path)
    whole = evaluation(tmp_path, metrics=METRICS, report=ReportOptions(rates=(0.02, 0.1)))
    points = [one for one in POINTS if one.codec != "far"]
    for one in points:
        one.settings["words"] = "</script><script>alert(1)</script><!--<script>"
    fake_videos(Path(whole.folder))
    whole = replace(whole, name="<b>&")
    text = page(whole, points, rows_of(points), [], [], "about")
    assert text.count("&lt;b&gt;&amp;: video codecs") == 2 and "<b>" not in text and "<!--" not in text
    check_stands_alone(text)
    assert "default-src 'none'" in text and text.count("</script>") == 2 and "alert(1)</script>" not in text
    held = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert held is not None
    data = json.loads(held[1])
    assert text.count("&lt;!--&lt;script&gt;") == len(points)
    assert data["shown"]["s0"] == {"anchor": {"0": 0, "1": 2}, "half": {"0": 1, "1": 2}}
    assert set(data["videos"]) >= {"source/s0", "source/s1", "anchor/s0/0", "anchor/s0/2", "half/s1/2"}
    assert data["clips"]["s0"] == {
        "width": 40,
        "height": 25,
        "frames": 8,
        "rate": pytest.approx(25 * 8 / 8000 * 1000, rel=1e-6),
    }
    assert "<code>codec -q 0</code>" in text and data["sequences"] == [MEAN, "s0", "s1"]


def test_the_page_opens_on_what_matters_links_and_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnvc_vd.report.evaluation_report.plot_metrics", lambda *_: None)
    made_up_set(tmp_path)
    codecs = {
        "x265": CodecEntry(hybrid=Hybrid("x265", (0,))),
        "new": CodecEntry(ours=OwnCodec((0, 1, 2))),
        "gvc": CodecEntry(ours=OwnCodec((8,), "gvc")),
        "redundant": CodecEntry(ours=OwnCodec((0,), model="tiny-contextual")),  # it has no points: no card
    }
    metrics = ("psnr_rgb", "vmaf", "cvvdp")
    report = ReportOptions(anchor="x265", published=("gnvc-vd",))
    whole = evaluation(tmp_path, codecs=codecs, metrics=metrics, report=report)
    points = [
        replace(one, figures=one.figures | {"cvvdp": value + 0.1 * one.level}, asked=list(metrics))
        for name, value, scale in (("x265", 4.0, 1), ("new", 5.0, 0.98), ("gvc", 9.0, 1))
        for sequence in ("s0", "s1")
        for one in curve(name, sequence, scale)
    ]
    for one in points:
        one.environment["commit"] = "abc" * 12
        for path in (
            player_path(Path(whole.folder), one.codec, one.sequence, one.level),
            player_path(Path(whole.folder), "source", one.sequence),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"video")
    text = write_report(whole, points, tmp_path / "report").read_text(encoding="utf-8")
    html = check_stands_alone(text)
    held = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert held is not None
    data = json.loads(held[1])
    assert data["metric"] == "cvvdp" and [one["key"] for one in data["metrics"]] == ["cvvdp", "vmaf", "psnr_rgb"]
    assert [(one["name"], one["unit"]) for one in data["metrics"]] == [
        ("ColorVideoVDP", "JOD"),
        ("VMAF", ""),
        ("PSNR RGB", "dB"),
    ]
    assert (data["opening"]["left"], data["opening"]["right"]) == ("new", "x265")
    assert data["rates"] == ["0.00990 bpp"]  # where new and x265 are first at their most different
    assert html.links["GNVC-VD paper"] == "https://arxiv.org/abs/2512.05016"
    assert html.links["GVC paper"] == "https://arxiv.org/abs/2603.26571"
    assert html.links["model card: tiny"] == "#card-tiny" and "# tiny" in text
    assert "card-tiny" in html.ids and "card-tiny-contextual" not in html.ids
    assert "abcabcabc" in html.links["commit abcabcabc"] or html.links["commit abcabcabc"] == "#made"
    for group in ("The mean curve", "s0", "s1", "GNVC-VD, published", "Speed", "new: 6 points"):
        assert f"<details><summary>{group}</summary>" in text
    opened = text.partition('id="tables"')[2].partition("<details>")[0]
    assert opened.count("<table>") == 2 and "mean of the sequences&#x27; own" in opened
    assert '<th scope="row">x265</th><td>0</td><td>0.0100</td>' in text


def test_the_player_has_what_a_page_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up_set(tmp_path)
    fake_videos(Path(evaluation(tmp_path).folder))

    def held(shown: tuple[str, ...] = ()) -> tuple[list[str], str]:
        whole = evaluation(tmp_path, metrics=METRICS, report=ReportOptions(rates=(0.02, 0.1), shown=shown))
        text = page(whole, POINTS, rows_of(POINTS), [], [], "About.")
        found = re.search(r'id="data">(.*?)</script>', text, re.S)
        assert found is not None
        data = json.loads(found[1])
        assert list(data["shown"]) == list(data["clips"]) and data["sequences"] == [MEAN, "s0", "s1"]
        assert {key.split("/")[1] for key in data["videos"]} == set(data["shown"])
        about = re.search(r'<p id="about">(.*?)</p>', text)
        assert about is not None
        return list(data["shown"]), about[1]

    assert held() == (["s0", "s1"], "About.")
    assert held(("s1",)) == (["s1"], "About. The player shows only s1; the setting report.shown selects others.")
    with pytest.raises(UsageError, match="no sequence s2; there are s0, s1"):
        held(("s2",))
    monkeypatch.setattr("gnvc_vd.report.player.MAX_VIDEO_BYTES", 60)  # 7 videos of 5 bytes for each sequence
    assert held() == (["s0"], "About. The player shows only s0; the setting report.shown selects others.")


def test_a_protocol_stands_beside_what_was_done(tmp_path: Path) -> None:
    """Of a measured point and of one without LPIPS: every condition, and which of them differ."""
    settings = {"sequence": {"colour": "bt709 limited"}}
    own = {"lpips_alex": 0.1, "lpips_vgg": 0.1, "dists": 0.1, "psnr_rgb": 30.0, "ms_ssim": 0.9}
    first = replace(point("x", "s0", 1, 0.1, **own), settings=settings, width=1920, height=1080, frames=96)
    second = replace(first, frames=9, figures={**own, "lpips_vgg": None})
    whole = evaluation(tmp_path, protocol="gnvc-vd")
    rows = {row[0]: row[1:] for row in protocol_table(whole, [first, second]).rows}
    assert rows["frames"] == ("96", "96; 9 (differs)") and rows["size"] == ("1920 × 1080", "1920 × 1080")
    assert rows["frames in a GOP of our codecs"] == ("25", "25") and rows["colour"] == ("bt709 limited",) * 2
    assert rows["LPIPS (VGG)"][1] == "not at 1 of 2 points (differs)"
    assert rows["LPIPS (AlexNet)"] == ("LPIPS v0.1, AlexNet, RGB in [−1, 1], full size, every frame",) * 2
    other = protocol_table(replace(whole, gop=33), [first])
    assert ("frames in a GOP of our codecs", "25", "33 (differs)") in other.rows
    assert "arXiv 2512.05016" in other.notes[0] and "VTM-17.0" in other.notes[1]


def test_published_points_are_drawn_beside_the_same_pictures_alone(tmp_path: Path) -> None:
    """GVC's are of UVG shrunk to 1280 × 720; a file's have no size, so they are of the set of its very name."""
    file = tmp_path / "vtm.json"
    told = {"ave_all_frame_bpp": 0.01, "ave_all_frame_psnr": 39.0, "qp": 34}
    file.write_text(json.dumps({"UVG": {"Beauty_1920x1080.yuv": {"034": told}}}))
    report = ReportOptions(published=("gvc",), points=(str(file),))

    def drawn(manifest: str, width: int, height: int, crop: tuple[int, int] | None = None) -> Counter[str]:
        whole = evaluation(tmp_path, manifest=manifest, crop=crop, report=report)
        points = [replace(point("x", "Beauty", 1, 0.1), width=width, height=height)]
        return Counter(one.codec for one in published_beside(whole, points))

    gvc = Counter({"GVC T2V": 1, "GVC I2V": 1, "GVC FLF2V": 1})
    assert drawn(f"{tmp_path}/uvg-720.json", 1280, 720) == gvc
    assert drawn("uvg", 1920, 1080) == drawn("elsewhere/uvg.json", 1920, 1080) == Counter({"vtm": 1})
    assert not drawn("uvg", 1280, 720, crop=(1280, 720)) and not drawn("uvg", 960, 540, crop=(960, 540))
    assert not drawn("uvg2.json", 1280, 720) and not drawn("mcl-jcv", 1280, 720)


def test_a_report_says_every_size_and_number_of_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnvc_vd.report.evaluation_report.plot_metrics", lambda *_: None)
    made_up_set(tmp_path)
    whole = evaluation(tmp_path, metrics=METRICS, report=ReportOptions(rates=(0.02, 0.1)))
    points = [replace(one, width=64, frames=9) if one.sequence == "s1" else one for one in POINTS]
    fake_videos(Path(whole.folder))
    write_report(whole, points, tmp_path / "report")
    about = "a made-up set, 2 of its sequences, 8 frames of 40 × 25; 9 frames of 64 × 25, "
    assert about in (tmp_path / "report" / "tables.md").read_text()


def test_flicker_by_frequency_is_a_table_of_means_over_sequences() -> None:
    bands = [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]
    both = [replace(point("x", f"s{n}", 1, 0.1), flicker_spectrum=bands[n]) for n in (0, 1)]
    half = [replace(point("y", "s0", 1, 0.1), flicker_spectrum=bands[0]), point("y", "s1", 1, 0.1)]
    (table,) = spectrum_tables([*both, *half])
    assert table.columns == ("codec", "level", "0", "0.25", "0.5") and table.rows == (
        ("x", "1", "2.00", "3.00", "4.00"),
    )
    assert spectrum_tables(half) == []
