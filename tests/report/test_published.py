"""What papers printed, and points that others published."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.report.curves import MEAN
from gnvc_vd.report.published import PAPERS, PublishedPoint, mean_points, points_of, published_tables, read_paper


def test_published_figures_are_the_papers_and_name_both_conventions() -> None:
    assert PAPERS == ("dcvc-rt", "glc-video", "gnvc-vd", "gvc", "gvc-rt", "gvchr", "vortec")
    gnvc, gvc = (read_paper(name) for name in ("gnvc-vd", "gvc"))
    rates = {row[0]: row[1:] for row in gnvc.tables[0].rows}
    assert rates["GNVC-VD"] == ("−89.4", "−94.5", "−86.5", "−96.1", "−90.8")
    assert rates["DCVC-RT"] == ("−20.9", "+15.4", "−30.7", "+2.03", "–")
    assert len(gvc.points) == 21 and "third" in gvc.notes[0]
    for mode, psnr, bpp in (("T2V", 29.01, 0.0048), ("I2V", 31.97, 0.0544), ("FLF2V", 31.40, 0.0131)):
        own = [one for one in gvc.points if one.codec == f"GVC {mode}"]
        assert len(own) == 7 and sum(one.figures["psnr_rgb"] for one in own) / 7 == pytest.approx(psnr, abs=0.006)
        assert sum(one.bpp for one in own) / 7 == pytest.approx(bpp, abs=6e-5)
        assert all(one.bpp_printed == pytest.approx(one.bpp / 3, abs=1e-6) for one in own)
        means = next(row for row in gvc.tables[0].rows if row[0] == mode)
        assert float(means[1]) == psnr and float(means[4]) == pytest.approx(float(means[3]) / 3, abs=6e-5)
    bits = 17 * 9 * 64 * 15  # of a GOP in T2V, M = 64
    assert bits / (33 * 1280 * 720) == pytest.approx(0.00483, abs=5e-6)
    with pytest.raises(UsageError, match="there are dcvc-rt, glc-video, gnvc-vd, gvc"):
        read_paper("dcvc")


def test_points_of_others_find_our_sets_and_sequences(tmp_path: Path) -> None:
    path = tmp_path / "vtm.json"
    point_ = {"ave_all_frame_bpp": 0.01, "ave_all_frame_psnr": 39.0, "qp": 34}
    path.write_text(json.dumps({"HEVC_B": {"Cactus_1920x1080_50.yuv": {"034": point_}}}))
    (one,) = points_of(path, "VTM", 1920, 1080)
    assert (one.codec, one.set, one.sequence, one.figures) == ("VTM", "hevc-b", "Cactus", {"psnr_yuv": 39.0})
    with pytest.raises(GnvcError):
        points_of(tmp_path / "none.json", "VTM", 1, 1)


def test_published_points_are_read_and_nonsense_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "anchors.json"
    point = {"ave_all_frame_bpp": 0.0573, "ave_all_frame_psnr": 40.1, "ave_all_frame_msssim": 0, "qp": 22, "other": 1}
    path.write_text(json.dumps({"UVG": {"Beauty_1080.yuv": {"022": point}}}))
    assert points_of(path, "x", 8, 4) == [
        PublishedPoint("x", "uvg", "Beauty", 8, 4, 0.0573, {"psnr_yuv": 40.1}, level=22)
    ]
    for wrong in ({**point, "ave_all_frame_bpp": 0}, {"qp": 1}, {**point, "ave_all_frame_bpp": float("nan")}):
        path.write_text(json.dumps({"UVG": {"Beauty_1080.yuv": {"022": wrong}}}))
        with pytest.raises(GnvcError, match="no rate points"):
            points_of(path, "x", 8, 4)
    for key, huge in (("qp", float("inf")), ("qp", "1" * 5000), ("ave_all_frame_bpp", 10**400)):
        path.write_text(json.dumps({"UVG": {"Beauty_1080.yuv": {"022": {**point, key: huge}}}}))
        with pytest.raises(GnvcError, match="no rate points"):
            points_of(path, "x", 8, 4)
    for text in ("[]", "{", "[" * 100_000, '{"UVG": [1]}'):
        path.write_text(text)
        with pytest.raises(GnvcError, match=r"no rate points|not JSON|not a JSON object"):
            points_of(path, "x", 8, 4)


def test_published_points_average_where_every_sequence_has_one() -> None:
    gvc = read_paper("gvc").points
    sequences = list(dict.fromkeys(one.sequence for one in gvc))
    means = {one.codec: one for one in mean_points(gvc, sequences, MEAN)}
    assert set(means) == {"GVC T2V", "GVC I2V", "GVC FLF2V"} and all(one.sequence == MEAN for one in means.values())
    assert means["GVC I2V"].figures["lpips_alex"] == pytest.approx(0.0739, abs=6e-5)
    assert means["GVC I2V"].bpp_printed == pytest.approx(means["GVC I2V"].bpp / 3, abs=1e-6)
    assert mean_points(gvc, [*sequences, "another"], MEAN) == []
    levels = [
        replace(gvc[0], sequence=name, level=level, bpp=bpp)
        for name, level, bpp in (("a", 1, 1), ("b", 1, 3), ("a", 2, 9))
    ]
    assert [(one.level, one.bpp) for one in mean_points(levels, ["a", "b"], MEAN)] == [(1, 2)]


@pytest.mark.parametrize("name", PAPERS)
def test_every_paper_says_where_its_figures_are_from_and_how_bits_were_counted(name: str) -> None:
    paper = read_paper(name)
    assert "arXiv 2" in paper.source and re.search(r"\bbits\b|\bbpp\b|at 1080p", " ".join(paper.notes), re.I)
    tables = published_tables(paper)
    assert tables and all(f"Printed in {paper.source}; not measured here." in one.notes for one in tables)
    assert set(paper.notes) <= set(tables[-1].notes) and all(one.rows for one in tables)


def test_headline_figures_of_others_are_those_of_their_abstracts() -> None:
    rows = {name: [row for one in read_paper(name).tables for row in one.rows] for name in PAPERS}
    assert ("GLC-Video", "−48.8", "−12.4") in rows["gvc-rt"] and ("GVC-RT", "123.1", "55.1") in rows["gvc-rt"]
    assert ("PLVC", "−65.3") in rows["glc-video"] and ("all", "125.2", "112.8") in rows["dcvc-rt"]
    assert ("GNVC-VD", "−50.5") in rows["gvchr"] and rows["vortec"] == [("720p", "13"), ("480p", "32")]
    assert pytest.approx(1.007, abs=5e-4) == 1088 / 1080 and "0.7 % lower" in read_paper("gvc-rt").notes[1]
