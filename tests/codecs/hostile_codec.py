"""Damaged streams through the decoder at nano size, half signed again:

    python -m tests.codecs.hostile_codec N contextual|transform

Prints one JSON line: how every mutant ended.
"""

import json
import sys
from fractions import Fraction
from functools import partial
from random import Random

import numpy as np
import torch

from gnvc_vd.backbone.streaming import latents_of_frames
from gnvc_vd.bitstream.gop import pad
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.conventions import Colour
from gnvc_vd.learned.canvas import Canvas
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd, Gop
from gnvc_vd.video import VideoInfo
from tests.bitstream.streams import mutated, packed
from tests.codecs.hostile import ends_of, resigned
from tests.conftest import smooth_clip
from tests.learned.bottleneck.models import nano_codec

MAX_PIXELS = 1 << 12  # the limit of memory is 256 MiB over the clean decode, so pictures stay small


def stream(codec: GnvcVd) -> bytes:
    encoding = EncodeOptions(gop=5, scenecut=False)
    header = codec.header(VideoInfo(20, 16, Fraction(25), None, Colour("bt709", "limited"), "", ""), encoding)
    plain, canvas = smooth_clip(16, 20, 10), Canvas(np.array([(t // 2, -3 * t) for t in range(5)]), 16, 20)
    placed = pad(canvas.place_frames(np.stack(smooth_clip(16, 20, 5))))
    gop = Gop(5, latents_of_frames(codec.backbone.vae, placed, codec.device), canvas)
    return packed([*codec.encode_units(iter(plain), encoding), codec.encode_gop(2, gop, encoding.quality)], header)


def decode(codec: GnvcVd, data: bytes, conceal: bool) -> int:
    decoding = DecodeOptions(steps=1, conceal=conceal, max_pixels=MAX_PIXELS)
    return sum(len(frames) for frames in codec.decode(data, decoding))


def main() -> None:
    torch.set_num_threads(1)  # a fork inherits no other threads
    codec, random = nano_codec(sys.argv[2]), Random(0)  # type: ignore[arg-type]
    whole = stream(codec)
    assert decode(codec, whole, conceal=False) == 15
    works = []
    for number in range(int(sys.argv[1])):
        data = resigned(whole, random) if number % 2 else mutated(whole, random)
        works.append(partial(decode, codec, data, conceal=number % 4 > 1))
    print(json.dumps(ends_of(works)))


if __name__ == "__main__":
    main()
