"""The entropy stage against compressai's own hyperprior of an equal size, in the same process and run.

Both code the same number of symbols at the same places: y at a sixteenth of the picture. Ours is one predicted latent's
entropy model, exact; theirs is MeanScaleHyperprior's `compress` and `decompress` of y alone, after its analysis. The
coder alone is our guarded rANS against compressai's, on symbols drawn from the tables, from arrays to arrays.

Then both latent codecs of Wan2.1 1.3B, 25 frames of latents to bytes and back, on any device. Weights and latents are
random, so files are larger than real ones and the coder has more to do. Its seconds are of a run under Python's
profiler; the others go to networks, integer arithmetic and what moves between devices.
"""

from collections.abc import Callable, Sequence
from cProfile import Profile
from functools import partial
from itertools import product
from typing import Any, get_args

import numpy as np
import torch
from compressai.ans import BufferedRansEncoder, RansDecoder
from compressai.models import MeanScaleHyperprior

from gnvc_vd.bench.harness import PrintLine, Report, best_of, device_name, print_nothing
from gnvc_vd.bitstream.gop import latent_size
from gnvc_vd.conventions import LATENT_CHANNELS, QUALITIES
from gnvc_vd.entropy.cdf_tables import LEVELS, normal_tables, tables_of
from gnvc_vd.entropy.coder import Decoder, Encoder
from gnvc_vd.learned.bottleneck.hyperprior import EntropyModel, freeze
from gnvc_vd.learned.bottleneck.kinds import bottleneck_of
from gnvc_vd.presets import REAL_CONTEXTUAL, BottleneckKind, Preset, preset

HEIGHT, WIDTH = 30, 52  # of y at 832×480
ROUNDS = 6
CODER_SYMBOLS = 1_000_000
LATENTS, QUALITY, SIZES = 7, 32, ((832, 480),)  # of whole latent codecs
CODER = {one.__code__ for one in (Encoder.put, Encoder.finish, Decoder.get, Decoder.finish)}

Coding = tuple[Callable[[], Any], Callable[[Any], object]]  # what encodes, and what decodes that


