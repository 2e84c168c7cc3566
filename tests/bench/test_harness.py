"""The bench's own promises: what it measures is what it says, and its last line is JSON."""

import json
import time
from functools import partial

import pytest

from gnvc_vd.bench import STAGES, run
from gnvc_vd.bench.harness import Report, best_of, cost
from tests.conftest import Cli


def hold_memory(mebibytes: int) -> None:
    held = bytearray(mebibytes << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])


@pytest.mark.slow
def test_cost_sees_time_and_peak_memory_of_the_work_alone() -> None:
    mine = bytearray(200 << 20)  # not the work's
    small, large = cost(hold_memory, 10), cost(hold_memory, 110)
    assert len(mine) and 95 << 20 < large.peak_bytes - small.peak_bytes < 105 << 20
    assert cost(time.sleep, 0.3).seconds >= 0.3


def test_best_of_takes_the_quickest_round_of_each_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, rounds = [0.0], iter([5.0, 7.0, 3.0, 8.0])
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    done = []

    def work(name: str) -> None:
        done.append(name)
        clock[0] += next(rounds)

    assert best_of(2, partial(work, "short"), partial(work, "long")) == [3.0, 7.0]
    assert done == ["short", "long"] * 2


def test_a_report_is_aligned_rows_and_figures_of_four_digits() -> None:
    report = Report("title")
    report.add("a", "text", first=1.23456, second=123456.0)
    assert report.time_once("longer", "third", lambda: 7) == 7
    assert report.figures == {"first": 1.235, "second": 123500.0, "third": report.figures["third"]}
    title, first, second, blank = report.table()
    assert (title, first, blank) == ("title", "  a       text", "") and second.endswith(" s")


def test_stages_run_by_name_and_the_last_line_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, stage in enumerate(STAGES):
        report = Report(f"the {stage}")
        report.add("row", "text", **{stage: number})
        monkeypatch.setattr(f"gnvc_vd.bench.{stage}_speed.measure", lambda report=report: report)
    assert json.loads(list(run([], table=False))[-1]) == {stage: number for number, stage in enumerate(STAGES)}
    assert list(run(["gvc"])) == ["the gvc", "  row  text", "", '{"gvc": 5.0}']


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
