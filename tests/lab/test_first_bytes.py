"""Seconds to a command's first bytes: each command is measured, and none that fails or writes too little."""

from pathlib import Path

import pytest

from lab.first_bytes import main, seconds

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("code", ["print('xxxx'); raise SystemExit(3)", "print('xx')"])
def test_a_command_that_fails_or_writes_too_little_is_none_to_measure(code: str) -> None:
    with pytest.raises(SystemExit, match=r"exit code (3|0) after (4|3) of 4 bytes"):
        seconds(("-c", code), 4, ROOT)


@pytest.mark.slow
def test_each_command_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    clip, stream = ROOT / "gnvc_vd/assets/clips/bunny.mp4", ROOT / "tests/golden/tiny.gnvc"
    assert main([str(clip), str(stream), "--rounds", "1", "--before", str(ROOT)]) == 0
    lines = [line.split(" least ")[0].split() for line in capsys.readouterr().out.splitlines()]
    both = [[*name, when] for name in (["encode"], ["decode", "--no-refine"], ["decode"]) for when in ("now", "before")]
    assert lines == [["import", "torch", "now"], *both]
