"""Experiments of a script: a folder of configurations, found from any working directory, listed by what each says."""

import re
from itertools import takewhile
from pathlib import Path

from omegaconf import OmegaConf

COMMENT = re.compile(r"^# (?!@)(.*)", re.MULTILINE)


def register(configs: Path) -> None:
    """`${configs:train}` in a configuration is the absolute path of a folder in `configs`."""
    OmegaConf.register_new_resolver("configs", lambda folder: str(configs / folder), replace=True)


def listing(configs: Path, script: str) -> str:
    """A line for each experiment: its name and the first sentence of its comment."""
    files = sorted((configs / script / "experiment").glob("*.yaml"))
    width = max(len(path.stem) for path in files)
    lines = [f"  {path.stem:{width}}  {first_sentence(path.read_text(encoding='utf-8'))}" for path in files]
    return "\n".join([f"python scripts/{script}.py experiment=NAME, where NAME is one of", *lines])


def first_sentence(text: str) -> str:
    """Of a configuration's comment, which follows its package."""
    lines = takewhile(lambda line: not line.startswith(" "), COMMENT.findall(text))  # up to a command
    comment = " ".join(lines).removesuffix(":")
    return comment.partition(". ")[0].removesuffix(".") + "."
