"""Threads of torch that sleep while they wait. Programs import this, before torch; a library must not.

OpenMP's threads spin at the end of every parallel part. On an idle machine that saves microseconds; where other work
wants the same cores, a thread that spins keeps off the one that is waited for, and a decode takes ten times as long.
What the user has said of it stands.
"""

import os

SAID = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

if not any(name in os.environ for name in SAID):
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # OpenMP reads it once, when it is loaded
