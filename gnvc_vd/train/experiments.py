"""Experiments of a script: listed by what each says, started from any working directory; errors are one sentence."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gnvc_vd.conventions import GnvcError, UsageError

COMMENT = re.compile(r"^# (?!@)(.*)", re.MULTILINE)
FULL_ERROR = "HYDRA_FULL_ERROR"
FOLDER_KEYS = {"train": "hydra.run.dir", "evaluate": "folder"}  # where a script writes


def start(main: Callable[[], object], configs: Path, script: str) -> None:
    """Call a script's main function of Hydra; a script without arguments lists its experiments."""
    register(configs)
    if not sys.argv[1:]:
        sys.stdout.write(listing(configs, script) + "\n")
        return
    if os.environ.get(FULL_ERROR):  # Hydra's own way to ask for tracebacks
        main()
        return
    os.environ[FULL_ERROR] = "1"  # or Hydra prints its errors itself, over many lines
    with sentences(script):
        try:
            main()
        except OSError as error:  # the script's own are sentences already: this is Hydra, making the folder
            if isinstance(error, HydraException):
                raise
            wanted = f"{FOLDER_KEYS[script]}=FOLDER names another folder"
            raise GnvcError(f"cannot write {error.filename}: {error.strerror}; {wanted}") from error


@contextmanager
def sentences(script: str) -> Iterator[None]:
    """End the script with one sentence and exit code 1 or 2 where its input, its call or its folders are at fault."""
    try:
        yield
    except (GnvcError, HydraException, OmegaConfBaseException, OSError) as error:
        sys.stderr.write(f"{script}: {_sentence(error, script)}\n")
        wrong_call = isinstance(error, UsageError | HydraException | OmegaConfBaseException)
        sys.exit(2 if wrong_call else 1)


def _sentence(error: Exception, script: str) -> str:
    if isinstance(error, MissingConfigException):  # before OSError, which it is too
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        return f"there is no {group} {name!r}; there are {', '.join(error.options or ())}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    said = str(error)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} has no value: give {error.full_key}=VALUE"
    unknown = re.match(r"Could not override '(.+?)'", said)
    if unknown:
        return f"there is no key {unknown[1]!r}: `python scripts/{script}.py experiment=NAME --cfg job` prints all"
    return " ".join(said.partition("\nSee ")[0].split())


def plain(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain data, in which every value is given."""
    try:
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise UsageError(_sentence(error, "")) from error


def check_start(name: str | None, configs: Path) -> None:
    """Refuse a model to start from that another experiment makes and that is not there, naming the commands."""
    folder = Path(name or ".")
    experiment = folder.name
    if folder.exists() or not folder.parent.name or not (configs / f"train/experiment/{experiment}.yaml").is_file():
        return
    raise GnvcError(
        f"the model that it starts from, {folder}, is not there: `python scripts/train.py experiment={experiment}` "
        f"trains it, and `python scripts/export.py outputs/train/{experiment} {folder}` exports it"
    )


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
