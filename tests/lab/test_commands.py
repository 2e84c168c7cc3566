"""Every study starts from the checkout as its documentation says: python -m lab.NAME."""

import os
import subprocess
import sys
from pathlib import Path

import lab

CHECKOUT = Path(lab.__file__).parents[1]
COMMANDS = sorted(
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
    for path in (CHECKOUT / "lab").rglob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
# One process for all, with no more on its path than `python -m` has there: what they import takes seconds.
START_ALL = """
import runpy, sys
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as done:
        if done.code:
            raise
"""


def test_every_command_shows_its_help_in_a_fresh_checkout() -> None:
    assert "lab.probe_prior" in COMMANDS and "lab.tiny.fetch_data" in COMMANDS
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", START_ALL, *COMMANDS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, env=alone)
    assert done.returncode == 0, done.stderr[-1000:]
    for name in COMMANDS:
        assert f"python -m {name}" in (CHECKOUT / name.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
