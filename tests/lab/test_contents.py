"""The pages of commands and of files are what the code says of itself."""

import pytest

from gnvc_vd.cli.main import COMMANDS as COMMANDS_THERE
from lab.contents import COMMANDS, ROOT, pages


@pytest.mark.parametrize("name", ["docs/commands.md", "docs/files.md"])
def test_a_page_is_what_the_code_says(name: str) -> None:
    """If not: python -m lab.contents"""
    assert (ROOT / name).read_text(encoding="utf-8") == pages()[name]


def test_every_command_script_and_module_has_a_line() -> None:
    commands, files = pages().values()
    assert set(COMMANDS) == set(COMMANDS_THERE)
    for one in ("### encode", "### bench", "`python scripts/train.py`", "`python -m lab.tiny.train`"):
        assert one in commands
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gnvc_vd").rglob("*.py")}
    assert {name for name in modules if not name.endswith("__init__.py")} == {
        line.partition("](../")[2].partition(")")[0] for line in files.splitlines() if line.startswith("| [")
    }
    assert not [line for line in f"{commands}\n{files}".splitlines() if line.endswith("|  |")]  # nothing to say
