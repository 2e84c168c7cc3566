"""Hostile streams of valid CRCs, each in a process that may be killed:

    python -m tests.learned.bottleneck.hostile N contextual|transform

Prints one JSON line: how every mutant ended.
"""

import io
import json
import sys
from fractions import Fraction
from functools import partial
from random import Random

import torch

from gnvc_vd.bitstream import CodecId, Header, Reader, Unit
from gnvc_vd.bitstream.gop import latent_size, latents_of
from gnvc_vd.conventions import Colour
from gnvc_vd.learned.bottleneck.base import Bottleneck
from gnvc_vd.learned.bottleneck.policies import POLICIES, qualities
from gnvc_vd.learned.bottleneck.schema import coded_identity
from tests.bitstream.streams import packed
from tests.codecs.hostile import ends_of, resigned
from tests.learned.bottleneck.models import from_generator, latents

MAX_PIXELS = 1 << 18


def stream(model: Bottleneck) -> bytes:
    header = Header(CodecId.GNVC_VD, coded_identity(model), b"shwn", 96, 64, Fraction(25), Colour("bt709", "limited"))
    units = []
    for index, (frames, quality) in enumerate([(9, 40), (5, 10)]):
        levels = qualities(quality, latents_of(frames))
        rotation = min(2, model.usual_rotation(len(levels)))  # two of them in the first unit
        (payload,), _ = model.compress(latents(1, len(levels), 8, 12, seed=index), levels, rotation)
        units.append(Unit(index, frames, quality, 0, payload.symbol_hash, payload.data, rotation))
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
            decoded += len(
                list(model.decompress([part.payload], [part.symbol_hash], (height, width), levels, part.rotation))
            )
    return decoded


def main() -> None:
    torch.set_num_threads(1)  # a fork inherits no other threads
    model, random = from_generator(kind=sys.argv[2]), Random(0)
    whole = stream(model)
    assert decode(model, whole) == 5
    print(json.dumps(ends_of([partial(decode, model, resigned(whole, random)) for _ in range(int(sys.argv[1]))])))


if __name__ == "__main__":
    main()
