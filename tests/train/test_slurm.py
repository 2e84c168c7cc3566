"""What SLURM says of a process becomes what torch asks for."""

from pathlib import Path

import pytest

from gnvc_vd.conventions import GnvcError
from gnvc_vd.train.slurm import distributed_environment

STEP = {
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "13",
    "SLURM_LOCALID": "5",
}
ONE_NODE = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}


def scontrol(folder: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of SLURM's own."""
    file = folder / "scontrol"
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_a_process_of_two_machines_knows_its_place_and_the_first_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol(tmp_path, '[ "$*" = "show hostnames gpu[07-08]" ] && printf "gpu07\\ngpu08\\n"', monkeypatch)
    assert distributed_environment(STEP) == {
        "RANK": "13",
        "LOCAL_RANK": "5",
        "WORLD_SIZE": "16",
        "LOCAL_WORLD_SIZE": "8",
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": "23456",
    }


def test_one_machine_needs_no_hosts() -> None:
    found = distributed_environment(ONE_NODE | {"SLURM_JOB_ID": "40007"})
    assert (found["MASTER_ADDR"], found["MASTER_PORT"], found["LOCAL_WORLD_SIZE"]) == ("127.0.0.1", "20007", "2")


def test_a_process_alone_a_batch_script_and_what_another_launcher_set_stay_as_they_are() -> None:
    assert distributed_environment({}) == {}
    assert distributed_environment({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}) == {}  # no srun
    assert distributed_environment(ONE_NODE | {"SLURM_STEP_NUM_TASKS": "1"}) == {}
    assert distributed_environment(STEP | {"RANK": "3"}) == {}


def test_hosts_that_nobody_knows_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in ("exit 1", "true"):
        scontrol(tmp_path, line, monkeypatch)
        with pytest.raises(GnvcError, match=r"gpu\[07-08\]"):
            distributed_environment(STEP)
