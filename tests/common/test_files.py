"""Output appears whole or not at all."""

import errno
import os
import re
import signal
import subprocess
import sys
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


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    """As a shell's > does: a file, a file that is not there yet, and a folder."""
    disk, here = tmp_path / "disk", tmp_path / "here"
    for folder in (disk, here, disk / "frames"):
        folder.mkdir()
    (disk / "old.gnvc").write_bytes(b"old")
    for name in ("old.gnvc", "new.gnvc", "frames"):
        (here / name).symlink_to(Path("..") / "disk" / name)
        with replacing(here / name) as part:
            if name == "frames":
                part.mkdir()
                (part / "000000.png").touch()
            else:
                part.write_bytes(name.encode())
        assert (here / name).is_symlink()
    assert [(disk / name).read_bytes() for name in ("old.gnvc", "new.gnvc")] == [b"old.gnvc", b"new.gnvc"]
    assert names_beside(disk / "frames") == ["000000.png"]
    assert names_beside(disk) == names_beside(here) == ["frames", "new.gnvc", "old.gnvc"]


def test_a_pipe_is_written_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ends = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # so that writing does not wait for a reader
    with replacing(pipe) as part:
        part.write_bytes(b"new")
    assert os.read(ends, 9) == b"new" and pipe.is_fifo() and names_beside(tmp_path) == ["pipe"]
    os.close(ends)


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


KILLED = """
import os, signal, sys
from pathlib import Path
from gnvc_vd.common.files import replacing
with replacing(Path(sys.argv[1])) as part:
    part.write_text("half")
    if sys.argv[2] == "wait":
        print("here", flush=True)
        sys.stdin.read()
    elif sys.argv[2] == "moved":
        Path(sys.argv[1]).rename(part.parent / "replaced")
    if sys.argv[2] != "wait":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def half_written(target: Path, how: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", KILLED, str(target), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    for name in ("out.bin", "out.bin.more"):
        assert half_written(tmp_path / name, "killed").wait(60) == -signal.SIGKILL
    (other,) = tmp_path.glob(".out.bin.more.*.part")
    with replacing(tmp_path / "out.bin") as part:
        part.write_bytes(b"new")
    assert names_beside(tmp_path) == sorted([other.name, "out.bin"])


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    with half_written(target, "wait") as process:
        assert process.stdout is not None and process.stdout.readline() == b"here\n"
        with replacing(target) as part:
            part.write_bytes(b"ours")
        assert len(list(tmp_path.glob(".out.bin.*.part"))) == 1
        process.communicate(b"")
    assert process.returncode == 0 and target.read_text() == "half" and names_beside(tmp_path) == ["out.bin"]


def test_a_folder_that_a_killed_process_moved_aside_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "frames"
    target.mkdir()
    (target / "old").touch()
    assert half_written(target, "moved").wait(60) == -signal.SIGKILL and not target.exists()
    with pytest.raises(RuntimeError), replacing(target):
        raise RuntimeError
    assert names_beside(target) == ["old"] and names_beside(tmp_path) == ["frames"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_with_the_path(tmp_path: Path, code: int) -> None:
    sentence = f"cannot write {re.escape(str(tmp_path / 'out.bin'))}: "
    with pytest.raises(GnvcError, match=sentence), replacing(tmp_path / "out.bin"):
        raise OSError(code, "as the system says it of a write")
    assert names_beside(tmp_path) == []
