"""What the documentation names is there: paths, links, commands, experiments, modules."""

import re
from pathlib import Path
from typing import get_type_hints

import pytest

import gnvc_vd
from gnvc_vd.train.settings import Training
from tests.test_imports import LAYERS

PACKAGE = Path(gnvc_vd.__file__).parent
CHECKOUT = PACKAGE.parent
PAGES = [*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").glob("*.md")]
PAGES += [PACKAGE / "assets" / "tiny" / "MODEL_CARD.md", PACKAGE / "assets" / "clips" / "README.md"]
# Commands stand in comments of these, and in docstrings.
SCRIPTS = [
    path
    for folder in ("scripts", "lab", "examples")
    for path in (CHECKOUT / folder).rglob("*")
    if path.suffix in {".py", ".sh"}
]
SOURCES = [f"/{path.relative_to(CHECKOUT).as_posix()}" for path in SCRIPTS]
SOURCES += [
    f"/{path.relative_to(CHECKOUT).as_posix()}"
    for folder in (PACKAGE, CHECKOUT / "tests")
    for path in folder.rglob("*.py")
]
CONFIGS = list((CHECKOUT / "configs").rglob("*.yaml"))

CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
PATH = re.compile(r"(?<![\w/.=$-])(?:gnvc_vd|configs|scripts|lab|tests|docs|examples|\.ci|\.github)/[\w./*-]*[\w*/]")
FILE = re.compile(r"(?<![\w/.*$])(?:\w+/)*\w+\.py\b")
ANCHOR = re.compile(r"\]\((?!\w+://)([^)#\s]*)#([^)\s]+)\)")
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


def missing_paths(code: str) -> list[str]:
    """Paths from the checkout, and experiments of the scripts that take one."""
    missing = [path for path in PATH.findall(code) if not list(CHECKOUT.glob(path.rstrip("/")))]
    for script, _, name in EXPERIMENT.findall(code):
        kind = "evaluate" if "evaluate" in script else "train"
        if not (CHECKOUT / "configs" / kind / "experiment" / f"{name}.yaml").exists():
            missing.append(f"{script} experiment={name}")
    return missing


def missing_settings(code: str) -> list[str]:
    """Choices of a group, and keys of a training."""
    parts = get_type_hints(Training)
    choices = [
        (group, name)
        for group, name in GROUP.findall(code)
        if not (CHECKOUT / "configs" / group / f"{name}.yaml").exists()
    ]
    keys = [(part, key) for part, key in KEY.findall(code) if key not in get_type_hints(parts[part])]
    return [*map("=".join, choices), *map(".".join, keys)]


def missing_anchors(page: Path) -> list[str]:
    """Links into a page that has no such heading, by GitHub's rule for the anchors of headings."""
    missing = []
    for name, anchor in ANCHOR.findall(page.read_text(encoding="utf-8")):
        target = page.parent / name if name else page
        if target.suffix == ".md" and target.is_file():
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            known = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            missing += [] if anchor in known else [f"{name}#{anchor}"]
    return missing


def missing_names(code: str) -> list[str]:
    """Files by the end of their paths, and modules."""
    files = [
        path
        for path in FILE.findall(code)
        if path not in OTHERS and not any(one.endswith(f"/{path}") for one in SOURCES)
    ]
    return files + [name for pair in MODULE.findall(code) for name in pair if name and not is_there(name)]


def is_there(dotted: str) -> bool:
    """A module of ours, a folder, or a name in one; other people's modules are."""
    top, *rest = dotted.split(".")
    if top not in {"gnvc_vd", "lab", "tests"} or not rest or "NAME" in rest:
        return True
    if top == "gnvc_vd" and rest[0] in gnvc_vd.__all__:
        return True
    whole, parent = CHECKOUT.joinpath(top, *rest), CHECKOUT.joinpath(top, *rest[:-1])
    return whole.is_dir() or whole.with_suffix(".py").exists() or parent.with_suffix(".py").exists()


@pytest.mark.parametrize("page", [*PAGES, *SCRIPTS, *CONFIGS], ids=shown)
def test_every_path_and_every_experiment_is_there(page: Path) -> None:
    assert missing_paths(code_of(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_setting_file_module_and_link_of_a_page_is_there(page: Path) -> None:
    code, links = code_of(page), LINK.findall(page.read_text(encoding="utf-8"))
    assert missing_settings(code) + missing_names(code) == []
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
    assert missing_anchors(page) == []


def test_the_check_sees_what_is_missing() -> None:
    train, evaluate = "python scripts/train.py", "python scripts/evaluate.py"
    assert missing_paths(f"`lab/tiny/leg.py` gnvc_vd/assets/*/ {train} -m experiment=tiny_vae,x run=cpu") == []
    assert missing_paths(f"{train} experiment=$NAME {train} experiment=tiny_$phase {train} experiment=NAME") == []
    bad = f"lab/none.sh {evaluate} device=cpu experiment=tiny_vae python -m lab.training_cost experiment=small"
    assert missing_paths(bad) == [
        "lab/none.sh",
        "scripts/evaluate.py experiment=tiny_vae",
        "lab.training_cost experiment=small",
    ]
    assert missing_settings("data=photos run.shard=true stage.optimisation.rate=2 run.json") == []
    assert missing_settings("data=none run.none=true") == ["data=none", "run.none"]
    assert missing_names("video/reader.py reader.py python -m lab.size gnvc_vd.load gnvc_vd.video.reader.Video") == []
    assert missing_names("video/codec.py none.py python -m lab.none gnvc_vd.none.x") == [
        "video/codec.py",
        "none.py",
        "lab.none",
        "gnvc_vd.none.x",
    ]


def test_the_rooms_of_the_architecture_are_those_that_imports_are_checked_by() -> None:
    table = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("| layer | folders |")[2]
    rows = re.findall(r"^\| \d+ \| ([^|]+) \|", table, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)/?`", row)) for row in rows] == LAYERS
