"""What a stream is made of: parameters, payload, tail residual, sketch; each also read from hostile bytes."""

from math import inf, lgamma, log
from random import Random

import numpy as np
import pytest
import torch

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.conventions import UsageError
from gnvc_vd.zeroshot import tail
from gnvc_vd.zeroshot.codebook import Choice
from gnvc_vd.zeroshot.parameters import Parameters
from gnvc_vd.zeroshot.payload import SKETCH_BYTES, Allotment, Content, PayloadParser, pack, symbol_hash
from gnvc_vd.zeroshot.sde import Schedule
from gnvc_vd.zeroshot.trajectory import drift, sketch
from tests.bitstream.streams import mutated


@pytest.mark.parametrize(
    "parameters",
    [
        Parameters(),
        Parameters("flf2v", 65536, Schedule(100, 31, 15.9375, 0.0625, True), False, True, "factorized", 65535, True),
        Parameters("i2v", 64, gaussian=True),
        Parameters("i2v", 1, Schedule(1, 0, 0.0625, 0.0)),
    ],
)
def test_parameters_round_trip(parameters: Parameters) -> None:
    assert len(parameters.pack()) == 7 and Parameters.parse(parameters.pack()) == parameters


def test_impossible_parameters_are_refused() -> None:
    good = Parameters().pack()
    for bad in (
        b"",
        good[:6],
        b"\xff" + good[1:],
        good[:2] + b"\xff\xff" + good[4:],
        bytes(7),
    ):
        with pytest.raises(BitstreamError):
            Parameters.parse(bad)
    for wrong in ({"codebook": 1000}, {"seed": 1 << 16}, {"schedule": Schedule(shift=3.01)}):
        with pytest.raises(UsageError):
            Parameters(**wrong)  # type: ignore[arg-type]


def content(counts: list[int], steps: int, size: int, **parts: object) -> Content:
    random = Random(1)

    def one(count: int) -> Choice:
        atoms = tuple(sorted(random.sample(range(size), count)))
        return Choice(atoms, tuple(random.choice([-1, 1]) for _ in range(count)))

    sets = tuple(tuple(one(count) for count in counts) for _ in range(steps))
    return Content(Allotment(5, 7, 2), sets, b"12345678", **parts)  # type: ignore[arg-type]


PARTS = [
    {},
    {"first": b"still"},
    {"last": b"", "residual": b"error"},
    {"caption": "a café", "first": b"1" * 300, "last": b"2", "residual": b""},
]


@pytest.mark.parametrize("parts", PARTS)
def test_payloads_round_trip(parts: dict[str, object]) -> None:
    counts = Allotment(5, 7, 2).counts(4, [0])
    assert counts == [0, 5, 7, 7]
    wanted = content(counts, 3, 64, **parts)
    found = PayloadParser(pack(wanted, 64)).content(counts, 3, 64)
    assert found == wanted and symbol_hash(found) == symbol_hash(wanted)


def test_damaged_payloads_are_refused_or_another_content() -> None:
    counts = [5, 5, 7, 7]
    wanted = content(counts, 3, 64, caption="x", first=b"still", residual=b"e")
    good, random = pack(wanted, 64), Random(2)
    refused = 0
    for _ in range(300):
        data = mutated(good, random)
        try:
            parsed = PayloadParser(data)
            found = parsed.content(parsed.allotment.counts(4), 3, 64)
            assert data == good or found != wanted or symbol_hash(found) == symbol_hash(wanted)
        except BitstreamError:
            refused += 1
    assert refused > 50


def test_more_atoms_than_the_codebook_has_are_refused() -> None:
    data = pack(content([5] * 4, 3, 64), 64)
    with pytest.raises(BitstreamError, match="out of 4"):
        PayloadParser(data).content([5] * 4, 3, 4)


@pytest.mark.parametrize("code", [0, 20, 63, tail.PUBLISHED])
def test_the_tails_residual_comes_back_within_half_a_step(code: int) -> None:
    generator = torch.Generator().manual_seed(0)
    residual = torch.randn(16, 6, 10, generator=generator) * torch.linspace(0.01, 3, 16)[:, None, None]
    data = tail.encode(residual, code)
    _, found = tail.decode(data, 6, 10)
    bound = (
        residual.abs().amax(dim=(1, 2)) / 255 if code == tail.PUBLISHED else torch.full((16,), tail.step_of(code) / 2)
    )
    assert ((found - residual).abs().amax(dim=(1, 2)) <= 1.01 * bound + 1e-6).all()


def test_the_tails_coder_beats_the_published_form_at_its_error() -> None:
    """By one step for all channels; where all are equally wide, the two cost the same."""
    widths = torch.linspace(0.05, 1, 16)[:, None, None]
    residual = torch.randn(16, 45, 80, generator=torch.Generator().manual_seed(3)) * widths
    published = tail.encode(residual, tail.PUBLISHED)
    error = float((tail.decode(published, 45, 80)[1] - residual).square().mean())
    code = next(one for one in range(64) if tail.step_of(one) ** 2 / 12 <= error)
    ours = tail.encode(residual, code)
    assert float((tail.decode(ours, 45, 80)[1] - residual).square().mean()) <= error
    assert len(ours) < 0.97 * len(published)


def test_tables_are_whole_numbers_and_near_their_distributions() -> None:
    def binomial(k: np.ndarray, m: int) -> np.ndarray:
        logs = [lgamma(2 * m + 1) - lgamma(m + one + 1) - lgamma(m - one + 1) if one <= m else -inf for one in abs(k)]
        return np.exp(np.array(logs) - 2 * m * log(2))

    for level, frequencies in enumerate(tail.tables().frequencies):
        reach = (len(frequencies) - 3) // 2
        k = np.arange(-reach, reach + 1)
        assert frequencies.sum() == 1 << 16 and frequencies.min() >= 1
        assert np.array_equal(frequencies, frequencies[::-1])
        if level < len(tail.RATIOS):
            ratio = tail.RATIOS[level] / (tail.RATIOS[level] + 16)
            wanted = (1 - ratio) / (1 + ratio) * ratio ** np.abs(k)
        else:
            wanted = binomial(k, tail.THROWS[level - len(tail.RATIOS)])
        assert np.abs(frequencies[1:-1] / 65536 - wanted).max() < 0.03


def test_hostile_residuals_are_refused_or_read() -> None:
    random = Random(5)
    for code in (20, tail.PUBLISHED):
        good = tail.encode(torch.randn(16, 2, 4, generator=torch.Generator().manual_seed(4)), code)
        for _ in range(150):
            try:
                values, found = tail.decode(mutated(good, random), 2, 4)
                assert found.shape == (16, 2, 4) and torch.isfinite(found).all() and len(values) == 128
            except BitstreamError:
                pass
    with pytest.raises(BitstreamError):
        tail.decode(b"", 2, 4)


def test_a_sketch_tells_how_far_latents_are() -> None:
    generator = torch.Generator().manual_seed(6)
    latents = torch.randn(1, 16, 2, 6, 6, generator=generator)
    stated = sketch(latents)
    assert len(stated) == SKETCH_BYTES and drift(stated, latents) == 0
    found = []
    for _ in range(40):
        other = latents + 0.2 * torch.randn(latents.shape, generator=generator)
        found.append(drift(stated, other) ** 2)
    assert np.mean(found) == pytest.approx(0.04, rel=0.3)
    assert drift(stated, torch.full_like(latents, float("nan"))) > 0.1
