"""Model folders with changed files, whose hashes are stated anew: `python -m tests.codecs.hostile_folder N`.

Prints one JSON line: how loading each of them ended.
"""

import json
import shutil
import struct
import sys
import tempfile
from fractions import Fraction
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch

from gnvc_vd.backbone.folder import DESCRIPTION
from gnvc_vd.codecs.load import CODEC_FILE, load, load_gvc, save
from gnvc_vd.common.files import file_sha256
from gnvc_vd.conventions import Colour
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd
from gnvc_vd.video import VideoInfo
from tests.bitstream.streams import mutated, packed
from tests.codecs.hostile import ends_of
from tests.conftest import smooth_clip

STRANGE = (None, True, -1, 0, 1 << 70, 1e300, "", "../x", "\0", [], {}, [[]], {"kind": "x"}, "a" * 2000)


def strange(value: Any, random: Random) -> Any:
    """JSON with something else in one place, or one entry less."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.15:
        return random.choice(STRANGE)
    place = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if random.random() < 0.1:
        del value[place]
    else:
        value[place] = strange(value[place], random)
    return value


def broken(data: bytes, random: Random) -> bytes:
    """A safetensors file that is cut, changed anywhere, or changed in its header with the length put right."""
    kind = random.randrange(3)
    if kind == 0:
        return data[: random.randrange(len(data))]
    if kind == 1:
        return mutated(data[:200], random) + data[200:]
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = mutated(data[8:end], random) if random.random() < 0.5 else edited(data[8:end], random)
    return struct.pack("<Q", len(header)) + header + data[end:]


def edited(text: bytes, random: Random) -> bytes:
    return json.dumps(strange(json.loads(text), random)).encode()


def changed(whole: Path, here: Path, number: int, random: Random) -> None:
    """A copy of a model folder with one file changed; the others are its own under other names."""
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    for path in whole.iterdir():
        (here / path.name).hardlink_to(path)
    about = (whole / DESCRIPTION).read_bytes()
    (here / DESCRIPTION).unlink()
    if number % 2:
        name = random.choice(sorted(path.name for path in whole.iterdir() if path.suffix == ".safetensors"))
        (here / name).unlink()
        (here / name).write_bytes(broken((whole / name).read_bytes(), random))
        about = about.replace(file_sha256(whole / name).encode(), file_sha256(here / name).encode())
    else:
        about = mutated(about, random) if random.random() < 0.4 else edited(about, random)
    (here / DESCRIPTION).write_bytes(about)


def load_changed(whole: Path, here: Path, number: int) -> None:
    changed(whole, here, number, Random(number))
    codec = (load if number % 8 else load_gvc)(here)
    if isinstance(codec, GnvcVd):  # and what is loaded codes
        info, encoding = VideoInfo(16, 16, Fraction(25), None, Colour("bt709", "limited"), "", ""), EncodeOptions(gop=5)
        stream = packed(list(codec.encode_units(iter(smooth_clip(16, 16, 5)), encoding)), codec.header(info, encoding))
        assert sum(map(len, codec.decode(stream))) == 5


def main() -> None:
    torch.set_num_threads(1)  # a fork inherits no other threads
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        save(load("nano"), whole, "nano")
        assert load(whole).name and (whole / CODEC_FILE).is_file()
        works = [partial(load_changed, whole, Path(folder) / "changed", number) for number in range(int(sys.argv[1]))]
        print(json.dumps(ends_of(works)))


if __name__ == "__main__":
    main()
