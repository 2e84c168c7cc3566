"""The coder: every integer round trips, and nothing that is fed to it harms the process."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnvc_vd.entropy.cdf_tables import LEVELS, Integers, normal_tables, tables_of
from gnvc_vd.entropy.coder import ESCAPE_TABLES, LIMIT, STEP, DamagedPayloadError, Decoder, Encoder

TABLES = tables_of(normal_tables())


def coded(parts: list[tuple[Integers, Integers]]) -> bytes:
    encoder = Encoder(TABLES)
    for values, indexes in parts:
        encoder.put(values, indexes)
    return encoder.finish()


def decoded(payload: bytes, indexes: list[Integers]) -> list[Integers]:
    decoder = Decoder(payload, TABLES)
    out = [decoder.get(one) for one in indexes]
    decoder.finish()
    return out


def typical(count: int, seed: int = 0) -> tuple[Integers, Integers]:
    rng = np.random.default_rng(seed)
    indexes = rng.integers(0, LEVELS, count)
    scales = 0.11 * np.exp(0.101 * indexes)
    return np.rint(rng.normal(0, scales)).astype(np.int64), indexes


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(-LIMIT, LIMIT) | st.integers(-9, 9), st.integers(0, LEVELS - 1)), max_size=40),
        max_size=4,
    )
)
def test_every_integer_round_trips(parts: list[list[tuple[int, int]]]) -> None:
    arrays = [(np.array([v for v, _ in p], dtype=np.int64), np.array([i for _, i in p], dtype=np.int64)) for p in parts]
    found = decoded(coded(arrays), [indexes for _, indexes in arrays])
    assert all(np.array_equal(a, b) for a, (b, _) in zip(found, arrays, strict=True))


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17])
def test_short_streams_that_break_compressai_are_fine(count: int) -> None:
    values, indexes = typical(count)
    payload = coded([(values, indexes)])
    assert np.array_equal(decoded(payload, [indexes])[0], values) and len(payload) <= 8 + 4 + 2 * count


@pytest.mark.parametrize("value", [2**30, -(2**30), 2**40, LIMIT + 1])
def test_outliers_that_hang_compressai_are_held_at_the_limit(value: int) -> None:
    index = np.array([3])
    assert decoded(coded([(np.array([value]), index)]), [index])[0] == np.sign(value) * LIMIT


def test_a_long_stream_takes_what_its_tables_say_and_goes_through_several_steps() -> None:
    values, indexes = typical(2 * STEP + 1000)
    encoder = Encoder(TABLES)
    encoder.put(values, indexes)
    payload = encoder.finish()
    assert np.array_equal(decoded(payload, [indexes])[0], values)
    assert encoder.bits / 8 < len(payload) < encoder.bits / 8 * 1.0002 + 12


@pytest.mark.parametrize("kept", [0, 4, 0.5, 0.9])
def test_a_cut_stream_is_noticed(kept: float) -> None:
    values, indexes = typical(4000)
    payload = coded([(values, indexes)])
    cut = payload[: int(kept * len(payload)) // 4 * 4] if kept < 1 else payload[: int(kept)]
    with pytest.raises(DamagedPayloadError):
        decoded(cut, [indexes])


def test_bytes_left_over_and_odd_lengths_are_noticed() -> None:
    values, indexes = typical(500)
    payload = coded([(values, indexes)])
    for changed in (payload + bytes(8), payload + b"x", payload[:-1], b""):
        with pytest.raises(DamagedPayloadError):
            decoded(changed, [indexes])


@pytest.mark.parametrize("seed", range(30))
def test_random_bytes_for_many_symbols_end_in_a_sentence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    indexes = rng.integers(0, LEVELS, 3_000_000 if seed == 0 else 30_000)
    with pytest.raises(DamagedPayloadError):
        decoded(rng.bytes(64), [indexes])


def test_a_decoder_stops_before_it_reads_past_its_padding() -> None:
    """Uniform symbols cost 8 bits each: 64 bytes cannot pay for one step of them, let alone for a dozen."""
    decoder = Decoder(bytes(range(64)), ESCAPE_TABLES)
    with pytest.raises(DamagedPayloadError, match="ends before its symbols do"):
        decoder.get(np.full(12 * STEP, 8))
    assert decoder.bits == 8 * STEP
