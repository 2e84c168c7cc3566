"""GVC's own work, beside the network's: codebooks, sets, decoding against the size of the codebook.

The search for atoms in one codebook of D = 99,840 (832×480) and K = 16384 against what the published code does: draw
each by `torch.randn`, one after another, and take its product with the residual. On the fastest device that is there.
Decoding is of one GOP with nano's transformer, K = 1024 and 65536 in turn, from a unit to latents.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import torch

from gnvc_vd.bench.harness import Report
from gnvc_vd.bench.latent_codec_stage import INFO
from gnvc_vd.bitstream import Header, Unit
from gnvc_vd.codecs.load import load_gvc
from gnvc_vd.zeroshot.codebook import Choice, Codebook
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.combinadic import bits, rank, unrank
from gnvc_vd.zeroshot.encoding import GvcEncoding
from gnvc_vd.zeroshot.parameters import Parameters

PLACES, SIZE, ATOMS = 99_840, 16_384, 64
SETS = ((16_384, 64), (16_384, 256), (65_536, 256))
SIDE, FRAMES = 160, 5
SIZES = (1024, 65_536)
ROUNDS = 5


def measure(places: int = PLACES, size: int = SIZE, side: int = SIDE) -> Report:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    what = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    report = Report(f"gvc: D = {places}, K = {size}, M = {ATOMS}, {what}")
    residual = torch.randn(places, device=device)
    mine = _median(lambda: _search(residual, size), device)
    drawn = _median(lambda: _drawn_search(residual, size), device, rounds=1)
    report.add(
        "atom search",
        f"{1000 * mine:.1f} ms; atoms drawn one by one {drawn:.1f} s: {drawn / mine:.0f} × faster",
        gvc_search_ms=1000 * mine,
        gvc_search_ratio=drawn / mine,
    )
    found = _search(residual, size)
    again = _median(lambda: Codebook(size, places, *NAMED, device).assemble(found), device)
    report.add("atoms assembled", f"{1000 * again:.1f} ms", gvc_assemble_ms=1000 * again)
    for total, count in SETS:
        there, back = _sets(total, count)
        report.add(
            f"{count} of {total} atoms",
            f"rank {there:.0f} µs, unrank {back:.0f} µs a set of {bits(total, count)} bits",
            **{f"gvc_rank_{total}_{count}_us": there, f"gvc_unrank_{total}_{count}_us": back},
        )
    times = _decode_times(side)
    smallest, largest = (times[one] for one in SIZES)
    report.add(
        "decoding",
        f"{smallest:.2f} s with K = {SIZES[0]}, {largest:.2f} s with K = {SIZES[1]}: {largest / smallest:.3f} ×",
        gvc_decode_s=smallest,
        gvc_decode_ratio=largest / smallest,
    )
    return report


NAMED = ((0, 1), (2, 3, 4))  # a key and a stream, any


def _search(residual: torch.Tensor, size: int) -> Choice:
    return Codebook(size, len(residual), *NAMED, residual.device).select(residual, ATOMS)


def _drawn_search(residual: torch.Tensor, size: int) -> torch.Tensor:
    generator = torch.Generator(residual.device).manual_seed(0)
    products = torch.empty(size, device=residual.device)
    for atom in range(size):
        products[atom] = torch.randn(len(residual), generator=generator, device=residual.device) @ residual
    return products.abs().topk(ATOMS).indices


def _sets(size: int, count: int) -> tuple[float, float]:
    """Microseconds to number a set and back, once the tables are there."""
    random = Random(0)
    sets = [sorted(random.sample(range(size), count)) for _ in range(50)]
    numbers = [rank(one, size) for one in sets]
    there = _median(lambda: [rank(one, size) for one in sets], "cpu")
    back = _median(lambda: [unrank(one, size, count) for one in numbers], "cpu")
    return 1e6 * there / len(sets), 1e6 * back / len(sets)


def _decode_times(side: int) -> dict[int, float]:
    """Seconds from a unit to latents, best of some rounds taken in turn."""
    codec = load_gvc("nano")
    works = {size: _coded(codec, size, side) for size in SIZES}
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(ROUNDS):
        for size, (header, unit) in works.items():
            start = time.perf_counter()
            codec.decoder(header).replay(unit)
            times[size].append(time.perf_counter() - start)
    return {size: min(took) for size, took in times.items()}


def _coded(codec: Gvc, size: int, side: int) -> tuple[Header, Unit]:
    encoding = GvcEncoding(ATOMS, gop=FRAMES, scenecut=False, parameters=Parameters(codebook=size))
    y, x = np.mgrid[:side, :side]
    frames = [np.stack([(x + y + 3 * t) % 256] * 3, axis=-1).astype(np.uint8) for t in range(FRAMES)]
    (unit,) = codec.encode_units(iter(frames), encoding)
    return codec.header(replace(INFO, width=side, height=side), encoding), unit


def _median(work: Callable[[], object], device: str, rounds: int = ROUNDS) -> float:
    took = []
    with torch.inference_mode():
        for number in range(rounds + (rounds > 1)):
            start = time.perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            if number or rounds == 1:
                took.append(time.perf_counter() - start)
    return statistics.median(took)
