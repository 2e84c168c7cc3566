"""Commands and files of this repository as two pages, out of what they say of themselves: python -m lab.contents

docs/commands.md has the help of every command of gnvc-vd and the first line of every script and study, docs/files.md
the first line of every module, room by room. A test says when they are not what the code says.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

from gnvc_vd.common.files import write_text

ROOT = Path(__file__).parents[1]
COMMANDS = ("encode", "decode", "verify", "info", "compare", "demo", "bench")
WIDTH = {"COLUMNS": "98"}  # of a help text
ROOMS = (  # from what is seen first to what all else stands on
    *("cli", "report", "bench", "evaluate", "train", "train/stages", "baselines", "codecs", "learned"),
    *("learned/bottleneck", "learned/refine", "zeroshot", "data", "backbone", "entropy", "metrics", "bitstream"),
    *("video", "common", ""),
)


def main() -> int:
    for name, text in pages().items():
        write_text(ROOT / name, text)
        print(name)
    return 0


def pages() -> dict[str, str]:
    return {"docs/commands.md": commands(), "docs/files.md": files()}


def commands() -> str:
    parts = ["# Commands", "Made by `python -m lab.contents` out of the programs' own help.", "## gnvc-vd"]
    for command in COMMANDS:
        parts += [f"### {command}", f"```\n{_help(command)}```"]
    for folder, title in (("scripts", "Scripts"), ("lab", "Studies and tools"), ("lab/tiny", "How tiny is made")):
        parts += [f"## {title}", _table([(f"`{_called(path)}`", _first_line(path)) for path in _modules(folder)])]
    return "\n\n".join(parts) + "\n"


def files() -> str:
    parts = ["# Files", "Made by `python -m lab.contents` out of the first line of each module."]
    for room in ROOMS:
        folder = f"gnvc_vd/{room}".rstrip("/")
        rows = [(f"[{path.name}](../{path.relative_to(ROOT)})", _first_line(path)) for path in _modules(folder)]
        parts += [f"## {folder}", _table(rows)]
    return "\n\n".join(parts) + "\n"


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {line} |" for name, line in rows)])


def _help(command: str) -> str:
    words = [sys.executable, "-m", "gnvc_vd", command, "--help"]
    return subprocess.run(words, env=os.environ | WIDTH, capture_output=True, text=True, check=True).stdout


def _modules(folder: str) -> list[Path]:
    return [path for path in sorted((ROOT / folder).glob("*.py")) if path.name != "__init__.py"]


def _called(path: Path) -> str:
    place = path.relative_to(ROOT)
    return f"python {place}" if place.parts[0] == "scripts" else f"python -m {'.'.join(place.with_suffix('').parts)}"


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
