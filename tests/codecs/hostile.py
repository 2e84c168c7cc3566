"""Work on hostile input, in forks that may be killed; how each piece of work ended is counted."""

import gc
import os
import resource
import select
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from gnvc_vd.conventions import GnvcError
from tests.bitstream.streams import bodies, mutated, signed

SECONDS = 60
EXTRA_MEMORY = 256 << 20  # of a fork, beyond what it begins with
BATCH = 50  # in one fork, unless it dies
ENDS = {b"d": "decoded", b"r": "refused", b"x": "crashed"}
Work = Callable[[], object]


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


def ends_of(works: Sequence[Work]) -> Counter[str]:
    """How many were decoded, refused, crashed, hung or ended their process."""
    ends: list[str] = []
    while len(ends) < len(works):
        ends += _in_fork(works[len(ends) : len(ends) + BATCH])
    return Counter(ends)


def _in_fork(works: Sequence[Work]) -> list[str]:
    """How each ended, up to the first that its process did not survive."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        try:
            resource.setrlimit(resource.RLIMIT_AS, (_address_space() + EXTRA_MEMORY,) * 2)
            gc.freeze()  # all that is imported: looking through it takes longer than decoding
            for work in works:
                os.write(theirs, _end_of(work))
                gc.collect()  # what one held is no memory of the next
        finally:
            os._exit(0)
    os.close(theirs)
    ends: list[str] = []
    while len(ends) < len(works):
        ready = select.select([ours], [], [], SECONDS)[0]
        said = os.read(ours, 1) if ready else None
        if not said:
            ends.append("hung" if said is None else "died")
            break
        ends.append(ENDS[said])
    os.close(ours)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return ends


def _end_of(work: Work) -> bytes:
    try:
        work()
    except GnvcError:
        return b"r"
    except BaseException:  # noqa: BLE001 - it is counted
        traceback.print_exc()
        return b"x"
    return b"d"


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
