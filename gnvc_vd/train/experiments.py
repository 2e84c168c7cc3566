"""Start a Hydra script from any working directory: list its experiments; print errors as one sentence."""

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
    """Call a script's Hydra main function; without arguments, list the experiments."""
    register(configs)
    if not sys.argv[1:]:
        sys.stdout.write(listing(configs, script) + "\n")
        return
    if os.environ.get(FULL_ERROR):  # Hydra's option for tracebacks
        main()
        return
    os.environ[FULL_ERROR] = "1"  # otherwise Hydra prints its errors itself, in many lines
    with sentences(script):
        try:
            main()
        except OSError as error:  # Hydra could not make the folder; errors of the script are caught in it
            if isinstance(error, HydraException):
                raise
            wanted = f"{FOLDER_KEYS[script]}=FOLDER names another folder"
            raise GnvcError(f"cannot write {error.filename}: {error.strerror}; {wanted}") from error


@contextmanager
def sentences(script: str) -> Iterator[None]:
    """Context that turns errors of input, call or files into one sentence and exit code 1 or 2."""
    try:
        yield
    except (GnvcError, HydraException, OmegaConfBaseException, OSError) as error:
        sys.stderr.write(f"{script}: {_sentence(error, script)}\n")
        wrong_call = isinstance(error, UsageError | HydraException | OmegaConfBaseException)
        sys.exit(2 if wrong_call else 1)


def _sentence(error: Exception, script: str) -> str:
    if isinstance(error, MissingConfigException):  # a subclass of OSError
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
    """A configuration as plain data; raises UsageError if a value is missing."""
    try:
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise UsageError(_sentence(error, "")) from error


def check_start(name: str | None, configs: Path) -> None:
    """If the initial model is missing and another experiment makes it, raise an error with the commands for that."""
    folder = Path(name or ".")
    experiment = folder.name
    if folder.exists() or not folder.parent.name or not (configs / f"train/experiment/{experiment}.yaml").is_file():
        return
    raise GnvcError(
        f"the initial model {folder} does not exist: `python scripts/train.py experiment={experiment}` "
        f"trains it, and `python scripts/export.py outputs/train/{experiment} {folder}` exports it"
    )


def register(configs: Path) -> None:
    """Register `${configs:FOLDER}`: the absolute path of a folder in `configs`."""
    OmegaConf.register_new_resolver("configs", lambda folder: str(configs / folder), replace=True)


def listing(configs: Path, script: str) -> str:
    """List the experiments: names, and the first sentence of each comment."""
    files = sorted((configs / script / "experiment").glob("*.yaml"))
    width = max(len(path.stem) for path in files)
    lines = [f"  {path.stem:{width}}  {first_sentence(path.read_text(encoding='utf-8'))}" for path in files]
    return "\n".join([f"python scripts/{script}.py experiment=NAME, where NAME is one of", *lines])


def first_sentence(text: str) -> str:
    """The first sentence of a configuration's comment."""
    lines = takewhile(lambda line: not line.startswith(" "), COMMENT.findall(text))  # up to a command
    comment = " ".join(lines).removesuffix(":")
    return comment.partition(". ")[0].removesuffix(".") + "."
