"""What a stream says of itself, in a table and in JSON."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gnvc_vd.bitstream import CodecId, Header, Unit
from gnvc_vd.codecs.info import Inspection, as_json, as_text, inspect
from gnvc_vd.conventions import Colour
from tests.bitstream.streams import HEADER, HEADERS, packed, units

PLAIN = units(3)
RICH = [
    PLAIN[0],
    replace(PLAIN[1], rotation=7, enhancement=bytes(900)),
    replace(PLAIN[2], sigma_0=0.105, enhancement=bytes(4), canvas=True),
]


def inspected(folder: Path, parts: list[Unit], header: Header = HEADER) -> Inspection:
    path = folder / "stream.gnvc"
    path.write_bytes(packed(parts, header))
    return inspect(str(path))


def table(found: Inspection) -> list[list[str]]:
    """Titles and rows."""
    return [line.split() for line in as_text(found).partition("\n\n")[2].splitlines()]


@pytest.mark.parametrize("version", [1, 2])
def test_a_plain_stream_has_no_column_for_what_it_does_not_use(tmp_path: Path, version: int) -> None:
    found = inspected(tmp_path, PLAIN, HEADERS[version])
    titles, *rows = table(found)
    assert " ".join(titles) == "GOP first frames quality policy bytes symbol hash"
    firsts = (0, 1, 3)
    assert rows == [
        [*map(str, (i, firsts[i], unit.frames, unit.quality, unit.policy, unit.size)), unit.symbol_hash.hex()]
        for i, unit in enumerate(PLAIN)
    ]
    assert f"parameters 053c07, version {version}\n" in as_text(found)
    assert json.loads(as_json(found))["version"] == version


def test_what_else_a_unit_has_is_shown_where_it_has_it(tmp_path: Path) -> None:
    found = inspected(tmp_path, RICH)
    titles, *rows = table(found)
    assert " ".join(titles) == "GOP first frames quality policy canvas rotation σ_0 bytes enhancement symbol hash"
    assert rows[0][5:] == [str(RICH[0].size), RICH[0].symbol_hash.hex()]
    assert rows[1][5:] == ["7", str(RICH[1].size), "900", RICH[1].symbol_hash.hex()]
    assert rows[2][5:] == ["yes", "0.105", str(RICH[2].size), "4", RICH[2].symbol_hash.hex()]
    said = json.loads(as_json(found))["units"]
    assert [(one["canvas"], one["rotation"], one["sigma_0"], one["enhancement"]) for one in said] == [
        (False, 0, None, 0),
        (False, 7, None, 900),
        (True, 0, 0.105, 4),
    ]
    assert [one["payload"] for one in said] == [len(unit.payload) for unit in PLAIN]


def test_an_enhancement_is_no_overhead(tmp_path: Path) -> None:
    plain, rich = inspected(tmp_path, PLAIN), inspected(tmp_path, RICH)
    assert rich.bytes == plain.bytes + 900 + 4 + 4  # two sizes of one or two bytes, and σ_0
    assert rich.overhead == plain.overhead + 4
    assert f"overhead    {rich.overhead} bytes" in as_text(rich)


def test_the_transfer_function_is_said_where_it_is_known(tmp_path: Path) -> None:
    pq = inspected(tmp_path, PLAIN, replace(HEADER, colour=Colour("bt2020", "limited", 16)))
    assert "bt2020 limited, transfer pq\n" in as_text(pq)
    assert json.loads(as_json(pq))["colour"] == {"matrix": "bt2020", "range": "limited", "transfer": 16}
    assert "bt709 limited\n" in as_text(inspected(tmp_path, PLAIN))


def test_a_streams_latent_codec_is_told_by_its_rotations(tmp_path: Path) -> None:
    rotated = [replace(unit, rotation=7) for unit in PLAIN]
    assert inspected(tmp_path, PLAIN).bottleneck == "contextual"
    assert inspected(tmp_path, PLAIN, HEADERS[1]).bottleneck == "contextual"
    assert inspected(tmp_path, rotated).bottleneck == "transform"
    assert inspected(tmp_path, []).bottleneck is None
    assert inspected(tmp_path, PLAIN, replace(HEADER, codec=CodecId.GVC)).bottleneck is None
