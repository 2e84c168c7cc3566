"""Colours that are wrong over whole places, and what a layer of a few numbers could mend: PSNR, colours, bytes.

python -m lab.study_colours ORIGINAL DECODED… [--cell 32] [--spans 7] [--steps 6 10 16] [--brightness]

For every decoded film, as Markdown: its PSNR, the error of its colours (Cb and Cr, BT.709) in means of 8×8 pixels and
of cells, and the same with a layer on top. The layer is what is left of the colours in cells of a span of frames, in a
DCT over spans and places, rounded with a dead zone, drawn to pixels by straight lines between cells. Its bytes are
those of a geometric code with a share of zeros and a mean in each of five bands of frequency, four bits for either:
nobody has written that code, so they are an estimate. --brightness adds the brightness of the same cells.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, interpolate

from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.metrics.block_transform import dct
from gnvc_vd.report.tables import Table, as_markdown
from gnvc_vd.video import open_video

# Brightness, Cb and Cr of R, G and B (BT.709).
OPPONENTS = torch.tensor([[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]])
BANDS = (1, 2.5, 5, 9)  # where bands of frequency end, in half waves of a film
FASTEST = 4.0  # half waves that a change from span to span counts as
ROUNDED_UP = 0.35  # of a step; what is smaller is 0
PARAMETERS = 8  # bits, of a band's code


class Layer(NamedTuple):
    bytes: float
    error: Tensor  # 3 T H W, what is left of an error in brightness, Cb and Cr


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original", type=Path, metavar="ORIGINAL")
    parser.add_argument("decoded", type=Path, nargs="+", metavar="DECODED")
    parser.add_argument("--cell", type=int, default=32, help="side of the layer's cells, in pixels (32)")
    parser.add_argument("--spans", type=int, default=7, help="of frames, in which the layer stands still (7)")
    parser.add_argument("--steps", type=float, nargs="+", default=[6.0, 10.0, 16.0], help="of the layer's quantiser")
    parser.add_argument("--brightness", action="store_true", help="code it too")
    arguments = parser.parse_args(argv)
    try:
        print(as_markdown([study(arguments)]))
    except GnvcError as error:
        print(f"study_colours: {error}", file=sys.stderr)
        return 1
    return 0


def study(arguments: argparse.Namespace) -> Table:
    cell, original = arguments.cell, frames_of(arguments.original)
    rows = []
    for file in arguments.decoded:
        decoded = frames_of(file)
        require(decoded.shape == original.shape, f"{file} and {arguments.original} differ in size or length", GnvcError)
        error = torch.einsum("oc,cthw->othw", OPPONENTS, original - decoded)
        layers = {"none": Layer(0, error)}
        layers |= {
            f"{one:g}": layer_of(error, cell, arguments.spans, one, arguments.brightness) for one in arguments.steps
        }
        for step, (size, left) in layers.items():
            figures = psnr(left), colour_error(left, 8), colour_error(left, cell)
            rows.append((file.name, step, f"{size:.0f}", *(f"{one:.2f}" for one in figures)))
    columns = ("film", "step", "bytes of the layer", "PSNR, dB", "colours of 8×8", f"of {cell}×{cell}")
    return Table("Colours, in levels", columns, tuple(rows))


def frames_of(file: Path) -> Tensor:
    """3 T H W, 0 to 255."""
    with open_video(file) as video:
        return torch.from_numpy(np.stack([picture.rgb for picture in video.pictures()])).permute(3, 0, 1, 2).float()


def psnr(error: Tensor) -> float:
    of_channels = torch.einsum("co,othw->cthw", OPPONENTS.inverse(), error)
    return 10 * math.log10(255**2 / of_channels.square().mean().item())


def colour_error(error: Tensor, side: int) -> float:
    """The root of the mean square of Cb and Cr, in means of squares."""
    return avg_pool3d(error[1:], (1, side, side)).square().mean().sqrt().item()


def layer_of(error: Tensor, cell: int, spans: int, step: float, brightness: bool = False) -> Layer:
    """A layer on an error 3 T H W, of whole cells."""
    frames, height, width = error.shape[1:]
    fits = height % cell == width % cell == 0 and 1 <= spans <= frames
    require(fits, f"{frames}×{height}×{width} are no cells of {cell} in {spans} spans", GnvcError)
    coded = error if brightness else error[1:]
    groups = torch.arange(frames).tensor_split(spans)
    means = torch.stack([avg_pool3d(coded[:, group], (len(group), cell, cell))[:, 0] for group in groups], 1)
    matrices = [dct(count).float() for count in means.shape[1:]]
    waves = torch.einsum("sa,yb,xc,oabc->osyx", *matrices, means)
    symbols = waves.sign() * (waves.abs() / step + ROUNDED_UP).floor()
    drawn = torch.einsum("sa,yb,xc,osyx->oabc", *matrices, symbols * step)
    drawn = interpolate(drawn.transpose(0, 1), scale_factor=cell, mode="bilinear").transpose(0, 1)
    drawn = torch.cat([drawn[:, n : n + 1].expand(-1, len(group), -1, -1) for n, group in enumerate(groups)], 1)
    left = error.clone()
    left[-len(drawn) :] -= drawn
    band = _bands(symbols.shape[1:])
    return Layer(sum(code_length(symbols[:, band == one]) for one in band.unique()) / 8, left)


def _bands(shape: Sequence[int]) -> Tensor:
    time, rows, columns = (torch.arange(float(count)) for count in shape)
    frequency = ((time * FASTEST / shape[0])[:, None, None] ** 2 + rows[:, None] ** 2 + columns**2).sqrt()
    return torch.bucketize(frequency, torch.tensor(BANDS), right=True)


def code_length(symbols: Tensor) -> float:
    """Bits of integers: whether each is 0, else its sign and a geometric magnitude; and the two parameters."""
    sizes = symbols[symbols != 0].abs()
    bits = symbols.numel() * binary_entropy(1 - sizes.numel() / symbols.numel()) + PARAMETERS
    return bits + (sizes.numel() + sizes.sum().item() * binary_entropy(1 / sizes.mean().item()) if len(sizes) else 0)


def binary_entropy(share: float) -> float:
    return -sum(p * math.log2(p) for p in (share, 1 - share) if p > 0)


if __name__ == "__main__":
    sys.exit(main())
