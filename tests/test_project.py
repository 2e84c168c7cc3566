"""What stands beside the package: the workflow, the hooks, the issue templates, pages of prose."""

import re
from pathlib import Path

import pytest
import yaml

import gnvc_vd

CHECKOUT = Path(gnvc_vd.__file__).parents[1]
PROSE = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("gnvc_vd/assets/**/*CARD.md")]
WIDTH = 100  # of prose
SETTINGS = [*CHECKOUT.glob("configs/**/*.yaml"), *CHECKOUT.glob(".github/**/*.yml")]
COMMAND = re.compile(r"#(  | @| (python|torchrun|accelerate) )")  # in a comment; Hydra's own directives too
UNBROKEN = r"`[^`]*`|!?\[[^\]]*\]\([^)]*\)"


def loaded(name: str) -> dict:  # type: ignore[type-arg]
    found = yaml.safe_load((CHECKOUT / name).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_the_workflow_runs_what_must_pass_on_a_fresh_clone() -> None:
    job = loaded(".github/workflows/ci.yml")["jobs"]["test"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (CHECKOUT / ".ci" / "run").stat().st_mode & 0o111
    classifiers = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"Python :: {version}" in classifiers for version in job["strategy"]["matrix"]["python"])


def test_the_hooks_are_the_style_checks_of_make_lint() -> None:
    (repository,) = loaded(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"].split()[:2] for hook in repository["hooks"]] == [
        [".venv/bin/ruff", "check"],
        [".venv/bin/ruff", "format"],
    ]
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    lint = (CHECKOUT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    assert "ruff check ." in lint and "ruff format --check ." in lint


@pytest.mark.parametrize("name", ["bug", "feature", "results"])
def test_an_issue_template_has_what_a_form_needs(name: str) -> None:
    template = loaded(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert template["name"] and template["description"]
    names = [part["id"] for part in template["body"]]
    assert len(set(names)) == len(names)
    for part in template["body"]:
        assert part["type"] in {"input", "textarea", "checkboxes"} and part["attributes"]["label"]
    assert any(part.get("validations", {}).get("required") for part in template["body"])


def test_the_front_page_stays_short() -> None:
    assert len((CHECKOUT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_prose_is_at_most_a_hundred_characters_wide(page: Path) -> None:
    """Code, tables, headings and what marks a table may be wider, and a line that is one word, command or link."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    wide = [line for line in text.splitlines() if len(line) > WIDTH and not line.startswith(("|", "#", "<!--"))]
    assert [line for line in wide if " " in re.sub(UNBROKEN, "x", line).strip().lstrip("-* ")] == []


@pytest.mark.parametrize("folder", sorted({path.parent for path in SETTINGS}), ids=lambda path: path.name)
def test_comments_of_settings_are_at_most_a_hundred_characters_wide(folder: Path) -> None:
    """Commands may be wider, and anchors, which hold other projects' commands."""
    lines = [line for path in SETTINGS if path.parent == folder for line in path.read_text("utf-8").splitlines()]
    wide = [line for line in lines if len(line) > WIDTH and re.search(r"(^|\s)#\s", line)]
    assert folder.name == "anchors" or [line for line in wide if not COMMAND.match(line.lstrip())] == []


def test_the_changelog_is_newest_first_and_in_known_sections() -> None:
    lines = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    versions = [line.partition("[")[2].partition("]")[0] for line in lines if line.startswith("## ")]
    assert versions == ["Unreleased", *sorted(versions[1:], key=lambda one: [*map(int, one.split("."))], reverse=True)]
    sections = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
