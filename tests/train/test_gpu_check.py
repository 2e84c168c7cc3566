"""The script of what only a GPU can show, where there is none."""

import importlib.util
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from gnvc_vd.learned.bottleneck.base import Bottleneck
from gnvc_vd.learned.bottleneck.networks import DecodedLatent
from gnvc_vd.learned.refine.refiner import Refiner
from gnvc_vd.presets import preset
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


def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check_here", SCRIPT)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # dataclasses look there
    spec.loader.exec_module(made)
    return made


def test_a_result_that_is_no_number_fails_wherever_it_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checks = module()
    place = checks.Place(torch.device("cpu"), "nano", tmp_path, True)
    assert checks.near([1.0, 2.0], [1.0, 2.01]).startswith("2 losses")
    for found in ([1.0, math.nan], [math.nan, 2.0]):
        with pytest.raises(checks.CheckFailed):
            checks.near(found, [1.0, 2.0])

    def decoded(*told: Any) -> tuple[torch.Tensor, float, float]:
        return torch.full((2,), math.nan if told[3].compile else 0.0), 1.0, 1.0

    with monkeypatch.context() as patch:
        patch.setattr(checks, "decoded", decoded)
        with pytest.raises(checks.CheckFailed, match="frames are wrong"):
            checks.compiled_decoder(preset("tiny").vae, preset("nano").vae)(place)

    with monkeypatch.context() as patch:  # one of several refinements
        refine, calls = Refiner.forward, list[torch.Tensor]()

        def refining(self: Refiner, *told: Any) -> torch.Tensor:
            calls.append(refine(self, *told))
            return calls[-1] * (math.nan if len(calls) == 3 else 1)

        patch.setattr(Refiner, "forward", refining)
        with pytest.raises(checks.CheckFailed, match="nan of a deviation"):
            checks.refining(place)

    decompress = Bottleneck.decompress

    def off(self: Bottleneck, *told: Any) -> Iterator[DecodedLatent]:
        *first, last = decompress(self, *told)
        yield from first
        yield last._replace(latent=last.latent * math.nan)

    monkeypatch.setattr(Bottleneck, "decompress", off)
    with pytest.raises(checks.CheckFailed, match="are nan apart"):
        checks.coded_world("contextual")(place)
