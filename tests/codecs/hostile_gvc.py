"""Damaged GVC streams through the whole decoder, half of them signed again: `python -m tests.codecs.hostile_gvc N`.

The model is the exactly known Gaussian one, so that time goes into what reads bytes. Prints one JSON line: how every
mutant ended.
"""

import json
import sys
from fractions import Fraction
from functools import partial
from random import Random

import torch

from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.conventions import Colour
from gnvc_vd.video import VideoInfo
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.encoding import GvcEncodeOptions
from gnvc_vd.zeroshot.parameters import MODES, Mode, Parameters
from gnvc_vd.zeroshot.sde import Schedule
from lab.gaussian_prior import gaussian_prior
from tests.bitstream.streams import mutated, packed
from tests.codecs.hostile import ends_of, resigned
from tests.conftest import smooth_clip

MAX_PIXELS = 1 << 10  # the limit of memory is 256 MiB over the clean decode, so pictures stay small


def stream(codec: Gvc, mode: Mode) -> bytes:
    parameters = Parameters(mode, 64, Schedule(steps=3, tail=1))
    encoding = GvcEncodeOptions(atoms=5, gop=5, scenecut=False, tail_step=20, parameters=parameters)
    info = VideoInfo(20, 16, Fraction(25), None, Colour("bt709", "limited"), "", "")
    return packed(list(codec.encode_units(iter(smooth_clip(16, 20, 13)), encoding)), codec.header(info, encoding))


def decode(codec: Gvc, data: bytes, conceal: bool) -> int:
    return sum(len(frames) for frames in codec.decode(data, DecodeOptions(conceal=conceal, max_pixels=MAX_PIXELS)))


def main() -> None:
    torch.set_num_threads(1)  # a fork inherits no other threads
    codec, random = Gvc(gaussian_prior()), Random(0)
    whole = {mode: stream(codec, mode) for mode in MODES}
    assert all(decode(codec, data, conceal=False) == 13 for data in whole.values())
    works = []
    for number in range(int(sys.argv[1])):
        data = whole[MODES[number // 4 % 3]]
        data = resigned(data, random) if number % 2 else mutated(data, random)
        works.append(partial(decode, codec, data, conceal=number % 4 > 1))
    print(json.dumps(ends_of(works)))


if __name__ == "__main__":
    main()
