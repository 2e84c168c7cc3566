"""`gnvc-vd bench`: each stage against the stock way of doing the same, in the same run, as ratios.

A stage is a module STAGE_speed.py with a `measure(print_line)` that returns a Report. The output is a table, printed row
by row as each is measured, then one JSON line.
"""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import gnvc_vd.common.compat  # noqa: F401 - before any stage imports compressai
from gnvc_vd.bench.harness import Report, PrintLine, print_nothing
from gnvc_vd.conventions import UsageError

if TYPE_CHECKING:
    from gnvc_vd.bench.codec_speed import Material

STAGES = ("video", "backbone", "entropy", "refine", "codec", "gvc", "training")


def run(
    stages: Sequence[str], print_line: PrintLine = print_nothing, material: "Material | None" = None
) -> dict[str, float]:
    """Measure the named stages, or all, and return their figures; `print_line` gets each line of the tables.

    Args:
        material: what the codec stage encodes and decodes.
    """
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise UsageError(f"there is no stage {unknown[0]!r}; the stages are {', '.join(STAGES)}")
    if material is not None and "codec" not in (stages or STAGES):
        raise UsageError("--sizes, --frames and --steps are options of the codec stage")
    figures: dict[str, float] = {}
    for stage in stages or STAGES:
        more = (material,) if stage == "codec" and material is not None else ()
        report: Report = importlib.import_module(f"gnvc_vd.bench.{stage}_speed").measure(print_line, *more)
        print_line("")
        figures |= report.figures
    return figures
