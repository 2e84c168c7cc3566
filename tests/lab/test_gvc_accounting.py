"""GVC's files beside the published count, on streams whose parts are known."""

from pathlib import Path

import pytest

from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.encoding import GvcEncodeOptions
from gnvc_vd.zeroshot.parameters import Mode, Parameters
from gnvc_vd.zeroshot.payload import PayloadParser, atom_bytes
from gnvc_vd.zeroshot.sde import Schedule
from lab.gaussian_prior import gaussian_prior
from lab.gvc_accounting import account_of, accounting_tables
from tests.bitstream.streams import HEADER, packed, units
from tests.conftest import smooth_clip
from tests.evaluate.evaluations import point
from tests.zeroshot.test_codec import info

STEPS = 3  # that carry atoms
LATENTS = (3, 4)  # of two GOPs in 19 frames that share one: 9, and the 11 that are left


def stream(path: Path, mode: Mode, tail_step: int = 12) -> list[PayloadParser]:
    codec = Gvc(gaussian_prior())
    parameters = Parameters(mode, 256, Schedule(STEPS + 1, 1))
    encoding = GvcEncodeOptions(6, gop=9, scenecut=False, tail_step=tail_step, parameters=parameters)
    frames = smooth_clip(16, 16, 19)
    coded = list(codec.encode_units(iter(frames), encoding))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed(coded, codec.header(info(16, 16), encoding)))
    return [PayloadParser(unit.payload) for unit in coded]


def test_each_byte_is_accounted_for_and_the_published_count_is_the_papers(tmp_path: Path) -> None:
    path = tmp_path / "06.gnvc"
    first, second = stream(path, "flf2v")
    parameters, found = account_of(path)
    assert parameters is not None and parameters.mode == "flf2v"
    stills = sum(len(one or b"") for one in (first.first, first.last, second.last))
    assert (found.whole, found.stills, found.tail) == (path.stat().st_size, stills, 0)
    assert found.atoms == sum(atom_bytes([6] * latents, STEPS, 256) for latents in LATENTS)
    assert found.published == STEPS * sum(LATENTS) * 6 * (8 + 1) / 8 + stills
    assert 0 < found.whole - found.atoms - found.stills < 150  # header, closing unit, two units' heads


def test_what_i2v_has_for_nothing_in_the_published_count(tmp_path: Path) -> None:
    path = tmp_path / "06.gnvc"
    first, second = stream(path, "i2v")
    _, found = account_of(path)
    counts = [[6] * (latents - 2) + [12] * 2 for latents in LATENTS]
    assert found.atoms == sum(atom_bytes(each, STEPS, 256) for each in counts)
    assert found.stills == len(first.first or b"") > 0 and second.first is None and found.tail > 2 * 17
    assert found.published == STEPS * sum(LATENTS) * 6 * (8 + 1) / 8 + found.tail


def test_of_a_published_tail_the_ranges_are_free_too(tmp_path: Path) -> None:
    """Sixteen numbers of four bytes, and the byte that says the form."""
    stream(tmp_path / "06.gnvc", "i2v", tail_step=64)
    _, found = account_of(tmp_path / "06.gnvc")
    assert found.published == STEPS * sum(LATENTS) * 6 * (8 + 1) / 8 + found.tail - 2 * 65


def test_the_table_names_both_conventions(tmp_path: Path) -> None:
    for name in ("s0", "s1"):
        stream(tmp_path / "gvc" / name / "06.gnvc", "t2v")
    other = tmp_path / "learned" / "s0" / "06.gnvc"
    other.parent.mkdir(parents=True)
    other.write_bytes(packed(units(2), HEADER))
    points = [
        point(codec, name, 6, 0.1) for codec, name in (("gvc", "s0"), ("gvc", "s1"), ("learned", "s0"), ("x", "s0"))
    ]
    (table,) = accounting_tables(points, tmp_path)
    (row,) = table.rows
    cells = dict(zip(table.columns[:11], row[:11], strict=True))
    whole = sum((tmp_path / "gvc" / name / "06.gnvc").stat().st_size for name in ("s0", "s1"))
    assert (cells["codec"], cells["level"], cells["mode"], cells["K"]) == ("gvc", "6", "t2v", "256")
    assert (
        int(cells["bytes on disk"]) == whole == sum(int(cells[one]) for one in ("atoms", "stills", "tail", "the rest"))
    )
    ours, theirs, ours_third, theirs_third = map(float, row[11:])
    assert ours == pytest.approx(8 * whole / (2 * 8 * 40 * 25), abs=1e-5) and ours_third == pytest.approx(
        ours / 3, abs=1e-5
    )
    assert theirs == pytest.approx(8 * int(cells["published count, bytes"]) / (2 * 8 * 40 * 25), abs=1e-3)
    assert theirs_third == pytest.approx(theirs / 3, abs=1e-5) and float(row[10]) == pytest.approx(
        ours / theirs, abs=2e-3
    )
    assert "per pixel" in table.columns[11] and "sample" in table.columns[13]
    assert accounting_tables(points[2:], tmp_path) == []
