"""The entropy stage against compressai's own hyperprior of an equal size, in the same process and run.

Both code the same number of symbols at the same places: y at a sixteenth of the picture. Ours is one predicted latent's
entropy model, exact; theirs is MeanScaleHyperprior's `compress` and `decompress` of y alone, after its analysis. The
coder alone is our guarded rANS against compressai's, on symbols drawn from the tables, from arrays to arrays.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from compressai.ans import BufferedRansEncoder, RansDecoder
from compressai.models import MeanScaleHyperprior

from gnvc_vd.bench.harness import Report
from gnvc_vd.conventions import QUALITIES
from gnvc_vd.entropy.cdf_tables import LEVELS, normal_tables, tables_of
from gnvc_vd.entropy.coder import Decoder, Encoder
from gnvc_vd.learned.bottleneck.hyperprior import EntropyModel, Reading, Writing
from gnvc_vd.presets import REAL_BOTTLENECK

HEIGHT, WIDTH = 30, 52  # of y at 832×480
ROUNDS = 5
CODER_SYMBOLS = 1_000_000


def measure() -> Report:
    report = Report(
        f"entropy: {REAL_BOTTLENECK.symbols} channels of {HEIGHT}×{WIDTH}, {torch.get_num_threads()} threads"
    )
    torch.manual_seed(0)
    with torch.inference_mode():
        ours, theirs = _stage(), _their_stage()
    symbols = REAL_BOTTLENECK.symbols * HEIGHT * WIDTH
    for verb, mine, stock in zip(("encode", "decode"), ours, theirs, strict=True):
        report.add(
            f"whole stage, {verb}",
            f"{symbols / mine / 1e6:.2f} M symbols/s; compressai {symbols / stock / 1e6:.2f} M: "
            f"{stock / mine:.2f} × faster",
            **{f"entropy_{verb}_ratio": stock / mine, f"entropy_{verb}_symbols_per_second": symbols / mine},
        )
    for verb, mine, stock in zip(("encode", "decode"), *_coders(), strict=True):
        report.add(
            f"coder alone, {verb}",
            f"{CODER_SYMBOLS / mine / 1e6:.2f} M symbols/s; compressai {CODER_SYMBOLS / stock / 1e6:.2f} M: "
            f"{stock / mine:.2f} × faster",
            **{f"entropy_coder_{verb}_ratio": stock / mine},
        )
    return report


def _stage() -> tuple[float, float]:
    model = EntropyModel(REAL_BOTTLENECK, REAL_BOTTLENECK.state).eval()
    model.freeze(torch.arange(QUALITIES))
    tables = tables_of(normal_tables())
    y = torch.randn(1, REAL_BOTTLENECK.symbols, HEIGHT, WIDTH)
    state = torch.randint(-100, 100, (1, REAL_BOTTLENECK.state, HEIGHT, WIDTH))
    quality = torch.tensor([20])
    payload = b""

    def encode() -> None:
        nonlocal payload
        encoder = Encoder()
        model.compress(y, state, quality, [Writing(encoder, tables)])
        payload = encoder.finish()

    def decode() -> None:
        decoder = Decoder(payload)
        model.decompress((HEIGHT, WIDTH), state, quality, [Reading(decoder, tables)])
        decoder.finish()

    return _median(encode), _median(decode)


def _their_stage() -> tuple[float, float]:
    """MeanScaleHyperprior with our channels: its `compress` from y on, its `decompress` up to y."""
    model = MeanScaleHyperprior(REAL_BOTTLENECK.prior, REAL_BOTTLENECK.symbols).eval()
    model.update()
    y = torch.randn(1, REAL_BOTTLENECK.symbols, 32, 52)[:, :, :HEIGHT]
    hyper_size = (-(-HEIGHT // 4), -(-WIDTH // 4))
    strings: list[list[bytes]] = []

    def parameters(z_hat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scales, means = model.h_s(z_hat).chunk(2, 1)
        return model.gaussian_conditional.build_indexes(scales[:, :, :HEIGHT]), means[:, :, :HEIGHT]

    def encode() -> None:
        nonlocal strings
        z_strings = model.entropy_bottleneck.compress(model.h_a(y))
        indexes, means = parameters(model.entropy_bottleneck.decompress(z_strings, hyper_size))
        strings = [model.gaussian_conditional.compress(y, indexes, means=means), z_strings]

    def decode() -> None:
        indexes, means = parameters(model.entropy_bottleneck.decompress(strings[1], hyper_size))
        model.gaussian_conditional.decompress(strings[0], indexes, means=means)

    return _median(encode), _median(decode)


def _coders() -> tuple[tuple[float, float], tuple[float, float]]:
    tables = tables_of(normal_tables())
    rng = np.random.default_rng(0)
    indexes = rng.integers(0, LEVELS, CODER_SYMBOLS)
    symbols = np.rint(rng.normal(0, 0.11 * np.exp(0.101 * indexes))).astype(np.int64)
    symbols = np.clip(symbols, -tables.reach[indexes], tables.reach[indexes])
    payload = stock_payload = b""

    def encode() -> None:
        nonlocal payload
        encoder = Encoder()
        encoder.put(symbols, indexes, tables)
        payload = encoder.finish()

    def decode() -> None:
        Decoder(payload).get(indexes, tables)

    def stock_encode() -> None:
        nonlocal stock_payload
        encoder = BufferedRansEncoder()
        moved = symbols + tables.reach[indexes] + 1
        encoder.encode_with_indexes(moved.tolist(), indexes.tolist(), tables.cumulative, tables.sizes, tables.offsets)
        stock_payload = encoder.flush()

    def stock_decode() -> None:
        decoder = RansDecoder()
        decoder.set_stream(stock_payload)
        found = decoder.decode_stream(indexes.tolist(), tables.cumulative, tables.sizes, tables.offsets)
        np.array(found, dtype=np.int64)

    return (_median(encode), _median(decode)), (_median(stock_encode), _median(stock_decode))


def _median(work: Callable[[], None]) -> float:
    """After one round that does not count."""
    work()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
