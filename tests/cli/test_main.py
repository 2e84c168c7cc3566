"""The command line's frame: exit codes, streams, sentences."""

import json
from pathlib import Path

from gnvc_vd import __version__
from tests.bitstream.streams import packed, units
from tests.conftest import Cli


def test_info_says_what_is_there(cli: Cli, tmp_path: Path) -> None:
    parts = units(4)
    path = tmp_path / "clip.gnvc"
    path.write_bytes(packed(parts))
    done = cli("info", path)
    text = done.stdout.decode()
    assert done.returncode == 0 and done.stderr == b""
    assert "1280×720, 10 frames at 30000/1001/s, bt709 limited" in text
    assert f"{path.stat().st_size} bytes" in text and parts[3].symbol_hash.hex() in text


def test_info_json_is_one_line_with_the_same_figures(cli: Cli, tmp_path: Path) -> None:
    parts = units(4)
    data = packed(parts)
    done = cli("info", "-", "--json", stdin=data)
    found = json.loads(done.stdout)
    assert done.returncode == 0 and done.stdout.count(b"\n") == 1
    assert (found["bytes"], found["frames"], found["gops"], found["complete"]) == (len(data), 10, 4, True)
    assert found["bpp"] == 8 * len(data) / (1280 * 720 * 10)
    assert [unit["first_frame"] for unit in found["units"]] == [0, 1, 3, 6]
    assert [unit["bytes"] for unit in found["units"]] == [unit.size for unit in parts]
    assert (found["rate"], found["codec"], found["parameters"]) == ("30000/1001", "gnvc-vd", "053c07")
    assert found["described"] == "3 bytes of parameters where this codec has 7"


def test_info_names_the_damage_and_exits_1(cli: Cli) -> None:
    parts = units(4)
    data = bytearray(packed(parts))
    data[-20 - parts[3].size] ^= 1
    done = cli("info", "-", stdin=bytes(data))
    assert done.returncode == 1 and b"DAMAGE" in done.stdout and b"from GOP 2 on: damaged; GOPs lost: 1" in done.stdout
    found = json.loads(cli("info", "-", "--json", stdin=bytes(data)).stdout)
    assert found["complete"] is False and found["damages"][0]["lost"] == 1 and found["units"][-1]["first_frame"] is None


def test_errors_are_one_sentence_without_a_traceback(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"\x00\x00\x00 ftypisom")
    big = tmp_path / "big.gnvc"
    big.write_bytes(packed([]))
    for arguments, code, sentence in (
        (["info", tmp_path / "film.mp4"], 1, "not a .gnvc stream"),
        (["info", tmp_path / "missing.gnvc"], 1, "No such file"),
        (["info", tmp_path], 1, "Is a directory"),
        (["info", big, "--max-pixels", 1000], 1, "larger than the limit of 1000 pixels"),
        (["bench", "nothing"], 2, "there is no stage 'nothing'"),
        (["info"], 2, "required: file"),
        (["frobnicate"], 2, "invalid choice"),
        ([], 2, "required: COMMAND"),
    ):
        done = cli(*arguments)
        said = done.stderr.decode()
        assert (done.returncode, done.stdout) == (code, b""), arguments
        assert sentence in said and "Traceback" not in said


def test_a_reader_that_stops_listening_is_no_error(cli: Cli, tmp_path: Path) -> None:
    from subprocess import PIPE, Popen
    from sys import executable

    path = tmp_path / "long.gnvc"
    path.write_bytes(packed(units(5000, 4)))
    process = Popen([executable, "-m", "gnvc_vd", "info", str(path)], stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(timeout=60) == 0


def test_version(cli: Cli) -> None:
    assert cli("--version").stdout.decode().strip() == f"gnvc-vd {__version__}"
