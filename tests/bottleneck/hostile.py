"""Hostile streams with valid CRCs, each in a process that may be killed: `python -m tests.bottleneck.hostile N`.

Prints one JSON line: how every mutant ended. A fork of this process has a time and a memory limit, and says by its
exit code whether it decoded, refused in a sentence, or did something else.
"""

import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from fractions import Fraction
from pathlib import Path
from random import Random

import torch

from gnvc_vd.bitstream import CodecId, Header, Reader, Unit
from gnvc_vd.bottleneck.bottleneck import Bottleneck
from gnvc_vd.bottleneck.policies import POLICIES, qualities
from gnvc_vd.conventions import Colour, GnvcError
from gnvc_vd.gop import latent_size, latents_of
from tests.bitstream.streams import bodies, mutated, packed, signed
from tests.bottleneck.models import from_generator, latents

MAX_PIXELS = 1 << 18
SECONDS = 60
EXTRA_MEMORY = 256 << 20
ENDS = {0: "decoded", 1: "refused"}


def stream(model: Bottleneck) -> bytes:
    header = Header(CodecId.GNVC_VD, model.identity, b"shwn", 96, 64, Fraction(25), Colour("bt709", "limited"))
    units = []
    for index, (frames, quality) in enumerate([(9, 40), (5, 10)]):
        levels = qualities(quality, latents_of(frames))
        (payload,), _ = model.compress(latents(1, len(levels), 8, 12, seed=index), levels)
        units.append(Unit(index, frames, quality, 0, payload.symbol_hash, payload.data))
    return packed(units, header)


def decode(model: Bottleneck, data: bytes) -> int:
    """Latents decoded, with everything that a file states taken from the file."""
    reader = Reader(io.BytesIO(data), MAX_PIXELS)
    width, height = latent_size(reader.header.width, reader.header.height)
    decoded = 0
    for part in reader:
        if isinstance(part, Unit):
            policy = POLICIES[part.policy % len(POLICIES)]
            levels = qualities(part.quality, latents_of(part.frames), policy)
            decoded += len(list(model.decompress([part.payload], [part.symbol_hash], (height, width), levels)))
    return decoded


def mutant(data: bytes, random: Random) -> bytes:
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


def end_of(model: Bottleneck, data: bytes) -> str:
    child = os.fork()
    if child == 0:
        code = 3
        try:
            resource.setrlimit(resource.RLIMIT_AS, (_address_space() + EXTRA_MEMORY,) * 2)
            decode(model, data)
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


def main() -> None:
    torch.set_num_threads(1)  # a fork inherits no other threads
    model, random = from_generator(), Random(0)
    whole = stream(model)
    assert decode(model, whole) == 5
    print(json.dumps(Counter(end_of(model, mutant(whole, random)) for _ in range(int(sys.argv[1])))))


if __name__ == "__main__":
    main()
