"""How big the package is, in lines of code by folder: python -m lab.size

A line counts that holds code: no blanks, no comments, no docstrings. Folders beside the package count nothing.
"""

import argparse
import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "gnvc_vd"
# 9,800 before a second codec, device material, a hub, Wan's size, compiled decoders; grown by what reviews asked for
BUDGET = 15_008  # lines of code in the whole package
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    lines = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(source))


def docstring_lines(source: str) -> set[int]:
    lines = set[int]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            lines |= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return lines


def lines_by_folder(package: Path = PACKAGE) -> Counter[str]:
    """By the package's folders; what lies beside them goes by its own name."""
    folders = Counter[str]()
    for path in sorted(package.rglob("*.py")):
        folders[path.relative_to(package).parts[0]] += code_lines(path.read_text(encoding="utf-8"))
    return folders


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(argv)
    folders = lines_by_folder()
    for folder, lines in sorted(folders.items()):
        print(f"{folder:16} {lines:6,}")
    total = folders.total()
    print(f"{'total':16} {total:6,} of {BUDGET:,} lines of code")
    if total > BUDGET:
        print(f"size: the package is {total - BUDGET:,} lines over its budget", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
