"""The bench's own promises: what it measures is what it says, and its last line is JSON."""

import json
import time

import pytest

from gnvc_vd.bench import harness as measuring
from tests.conftest import Cli


def hold_memory(mebibytes: int) -> None:
    held = bytearray(mebibytes << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])


@pytest.mark.slow
def test_cost_sees_time_and_peak_memory_of_the_work_alone() -> None:
    mine = bytearray(200 << 20)  # not the work's
    small, large = measuring.cost(hold_memory, 10), measuring.cost(hold_memory, 110)
    assert len(mine) and 95 << 20 < large.peak_bytes - small.peak_bytes < 105 << 20
    assert measuring.cost(time.sleep, 0.3).seconds >= 0.3


@pytest.mark.slow
def test_best_of_takes_the_cheapest_round_of_each() -> None:
    short, long = measuring.best_of(2, (time.sleep, (0.01,)), (time.sleep, (0.2,)))
    assert short.seconds < 0.2 <= long.seconds


@pytest.mark.slow
def test_reading_and_writing_video_takes_constant_memory(cli: Cli) -> None:
    done = cli("bench", "video", "--json")
    figures = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0
    assert set(figures) == {
        "video_reader_over_exact",
        "video_reader_over_default",
        "video_peak_mib",
        "video_peak_ratio",
    }
    assert figures["video_peak_ratio"] < 1.25  # 200 frames against 50
