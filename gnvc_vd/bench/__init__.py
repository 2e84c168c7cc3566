"""`gnvc-vd bench`: each stage against the stock way of doing the same, in the same run, as ratios.

A stage is a module STAGE_speed.py with a `measure(print_line)` that returns a Report. The output is a table, printed
row by row as each is measured, then one JSON line.
"""

import importlib
from collections.abc import Sequence

import gnvc_vd.common.compat  # noqa: F401 - before any stage imports compressai
from gnvc_vd.bench.harness import PrintLine, Report, print_nothing
from gnvc_vd.common.strict import require

STAGES = ("video", "backbone", "entropy", "refine", "codec", "gvc", "training")
# Of which stages.
OPTIONS = {"sizes": ("entropy", "refine", "codec"), "device": ("entropy", "refine"), "compile": ("refine", "codec")}


def run(stages: Sequence[str], print_line: PrintLine = print_nothing, **options: object) -> dict[str, float]:
    """Measure the named stages, or all, and return their figures; `print_line` gets each line of the tables.

    Args:
        options: `sizes` of the video, a `device` and `compile`, for the stages that take them; else their defaults.
    """
    for stage in stages:
        require(stage in STAGES, f"there is no stage {stage!r}; the stages are {', '.join(STAGES)}")
    given = {name: value for name, value in options.items() if value}
    for name in given:
        takers = OPTIONS[name]
        require(bool({*takers} & {*(stages or STAGES)}), f"--{name} is an option of the stages {', '.join(takers)}")
    figures: dict[str, float] = {}
    for stage in stages or STAGES:
        more = {name: value for name, value in given.items() if stage in OPTIONS[name]}
        report: Report = importlib.import_module(f"gnvc_vd.bench.{stage}_speed").measure(print_line, **more)
        print_line("")
        figures |= report.figures
    return figures
