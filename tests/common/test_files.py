"""Output appears whole or not at all."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gnvc_vd.common.files import replacing
from gnvc_vd.conventions import GnvcError
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


def test_what_is_written_is_as_readable_as_any_other_file(tmp_path: Path) -> None:
    """safetensors writes files for their owner alone: a model folder for a team would be none."""
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "model") as part:
            (part / "sub").mkdir(parents=True)
            save_file({"a": torch.zeros(1)}, part / "sub" / "a.safetensors")
        with replacing(tmp_path / "b.safetensors") as part:
            save_file({"b": torch.zeros(1)}, part)
    finally:
        os.umask(before)
    for path in (tmp_path / "model" / "sub" / "a.safetensors", tmp_path / "b.safetensors"):
        assert path.stat().st_mode & 0o777 == 0o640, path
