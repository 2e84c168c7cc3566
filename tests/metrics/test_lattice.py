"""The lattice of planted patterns, against closed forms."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from gnvc_vd.conventions import Frame
from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.lattice import STRIDES, BlockLattice, Lattice, block_energy, lattice, lattices
from tests.metrics.clips import pairs

SIDE = math.lcm(3, 4, 5, 7, 8)  # whole blocks of every stride, so that a pattern of another stride leaves nothing


def wave(stride: int, amplitude: float, side: int = SIDE) -> NDArray[np.float64]:
    """A cosine along rows, of this period: its root mean square is a / √2, or a where the period is two pixels."""
    return np.broadcast_to(amplitude * np.cos(2 * np.pi * np.arange(side) / stride), (side, side))


def of_clips(reference: list[Frame], test: list[Frame]) -> dict[int, float]:
    found = {}
    for stride in STRIDES:
        measure = Lattice(stride)
        for pair in pairs(reference, test):
            measure.add(pair)
        found[stride] = measure.value()
    return found


def grey(levels: NDArray[np.float64]) -> Frame:
    return np.repeat(np.rint(128 + levels).astype(np.uint8)[..., None], 3, 2)


@pytest.mark.parametrize(
    ("stride", "seen"), [(2, (3, 3, 3)), (4, (0, 3, 3)), (8, (0, 0, 3)), (3, (-1, -1, -1)), (5, (-1, -1, -1))]
)
def test_a_planted_pattern_reads_its_root_mean_square_at_its_stride_and_multiples(
    stride: int, seen: tuple[float, float, float]
) -> None:
    """At a stride that no codec has it counts as chance: a third of it is subtracted everywhere."""
    pattern = wave(stride, 3.0 if stride == 2 else 3 * math.sqrt(2))
    assert [lattice(pattern, one) for one in STRIDES] == pytest.approx(seen, abs=1e-9)


def test_white_noise_reads_about_nothing_though_its_error_is_large() -> None:
    noise = np.random.default_rng(0).normal(0, 10, (512, 512))
    assert [lattice(noise, stride) for stride in STRIDES] == pytest.approx([0, 0, 0], abs=0.1)
    assert lattice(noise + wave(8, 2, 512), 8) == pytest.approx(math.sqrt(2), abs=0.15)  # with less of chance in it


def test_a_shift_of_brightness_is_no_pattern() -> None:
    assert [lattice(np.full((64, 72), 7.0), stride) for stride in STRIDES] == pytest.approx([0, 0, 0], abs=1e-9)


def test_what_stands_still_counts_and_what_changes_its_sign_does_not() -> None:
    """A pattern of ±4 levels on every frame; on every other frame (half of it stays); of alternating sign."""
    still, pattern = grey(np.zeros((70, 100))), np.indices((70, 100)).sum(0) % 2 * 8.0 - 4
    reference, there, away = [still] * 4, grey(pattern), grey(-pattern)
    assert of_clips(reference, [there] * 4)[4] == pytest.approx(4, abs=0.01)
    assert of_clips(reference, [there, still] * 2)[4] == pytest.approx(2, abs=0.01)
    assert of_clips(reference, [there, away] * 2)[4] == pytest.approx(0, abs=1e-9)
    assert of_clips([there] * 4, [there] * 4)[8] == 0


def test_only_luma_counts_and_clips_at_once_are_clips_frame_by_frame() -> None:
    """A pattern of ±5 in blue alone is one of 5 · 0.0722 in luma; rows that fill no block are cut off."""
    rng = np.random.default_rng(1)
    reference = rng.integers(20, 236, (3, 45, 51, 3)).astype(np.uint8)
    test = reference.copy()
    test[..., 2] += (np.indices((45, 51)).sum(0) % 2 * 10 - 5).astype(np.uint8)  # wraps round below: −5 is added
    found = of_clips(list(reference), list(test))
    assert found[2] == pytest.approx(5 * 0.0722, abs=0.03)
    assert lattices(reference, test) == pytest.approx({f"lattice_{stride}": one for stride, one in found.items()})


def test_a_lattice_of_blocks_is_seen_wherever_it_moves() -> None:
    """A cosine of period 16 that moves with a pan, in noise; of periods 8 and 17; noise alone."""
    side, rng = 16 * 17, np.random.default_rng(2)
    energies = [block_energy(np.roll(wave(16, 4, side), 3 * t, 1) + rng.normal(0, 8, (side, side))) for t in range(8)]
    assert np.mean(energies) == pytest.approx(8, rel=0.1)
    assert block_energy(wave(8, 4, side)) == pytest.approx(8, rel=0.02)  # what has half the period repeats, too
    assert abs(np.mean([block_energy(rng.normal(0, 8, (side, side))) for _ in range(8)])) < 0.1
    assert block_energy(wave(17, 4, side)) < 0  # chance, where no block is
    measure, still = BlockLattice(), grey(np.zeros((side, side)))
    for pair in pairs([still] * 4, [grey(np.roll(wave(16, 20, side), 4 * t, 1)) for t in range(4)]):
        measure.add(pair)  # its mean over frames is zero
    assert measure.value() == pytest.approx(20 / math.sqrt(2), rel=0.02)


def test_a_clip_without_blocks_has_a_lattice_of_zero() -> None:
    measure, rng = BlockLattice(), np.random.default_rng(3)
    other = wave(14, 9, 128) + rng.normal(0, 3, (128, 128))
    for pair in pairs([grey(np.zeros((128, 128)))], [grey(other)]):
        measure.add(pair)
    assert measure.value() == 0


def test_too_small_or_nothing_is_refused() -> None:
    small = grey(np.zeros((31, 40)))
    with pytest.raises(UnavailableError, match="at least 32 pixels each way, not 40×31"):
        of_clips([small], [small])
    with pytest.raises(UnavailableError, match="at least one frame"):
        Lattice(4).value()
    with pytest.raises(UnavailableError, match="at least one frame"):
        BlockLattice().value()
    with pytest.raises(UnavailableError, match="at least 64 pixels each way, not 40×63"):
        for pair in pairs([grey(np.zeros((63, 40)))], [grey(np.zeros((63, 40)))]):
            BlockLattice().add(pair)
