"""GVC's own work, beside the network's: codebooks, and decoding against the size of the codebook.

The search for atoms in one codebook of D = 99,840 (832×480) and K = 16384 against what the published code does: draw
each by `torch.randn`, one after another, and take its product with the residual. On the fastest device that is there.
Decoding is of one GOP with nano's transformer, K = 1024 and 65536 in turn, from a unit to latents.
"""

from collections.abc import Callable

import torch

from gnvc_vd.bench.harness import PrintLine, Report, best_of, device_name, print_nothing, square_info, waves
from gnvc_vd.codecs.load import load_gvc
from gnvc_vd.zeroshot.codebook import Choice, Codebook
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.encoding import GvcEncodeOptions
from gnvc_vd.zeroshot.parameters import Parameters

PLACES, SIZE, ATOMS = 99_840, 16_384, 64
SIDE, FRAMES = 160, 5
SIZES = (1024, 65_536)
ROUNDS = 6
SEED = ((0, 1), (2, 3, 4))  # a key and a stream, any


def measure(print_line: PrintLine = print_nothing, places: int = PLACES, size: int = SIZE, side: int = SIDE) -> Report:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    report = Report(f"gvc: D = {places}, K = {size}, M = {ATOMS}, {device_name(device)}", print_line)
    residual = torch.randn(places, device=device)
    (mine,) = best_of(ROUNDS, lambda: _search(residual, size), device=device)
    (drawn,) = best_of(1, lambda: _drawn_search(residual, size), device=device)
    report.add(
        "atom search",
        f"{1000 * mine:.1f} ms; atoms drawn one by one {drawn:.1f} s: {drawn / mine:.0f} × faster",
        gvc_search_ms=1000 * mine,
        gvc_search_ratio=drawn / mine,
    )
    chosen = _search(residual, size)
    (again,) = best_of(ROUNDS, lambda: Codebook(size, places, *SEED, device).assemble(chosen), device=device)
    report.add("atoms assembled", f"{1000 * again:.1f} ms", gvc_assemble_ms=1000 * again)
    codec = load_gvc("nano")
    smallest, largest = best_of(ROUNDS, *(_decode_latents(codec, one, side) for one in SIZES))
    report.add(
        "decoding",
        f"{smallest:.2f} s with K = {SIZES[0]}, {largest:.2f} s with K = {SIZES[1]}: {largest / smallest:.3f} ×",
        gvc_decode_s=smallest,
        gvc_decode_ratio=largest / smallest,
    )
    return report


def _search(residual: torch.Tensor, size: int) -> Choice:
    return Codebook(size, len(residual), *SEED, residual.device).select(residual, ATOMS)


def _drawn_search(residual: torch.Tensor, size: int) -> torch.Tensor:
    generator = torch.Generator(residual.device).manual_seed(0)
    products = torch.empty(size, device=residual.device)
    for atom in range(size):
        products[atom] = torch.randn(len(residual), generator=generator, device=residual.device) @ residual
    return products.abs().topk(ATOMS).indices


def _decode_latents(codec: Gvc, size: int, side: int) -> Callable[[], object]:
    """From a unit to latents."""
    encoding = GvcEncodeOptions(ATOMS, gop=FRAMES, scenecut=False, parameters=Parameters(codebook=size))
    (unit,) = codec.encode_units(iter(waves(side, FRAMES)), encoding)
    header = codec.header(square_info(side), encoding)
    return lambda: codec.decoder(header).replay(unit)
