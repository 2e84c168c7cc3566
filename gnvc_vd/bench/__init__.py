"""`gnvc-vd bench`: each stage against the stock way of doing the same, in the same run, as ratios.

A stage is a module STAGE_speed.py with a `measure()` that returns a Report. The output is a table for people, then one
JSON line for programs.
"""

import importlib
import json
from collections.abc import Iterator, Sequence

import gnvc_vd.common.compat  # noqa: F401 - before any stage imports compressai
from gnvc_vd.bench.harness import Report
from gnvc_vd.conventions import UsageError

STAGES = ("video", "backbone", "entropy", "refine", "codec", "gvc", "training")


def run(stages: Sequence[str], table: bool = True) -> Iterator[str]:
    """Lines to print, as they are ready."""
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise UsageError(f"there is no stage {unknown[0]!r}; the stages are {', '.join(STAGES)}")
    figures: dict[str, float] = {}
    for stage in stages or STAGES:
        report: Report = importlib.import_module(f"gnvc_vd.bench.{stage}_speed").measure()
        figures |= report.figures
        if table:
            yield from report.table()
    yield json.dumps(figures)
