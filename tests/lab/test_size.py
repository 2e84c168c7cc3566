"""What counts as a line of code."""

from pathlib import Path

import pytest

from lab import size

SOURCE = '''"""A module
of two lines."""

import os  # one


def f(
    x: int,
) -> str:
    """Says."""
    # nothing
    text = """two
lines"""
    return text * x + os.sep


class Empty:
    """Only said, but the line of `class` counts."""
'''


def test_blanks_comments_and_docstrings_do_not_count() -> None:
    assert size.code_lines(SOURCE) == 1 + 3 + 2 + 1 + 1
    assert size.code_lines("x = (\n    1,  # a comment\n\n    # another\n)\n") == 3
    assert size.code_lines("") == 0


def test_the_package_is_within_its_budget() -> None:
    assert size.lines_by_folder().total() <= size.BUDGET


def test_rooms_are_folders_and_their_sum_is_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "loose.py").write_text("a = 1\n")
    (tmp_path / "folder" / "one.py").write_text("a = 1\nb = 2\n")
    (tmp_path / "folder" / "inner" / "two.py").write_text("a = 1\n")
    folders = size.lines_by_folder(tmp_path)
    assert folders == {"loose.py": 1, "folder": 3}
    monkeypatch.setattr(size, "lines_by_folder", lambda: folders)
    assert size.main([]) == 0 and capsys.readouterr().out.splitlines()[-1].split()[:2] == ["total", "4"]
    monkeypatch.setattr(size, "BUDGET", 3)
    assert size.main([]) == 1 and "1 lines over" in capsys.readouterr().err
