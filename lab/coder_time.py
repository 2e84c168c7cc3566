"""Processor time of the contextual codec without its networks: python -m lab.coder_time [--mean-table I] [--rounds N]

25 frames at Wan2.1 1.3B's size, tensors to bytes and back: rounding, positions, tables, rANS and the hash of symbols.
Networks return tensors that were drawn before: means, and table indexes about a mean that sets the rate, with latents
normally distributed by them. One thread; medians.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple, cast

import torch
from torch import Tensor

from gnvc_vd.bitstream.gop import latent_size
from gnvc_vd.entropy.integer import UNITS
from gnvc_vd.entropy.likelihoods import scale_of
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.bottleneck.hyperprior import EntropyModel
from gnvc_vd.learned.bottleneck.networks import DecodedLatent
from gnvc_vd.presets import REAL_CONTEXTUAL

SIZES, FRAMES, LATENTS, QUALITY = ((832, 480), (1280, 720)), 25, 7, 20
SPREAD, HYPER_TABLE, HYPER_SCALE = 7, 12, 0.5  # deviation of table indexes; the hyper-latent's table and deviation


class Drawn(NamedTuple):
    """What the networks say of one latent."""

    means: Tensor
    levels: Tensor
    y: Tensor
    z: Tensor


class WithoutNetworks(Contextual):
    """The contextual codec, which is given what its networks would compute."""

    def __init__(self, rows: int, columns: int, mean_table: float) -> None:
        super().__init__(REAL_CONTEXTUAL)
        self.freeze()
        self.eval()
        torch.manual_seed(0)
        self.coming: list[Drawn] = []
        self.drawn = [_draw(rows, columns, mean_table) for _ in range(LATENTS)]
        for model in (self.anchor_entropy, self.entropy):
            self._replace_networks(model)
        self.state.forward = lambda state, values: values  # type: ignore[method-assign]

    def entropy_model(self, past: DecodedLatent | None) -> EntropyModel:
        self.coming = self.coming or list(self.drawn)
        self.now = self.coming.pop(0)
        return super().entropy_model(past)

    def _replace_networks(self, model: EntropyModel) -> None:
        zeros = torch.zeros_like(self.drawn[0].means)
        replaced: dict[object, dict[str, Callable[..., object]]] = {
            model: {
                "_base": lambda *_: zeros,
                "_mean_and_level": lambda *_: (self.now.means, self.now.levels),
                "_hyper_analysis": lambda *_: self.now.z,
            },
            model.gains: dict.fromkeys(("multiply", "divide"), lambda *_: self.now.y) | {"normalise": lambda *_: zeros},
            model.hyper_gains: {"normalise": lambda *_: zeros},
        }
        for part, methods in replaced.items():
            for name, method in methods.items():
                setattr(part, name, method)
        cast(Tensor, model.hyper_level_integers).fill_(HYPER_TABLE)

    def _analyse(self, latent: Tensor, past: DecodedLatent | None) -> Tensor:
        return self.now.y

    def _synthesise(self, y: Tensor, past: DecodedLatent | None) -> DecodedLatent:
        return DecodedLatent(y, y)


def _draw(rows: int, columns: int, mean_table: float) -> Drawn:
    shape = (1, REAL_CONTEXTUAL.symbols, rows // 2, columns // 2)
    levels = (mean_table + SPREAD * torch.randn(shape)).round().clamp(0, 63)
    means = torch.randint(-UNITS // 2, UNITS // 2, shape)
    z = HYPER_SCALE * torch.randn(1, REAL_CONTEXTUAL.hyper, -(-shape[2] // 4), -(-shape[3] // 4))
    return Drawn(means, levels.long(), means / UNITS + scale_of(levels) * torch.randn(shape), z)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mean-table", type=float, default=3.0, help="mean table index, which sets the rate")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is timed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for width, height in SIZES:
        columns, rows = latent_size(width, height)
        codec, levels = WithoutNetworks(rows, columns, options.mean_table), [QUALITY] * LATENTS
        latents = torch.zeros(1, 16, LATENTS, rows, columns)
        encoding, decoding = [], []
        for _ in range(options.rounds):
            start = time.process_time()
            sent = codec.compress(latents, levels)[0][0]
            middle = time.process_time()
            list(codec.decompress([sent.data], [sent.symbol_hash], (rows, columns), levels))
            encoding.append(middle - start)
            decoding.append(time.process_time() - middle)
        symbols = sum(one.means.numel() + one.z.numel() for one in codec.drawn)
        print(
            f"{width}×{height}: {symbols} symbols, {8 * len(sent.data) / (width * height * FRAMES):.3f} bpp, "
            f"encode {1e3 * median(encoding):.0f} ms, decode {1e3 * median(decoding):.0f} ms of processor time"
        )


if __name__ == "__main__":
    main()
