"""How long GVC takes to number a set of atoms, and to find it by its number: python -m lab.set_numbers"""

import argparse
from random import Random

from gnvc_vd.bench.harness import best_of
from gnvc_vd.zeroshot.combinadic import bits, rank, unrank

SETS = ((16_384, 64), (16_384, 256), (65_536, 256))
DRAWN, ROUNDS = 50, 6


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for size, count in SETS:
        there, back = microseconds(size, count)
        print(f"{count} of {size} atoms, {bits(size, count)} bits: rank {there:.0f} µs, unrank {back:.0f} µs")


def microseconds(size: int, count: int) -> list[float]:
    """Of a set, the mean of some."""
    random = Random(0)
    sets = [sorted(random.sample(range(size), count)) for _ in range(DRAWN)]
    numbers = [rank(one, size) for one in sets]
    took = best_of(
        ROUNDS, lambda: [rank(one, size) for one in sets], lambda: [unrank(one, size, count) for one in numbers]
    )
    return [1e6 * seconds / DRAWN for seconds in took]


if __name__ == "__main__":
    main()
