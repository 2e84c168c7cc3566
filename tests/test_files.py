"""Output appears whole or not at all."""

from pathlib import Path

import pytest

from gnvc_vd.conventions import GnvcError
from gnvc_vd.files import replacing
from tests.conftest import names_beside


def test_a_file_is_replaced_only_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), replacing(target) as part:
        part.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old" and names_beside(tmp_path) == ["out.bin"]

    with replacing(target) as part:
        part.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new" and names_beside(tmp_path) == ["out.bin"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "frames"
    target.mkdir()
    (target / "old").touch()
    with replacing(target) as part:
        part.mkdir()
        (part / "new").touch()
    assert names_beside(target) == ["new"] and names_beside(tmp_path) == ["frames"]


def test_a_folder_is_back_in_its_place_if_the_last_step_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "frames"
    target.mkdir()
    (target / "old").touch()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), replacing(target) as part:
        part.mkdir()
        monkeypatch.setattr(Path, "replace", interrupted)
    assert names_beside(target) == ["old"] and names_beside(tmp_path) == ["frames"]


def test_a_missing_folder_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(GnvcError, match="there is no folder"), replacing(tmp_path / "no" / "out"):
        pass
