"""Seconds from a command's start to the first bytes that it writes: python -m lab.first_bytes CLIP STREAM

Encoding, decoding without refinement and decoding, each in a new process that writes to a pipe, in turn with `import
torch` alone: the least and the median of a few rounds, and the processor seconds of a whole command, which other work
on the machine changes less. With --before, another copy of this repository takes turns.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

HERE = Path(__file__).parents[1]
TORCH = ("-c", "import torch; print(flush=True)")
STREAM_BYTES, Y4M_BYTES = 80, 80_000  # more than a header, so that something was coded


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", help="video to encode")
    parser.add_argument("stream", help=".gnvc file to decode")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="number of rounds (default: 5)")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="another copy, measured in turn with this one")
    arguments = parser.parse_args(argv)
    clip, stream = (str(Path(name).absolute()) for name in (arguments.clip, arguments.stream))
    gnvc_vd = ("-m", "gnvc_vd")
    commands = {
        "import torch": (TORCH, 1),
        "encode": ((*gnvc_vd, "encode", clip, "-"), STREAM_BYTES),
        "decode --no-refine": ((*gnvc_vd, "decode", stream, "-", "--no-refine"), Y4M_BYTES),
        "decode": ((*gnvc_vd, "decode", stream, "-"), Y4M_BYTES),
    }
    folders = {"now": HERE} | ({"before": arguments.before.absolute()} if arguments.before else {})
    ways = [(name, when) for name in commands for when in folders if name != "import torch" or when == "now"]
    rounds = [[seconds(*commands[name], folders[when]) for name, when in ways] for _ in range(arguments.rounds)]
    for (name, when), taken in zip(ways, zip(*rounds, strict=True), strict=True):
        wall, processor = zip(*taken, strict=True)
        print(f"{name:20} {when:7} least {min(wall):.2f}, median {median(wall):.2f}; processor {median(processor):.2f}")
    return 0


def seconds(command: Sequence[str], count: int, folder: Path) -> tuple[float, float]:
    """Until Python with these arguments, in the folder, has written so many bytes; and of the processor, to its end."""
    begun, before = time.perf_counter(), os.times()
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        got = len(process.stdout.read(count))
        taken = time.perf_counter() - begun
        process.stdout.read()
    if process.returncode or got < count:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode} after {got} of {count} bytes")
    after = os.times()
    return taken, after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    raise SystemExit(main())
