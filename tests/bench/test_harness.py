"""The bench's own promises: what it measures is what it says, and its last line is JSON."""

import json
import time
from functools import partial

import pytest

from gnvc_vd.bench import STAGES, run
from gnvc_vd.bench.harness import NAME_WIDTH, PrintLine, Report, best_of, cost
from gnvc_vd.conventions import UsageError
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


def test_a_report_says_rows_as_they_end_and_keeps_figures_of_four_digits() -> None:
    said: list[str] = []
    report = Report("title", said.append)
    report.add("a", "text", first=1.23456, second=123456.0)
    assert said == ["title", f"  a{' ' * (NAME_WIDTH - 1)}  text"]
    report.add("longer", "more", third=7)
    assert said[2] == f"  longer{' ' * (NAME_WIDTH - 6)}  more"
    assert report.figures == {"first": 1.235, "second": 123500.0, "third": 7}


def test_stages_run_by_name_and_say_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(
        stage: str, number: int, print_line: PrintLine, sizes: tuple[tuple[int, int], ...] = (), device: str = ""
    ) -> Report:
        report = Report(f"the {stage}", print_line)
        report.add("row", device or "text", **{stage: sizes[0][0] if sizes else number})
        return report

    for number, stage in enumerate(STAGES):
        monkeypatch.setattr(f"gnvc_vd.bench.{stage}_speed.measure", partial(measure, stage, number))
    assert run([]) == {stage: number for number, stage in enumerate(STAGES)}
    said: list[str] = []
    assert run(["gvc"], said.append) == {"gvc": 5}
    assert said == ["the gvc", f"  row{' ' * (NAME_WIDTH - 3)}  text", ""]
    assert run(["codec", "gvc"], sizes=((64, 32),)) == {"codec": 64, "gvc": 5}
    said.clear()
    assert run(["video", "refine"], said.append, device="cpu") == {"video": 0, "refine": 3}
    assert [line.split()[-1] for line in said if line.startswith("  row")] == ["text", "cpu"]
    with pytest.raises(UsageError, match="--sizes is an option of the stages entropy, refine, codec"):
        run(["gvc"], sizes=((64, 32),))
    with pytest.raises(UsageError, match="--device is an option of the stages entropy, refine"):
        run(["video"], device="cpu")


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