@torch.inference_mode()
def measure(
    print_line: PrintLine = print_nothing, sizes: Sequence[tuple[int, int]] = SIZES, device: str = ""
) -> Report:
    report = Report(f"entropy: {REAL_CONTEXTUAL.symbols} channels of {HEIGHT}×{WIDTH}, {device_name()}", print_line)
    torch.manual_seed(0)
    symbols = REAL_CONTEXTUAL.symbols * HEIGHT * WIDTH
    _add_rows(report, "whole stage", "entropy", symbols, _our_stage(), _their_stage())
    _add_rows(report, "coder alone", "entropy_coder", CODER_SYMBOLS, *_coders())
    add_codecs(report, preset("wan2.1-1.3b"), sizes, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return report


def add_codecs(report: Report, model: Preset, sizes: Sequence[tuple[int, int]], device: str) -> None:
    """Rows of whole latent codecs, in either direction."""
    for (width, height), kind in product(sizes, get_args(BottleneckKind)):
        columns, rows = latent_size(width, height)
        latents, levels = torch.randn(1, LATENT_CHANNELS, LATENTS, rows, columns, device=device), [QUALITY] * LATENTS
        codec = bottleneck_of(model.bottleneck(kind))
        codec.freeze()
        encode = partial(codec.to(device).eval().compress, latents, levels)
        sent = encode()[0][0]
        decode = partial(codec.decompress, [sent.data], [sent.symbol_hash], (rows, columns), levels)
        for verb, work in (("encode", encode), ("decode", lambda decode=decode: list(decode()))):
            (seconds,) = best_of(1 if device == "cpu" else ROUNDS, work, device=device)
            profile = Profile()
            profile.runcall(work)
            coder = sum(entry.totaltime for entry in profile.getstats() if entry.code in CODER)
            report.add(
                f"{width}×{height}, {kind}, {verb}",
                f"{seconds:.3f} s on {device_name(device)}, {coder:.3f} in the coder; {len(sent.data)} bytes",
                **{f"{kind}_{width}x{height}_{verb}_s": seconds, f"{kind}_{width}x{height}_{verb}_coder_s": coder},
            )


def _add_rows(report: Report, name: str, key: str, symbols: int, ours: Coding, theirs: Coding) -> None:
    encoding = best_of(ROUNDS, *(encode for encode, _ in (ours, theirs)))
    decoding = best_of(ROUNDS, *(partial(decode, encode()) for encode, decode in (ours, theirs)))
    for verb, (mine, stock) in (("encode", encoding), ("decode", decoding)):
        report.add(
            f"{name}, {verb}",
            f"{symbols / mine / 1e6:.2f} M symbols/s; compressai {symbols / stock / 1e6:.2f} M: "
            f"{stock / mine:.2f} × faster",
            **{f"{key}_{verb}_ratio": stock / mine, f"{key}_{verb}_symbols_per_second": symbols / mine},
        )


def _our_stage() -> Coding:
    model = EntropyModel(REAL_CONTEXTUAL, REAL_CONTEXTUAL.state).eval()
    freeze(model, torch.arange(QUALITIES))
    tables = tables_of(normal_tables())
    y = torch.randn(1, REAL_CONTEXTUAL.symbols, HEIGHT, WIDTH)
    state = torch.randint(-100, 100, (1, REAL_CONTEXTUAL.state, HEIGHT, WIDTH))
    quality = torch.tensor([20])

    def encode() -> bytes:
        encoder = Encoder(tables)
        model.code([encoder], (HEIGHT, WIDTH), state, quality, y)
        return encoder.finish()

    def decode(payload: bytes) -> None:
        decoder = Decoder(payload, tables)
        model.code([decoder], (HEIGHT, WIDTH), state, quality)
        decoder.finish()

    return encode, decode


def _their_stage() -> Coding:
    """MeanScaleHyperprior with our channels: its `compress` from y on, its `decompress` up to y."""
    model = MeanScaleHyperprior(REAL_CONTEXTUAL.prior, REAL_CONTEXTUAL.symbols).eval()
    model.update()
    y = torch.randn(1, REAL_CONTEXTUAL.symbols, 32, 52)[:, :, :HEIGHT]
    hyper_size = (-(-HEIGHT // 4), -(-WIDTH // 4))

    def parameters(z_strings: list[bytes]) -> tuple[torch.Tensor, torch.Tensor]:
        z_hat = model.entropy_bottleneck.decompress(z_strings, hyper_size)
        scales, means = model.h_s(z_hat).chunk(2, 1)
        return model.gaussian_conditional.build_indexes(scales[:, :, :HEIGHT]), means[:, :, :HEIGHT]

    def encode() -> list[list[bytes]]:
        z_strings = model.entropy_bottleneck.compress(model.h_a(y))
        indexes, means = parameters(z_strings)
        return [model.gaussian_conditional.compress(y, indexes, means=means), z_strings]

    def decode(strings: list[list[bytes]]) -> None:
        indexes, means = parameters(strings[1])
        model.gaussian_conditional.decompress(strings[0], indexes, means=means)

    return encode, decode


def _coders() -> tuple[Coding, Coding]:
    """Ours and compressai's."""
    tables = tables_of(normal_tables())
    cdfs = tables.cumulative, tables.sizes, tables.offsets
    rng = np.random.default_rng(0)
    indexes = rng.integers(0, LEVELS, CODER_SYMBOLS)
    symbols = np.rint(rng.normal(0, 0.11 * np.exp(0.101 * indexes))).astype(np.int64)
    symbols = np.clip(symbols, -tables.reach[indexes], tables.reach[indexes])

    def encode() -> bytes:
        encoder = Encoder(tables)
        encoder.put(symbols, indexes)
        return encoder.finish()

    def decode(payload: bytes) -> None:
        Decoder(payload, tables).get(indexes)

    def stock_encode() -> bytes:
        encoder = BufferedRansEncoder()
        moved = symbols + tables.reach[indexes] + 1
        encoder.encode_with_indexes(moved.tolist(), indexes.tolist(), *cdfs)
        flushed: bytes = encoder.flush()
        return flushed

    def stock_decode(payload: bytes) -> None:
        decoder = RansDecoder()
        decoder.set_stream(payload)
        np.array(decoder.decode_stream(indexes.tolist(), *cdfs), dtype=np.int64)

    return (encode, decode), (stock_encode, stock_decode)
