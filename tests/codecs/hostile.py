"""Work on hostile streams, each in a fork that may be killed and that says by its exit code how it ended."""

import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

from gnvc_vd.conventions import GnvcError
from tests.bitstream.streams import bodies, mutated, signed

SECONDS = 60
EXTRA_MEMORY = 256 << 20
ENDS = {0: "decoded", 1: "refused"}


def resigned(data: bytes, random: Random) -> bytes:
    """A damaged header, unit head or payload, signed again."""
    parts = bodies(data)
    which = random.choice([0, *range(1, len(parts) - 1), *range(1, len(parts) - 1)])
    if which and random.random() < 0.5:  # frames, quality or policy alone: the parts that decide how much is decoded
        body = bytearray(parts[which])
        body[4 + random.randrange(3)] = random.randrange(256)
        parts[which] = bytes(body)
    else:
        parts[which] = mutated(parts[which], random)
    return signed(parts)


def end_of(work: Callable[[], object]) -> str:
    child = os.fork()
    if child == 0:
        code = 3
        try:
            resource.setrlimit(resource.RLIMIT_AS, (_address_space() + EXTRA_MEMORY,) * 2)
            work()
            code = 0
        except GnvcError:
            code = 1
        except BaseException:  # noqa: BLE001 - the exit code says it
            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return ENDS.get(os.waitstatus_to_exitcode(status), f"exit {os.waitstatus_to_exitcode(status)}")
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
