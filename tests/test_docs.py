"""What the documentation names is there: paths, links, commands, experiments, modules."""

import re
from pathlib import Path
from typing import get_type_hints

import pytest

import gnvc_vd
from gnvc_vd.train.settings import Training

PACKAGE = Path(gnvc_vd.__file__).parent
CHECKOUT = PACKAGE.parent
PAGES = [CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")]
PAGES += [PACKAGE / "assets" / "tiny" / "MODEL_CARD.md", PACKAGE / "assets" / "clips" / "README.md"]
# Commands stand in comments of these, and in docstrings.
SCRIPTS = [
    path for folder in ("scripts", "lab") for path in (CHECKOUT / folder).rglob("*") if path.suffix in {".py", ".sh"}
]
CONFIGS = list((CHECKOUT / "configs").rglob("*.yaml"))

CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
PATH = re.compile(r"(?<![\w/.=$-])(?:gnvc_vd|configs|scripts|lab|tests|docs|\.ci)/[\w./*-]*[\w*/]")
FILE = re.compile(r"(?<![\w/.*$])(?:\w+/)*\w+\.py\b")
LINK = re.compile(r"\]\(([^)#\s]+)")
MODULE = re.compile(r"\bpython -m ([\w.]+)|\b((?:gnvc_vd|lab|tests)(?:\.\w+)+)")
SCRIPT = r"(scripts/train\.py|scripts/evaluate\.py|lab\.training_cost)\b"
EXPERIMENT = re.compile(SCRIPT + r"([^\n#]*?)\bexperiment=([a-z]\w*)\b(?!\$)")
GROUP = re.compile(r"(?<![\w.+/-])(adaptor|budget|data|debug|launcher|logger|model|rate|run|stage)=([\w.-]+)")
KEY = re.compile(r"(?<![\w./])(rate|run|stage)\.(?!(?:py|json)\b)(\w+)")
OTHERS = {"test_video.py", "setup.py"}  # other people's programs


def code_of(page: Path) -> str:
    """A page's code; of anything but Markdown, all of it."""
    text = page.read_text(encoding="utf-8")
    joined = re.sub(r"\\\n\s*", " ", text)  # commands over several lines
    return "\n".join(CODE.findall(joined)) if page.suffix == ".md" else joined


def shown(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


@pytest.mark.parametrize("page", [*PAGES, *SCRIPTS, *CONFIGS], ids=shown)
def test_every_path_and_every_experiment_is_there(page: Path) -> None:
    code = code_of(page)
    missing = [path for path in PATH.findall(code) if not list(CHECKOUT.glob(path.rstrip("/")))]
    for script, _, name in EXPERIMENT.findall(code):
        kind = "evaluate" if "evaluate" in script else "train"
        if not (CHECKOUT / "configs" / kind / "experiment" / f"{name}.yaml").exists():
            missing.append(f"{script} experiment={name}")
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_choice_and_key_of_a_configuration_is_there(page: Path) -> None:
    code, parts = code_of(page), get_type_hints(Training)
    missing = [
        f"{group}={name}"
        for group, name in GROUP.findall(code)
        if not (CHECKOUT / "configs" / group / f"{name}.yaml").exists()
    ]
    missing += [f"{part}.{key}" for part, key in KEY.findall(code) if key not in get_type_hints(parts[part])]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_file_link_and_module_that_a_page_names_is_there(page: Path) -> None:
    code, text = code_of(page), page.read_text(encoding="utf-8")
    files = [path.relative_to(CHECKOUT).as_posix() for path in CHECKOUT.rglob("*.py") if ".venv" not in path.parts]
    missing = [
        name
        for name in FILE.findall(code)
        if name not in OTHERS and not any(f"/{file}".endswith(f"/{name}") for file in files)
    ]
    missing += [link for link in LINK.findall(text) if "://" not in link and not (page.parent / link).exists()]
    missing += [name for pair in MODULE.findall(code) for name in pair if name and not is_there(name)]
    assert missing == []


def is_there(dotted: str) -> bool:
    """A module of ours, a room, or a name in one; other people's modules are."""
    top, *rest = dotted.split(".")
    if top not in {"gnvc_vd", "lab", "tests"} or "NAME" in rest or (top == "gnvc_vd" and rest[0] in gnvc_vd.__all__):
        return True
    whole, parent = CHECKOUT.joinpath(top, *rest), CHECKOUT.joinpath(top, *rest[:-1])
    return whole.is_dir() or whole.with_suffix(".py").exists() or parent.with_suffix(".py").exists()
