"""Damaged streams of both codecs through the command line at nano size: `python -m tests.cli.hostile N`.

A call must exit with 0, 1 or 2, and with one sentence where it is not 0. Prints one JSON line: how every call ended.
"""

import json
import os
import re
import sys
import tempfile
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from random import Random

import torch

from gnvc_vd.cli.main import main as command_line
from gnvc_vd.conventions import GnvcError
from tests.bitstream.streams import mutated
from tests.codecs.hostile import ends_of, resigned
from tests.codecs.test_transcode import NANO, video
from tests.conftest import smooth_clip

ENCODERS = {
    "gnvc-vd": ("--gop", "5"),
    "gvc": ("--codec", "gvc", "--gop", "5", "--sde-steps", "2", "--ode-tail", "1", "--mode", "i2v"),
}
CALLS = (
    ("decode", "broken.gnvc", "out.y4m", *NANO),
    ("decode", "broken.gnvc", "out.mkv", "--conceal", "--json", *NANO),
    ("verify", "broken.gnvc", *NANO),
    ("info", "broken.gnvc"),
)


def call(data: bytes, arguments: tuple[str, ...]) -> None:
    """One call, with what it said checked; GnvcError stands for a refusal, any other error for bad manners."""
    Path("broken.gnvc").write_bytes(data)
    before = [os.dup(stream) for stream in (1, 2)]
    with Path("said").open("w+b") as said:
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
        try:
            code = command_line([*arguments, "--max-pixels", "4096"])
            sys.stdout.flush()
        finally:
            for stream, place in enumerate(before, 1):
                os.dup2(place, stream)
                os.close(place)
    text = Path("said").read_text(encoding="utf-8")
    assert code in (0, 1), (code, text)
    if code:
        notices = r"gnvc-vd: (nano: " + (r"|damage at byte|GOP \d+ is damaged)" if "--conceal" in arguments else ")")
        errors = [line for line in text.splitlines() if line.startswith("gnvc-vd: ") and not re.match(notices, line)]
        reported = arguments[0] in ("info", "verify") and "damage" in text.lower()
        assert len(errors) == 1 or reported, text
        raise GnvcError(text)


def main() -> None:
    torch.set_num_threads(1)  # a fork inherits no other threads
    random, works = Random(0), []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        video(Path("in.mkv"), smooth_clip(16, 20, 10))
        whole = {}
        for codec, options in ENCODERS.items():
            with redirect_stdout(sys.stderr):
                assert command_line(["encode", "in.mkv", f"{codec}.gnvc", *options, *NANO]) == 0
            whole[codec] = Path(f"{codec}.gnvc").read_bytes()
        for number in range(int(sys.argv[1])):
            data = whole[list(ENCODERS)[number // 8 % 2]]
            data = resigned(data, random) if number % 2 else mutated(data, random)
            works.append(partial(call, data, CALLS[number // 2 % 4]))
        ends = ends_of(works)
        os.chdir("/")
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
