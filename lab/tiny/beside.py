"""A phase in a process of its own, beside this one: it says what it has to say into a file, and never outlives it."""

import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path
from typing import cast

import torch
from omegaconf import DictConfig, OmegaConf

from gnvc_vd.conventions import GnvcError


class BackgroundTraining:
    """It has begun.

    Args:
        threads: of torch, on a CPU.
    """

    def __init__(self, config: DictConfig, run: Path, threads: int) -> None:
        self.log = run.with_suffix(".log")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        arguments = OmegaConf.to_yaml(config, resolve=True), str(run), str(self.log), threads, os.getpid()
        self._process = multiprocessing.get_context("spawn").Process(target=_train, args=arguments, daemon=True)
        self._process.start()

    def wait(self) -> None:
        self._process.join()
        if self._process.exitcode:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() or ["it said nothing"]
            raise GnvcError(f"{self.log.stem} ended with {self._process.exitcode}: {lines[-1]} (all of it: {self.log})")


def _train(config: str, run: str, log: str, threads: int, parent: int) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with Path(log).open("a", encoding="utf-8", buffering=1) as output:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    torch.set_num_threads(threads)
    from lab.tiny.phases import register_configs
    from lab.tiny.train import train_run

    register_configs()
    try:
        train_run(cast(DictConfig, OmegaConf.create(config)), Path(run))
    except GnvcError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def _end_with(parent: int) -> None:
    """Also where the other is killed, and can say nothing."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
