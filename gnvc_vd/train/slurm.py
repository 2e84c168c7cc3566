"""Processes that SLURM started become one training: what torch asks its environment for, out of what srun says.

srun --ntasks-per-node=8 --gpus-per-node=8 python scripts/train.py …    eight processes of each machine, no launcher
"""

import os
import subprocess
from collections.abc import Mapping

from gnvc_vd.conventions import GnvcError

PORTS = range(20000, 30000)


def distributed_environment(said: Mapping[str, str]) -> dict[str, str]:
    """RANK and its like for a process of a step of several; nothing where there is no such step or they are set."""
    if "RANK" in said or int(said.get("SLURM_STEP_NUM_TASKS", "1")) == 1:
        return {}
    nodes = int(said.get("SLURM_STEP_NUM_NODES", "1"))
    return {
        "RANK": said["SLURM_PROCID"],
        "LOCAL_RANK": said["SLURM_LOCALID"],
        "WORLD_SIZE": said["SLURM_STEP_NUM_TASKS"],
        "LOCAL_WORLD_SIZE": str(int(said["SLURM_STEP_NUM_TASKS"]) // nodes),
        "MASTER_ADDR": "127.0.0.1" if nodes == 1 else _first_host(said["SLURM_STEP_NODELIST"]),
        "MASTER_PORT": str(PORTS[int(said.get("SLURM_JOB_ID", "0")) % len(PORTS)]),
    }


def join_step() -> None:
    """Before torch is asked how many processes there are."""
    os.environ.update(distributed_environment(os.environ))


def _first_host(nodes: str) -> str:
    """Of SLURM's short form, as gpu[01-02]."""
    try:
        found = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
        return found.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise GnvcError(f"scontrol does not say which hosts {nodes} are: set RANK and its like yourself") from error
