"""The script of what only a GPU can show, where there is none."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.runs import ENVIRONMENT

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_check.py"


def check(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False)


def test_without_a_gpu_one_sentence_says_so() -> None:
    done = check()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gpu_check: there is no CUDA device; --device cpu runs what can be run without one\n"


def test_a_check_that_fails_stops_no_other_and_a_strange_one_is_none() -> None:
    """A function that the transform codec needs is taken away."""
    broken = "import torch, runpy, sys; torch.linalg.solve_ex = None; sys.argv[0] = sys.argv[1]; del sys.argv[1]; "
    broken += "runpy.run_path(sys.argv[0], run_name='__main__')"
    names = ["coded-world-transform", "coded-world-contextual", "waiting"]
    command = [sys.executable, "-c", broken, str(SCRIPT), "--device", "cpu", "--model", "nano", *names]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    *lines, summary = [line.split() for line in done.stdout.splitlines()]
    assert summary == ["1", "passed,", "1", "FAILED,", "1", "left", "out"]
    assert [line[0] for line in lines] == ["FAILED", "passed", "left"]
    assert [line[1] for line in lines[:2]] == names[:2] and "TypeError:" in lines[0]
    assert check("none").returncode == 2


def test_no_check_is_begun_when_the_minutes_are_over() -> None:
    done = check("--device", "cpu", "--model", "nano", "--minutes", "0", "coded-world-transform")
    assert done.returncode == 0 and done.stdout.endswith("the minutes are over\n0 passed, 0 FAILED, 1 left out\n")


@pytest.mark.slow
def test_on_a_cpu_everything_but_graphs_is_checked() -> None:
    done = check("--device", "cpu", "--model", "nano", "--minutes", "9")
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, summary = done.stdout.splitlines()
    assert summary == "17 passed, 0 FAILED, 6 left out" and len(lines) == 23
    assert {line.split()[2] for line in lines if line.startswith("left out")} == {
        "sharding", "waiting", "speed-vae", "speed-codec", "compiled-light", "compiled-wan",
    }  # fmt: skip
    assert all(" s " in line and " GiB " in line for line in lines)
