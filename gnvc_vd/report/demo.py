"""`gnvc-vd demo`: both codecs on a clip that comes with the package, beside x265 and VVenC at the same rates.

    our points ──their rates──▶ levels of x265 and VVenC whose files come nearest ──their points──▶ table, plots, page

Everything is coded to files and decoded by other processes, as in every evaluation; called again, it goes on.
"""

import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

from tqdm import tqdm

from gnvc_vd.baselines.commands import SOURCE, Clip, run
from gnvc_vd.baselines.hybrid import HIGHEST, Hybrid
from gnvc_vd.conventions import GnvcError, bits_per_pixel
from gnvc_vd.evaluate.evaluation import CodecEntry, Evaluation, OwnCodec, ReportOptions
from gnvc_vd.evaluate.points import Point
from gnvc_vd.evaluate.run import evaluate
from gnvc_vd.evaluate.sequences import prepare
from gnvc_vd.evaluate.test_sets import CLIPS, read_manifest
from gnvc_vd.report.curves import apply_labels, labels_of, rows_of
from gnvc_vd.report.evaluation_report import write_report
from gnvc_vd.report.tables import Table, rate_table

MANIFEST, SEQUENCE, FRAMES, GOP = "small", "bunny", 50, 25
CROP = (256, 176)  # of its 320 × 180: what it takes goes by pixels, and MS-SSIM wants 161
METRICS = ("cvvdp", "vmaf", "ms_ssim", "psnr_rgb")  # ST-LPIPS takes longer than all of these
QUALITIES = (27, 37, 47, 57)  # at rates that x265 reaches too
ATOMS = 16  # GVC's one rate
HASTE = {"codebook": 256, "sde-steps": 12, "reuse": True}  # 12 steps, the model asked at every second
START = 32  # a hybrid codec's level above the rates of ours
MODES = ("t2v", "i2v", "flf2v")
RIVALS = {"x265": "medium", "vvenc": "faster"}  # presets: finding the levels of four rates takes a dozen trials of each


def demo(folder: Path, model: str | None, device: str) -> tuple[Table, Path]:
    """Rates and quality of every codec, and the path of the page."""
    ours = Evaluation("demo", str(folder), MANIFEST, _codecs(model), sequences=(SEQUENCE,), frames=FRAMES, gop=GOP)
    ours = replace(ours, crop=CROP, metrics=METRICS, device=device, at_once=min(2, os.cpu_count() or 1))
    longest_first = replace(ours, codecs=dict(reversed(ours.codecs.items())))  # so that no worker waits at the end
    rates = [point.bpp for point in _points(longest_first, device) if point.codec == "gnvc-vd"]
    rivals = {name: CodecEntry(hybrid=hybrid) for name, hybrid in _other_codecs(ours, rates).items()}
    reporting = ReportOptions(anchor="x265", rates=tuple(rates), published=("gnvc-vd", "gvc"))
    whole = replace(ours, codecs=ours.codecs | rivals, report=reporting)
    points = _points(whole, device)
    rows = apply_labels(rows_of(points), labels_of(points))
    return rate_table(rows, SEQUENCE, METRICS), write_report(whole, points, folder / "report")


def _codecs(model: str | None) -> dict[str, CodecEntry]:
    learned = OwnCodec(QUALITIES, model=model)
    codecs = {"gnvc-vd": learned, "gnvc-vd-unrefined": replace(learned, decode={"no-refine": True})}
    codecs |= {f"gvc-{mode}": OwnCodec((ATOMS,), "gvc", model, encode={"mode": mode, **HASTE}) for mode in MODES}
    return {name: CodecEntry(ours=codec) for name, codec in codecs.items()}


def _points(evaluation: Evaluation, device: str) -> Sequence[Point]:
    done = evaluate(evaluation, device)
    if done.points is None:
        raise GnvcError(f"some points could not be made: {'; '.join(done.failures)}")
    return done.points


def _other_codecs(evaluation: Evaluation, rates: Sequence[float]) -> dict[str, Hybrid]:
    """x265 and VVenC at the levels whose files come nearest to these rates."""
    (sequence,) = (one for one in read_manifest(MANIFEST).sequences if one.name == SEQUENCE)
    source = prepare(sequence, CLIPS, FRAMES, Path(evaluation.folder) / "sources", CROP)
    coders = [Hybrid(encoder, (0,), preset=preset) for encoder, preset in RIVALS.items()]
    with ThreadPoolExecutor(evaluation.at_once) as workers:
        levels = workers.map(lambda one: nearest_levels(one, source.clip, source.path, rates), coders)
        shown = tqdm(levels, total=len(coders), unit="codec", desc="matching rates", disable=None)
        return {coder.encoder: replace(coder, levels=own) for coder, own in zip(coders, shown, strict=True)}


def nearest_levels(coder: Hybrid, clip: Clip, source: Path, rates: Iterable[float]) -> tuple[int, ...]:
    """The level nearest to each rate in bits per pixel, the lowest rate first; a higher level makes a smaller file.

    Between two levels that enclose the rate, the next one tried is where log rate, were it linear, would meet it.
    """

    @cache
    def log_rate(level: int) -> float:
        return math.log(rate_at(coder, clip, source, level))

    levels = set()
    for wanted in map(math.log, rates):
        low, high = START, HIGHEST[coder.encoder]
        if log_rate(low) <= wanted:
            low, high = 0, START
        while high - low > 1 and log_rate(low) > wanted > log_rate(high):
            part = (log_rate(low) - wanted) / (log_rate(low) - log_rate(high))
            middle = min(max(low + round(part * (high - low)), low + 1), high - 1)
            low, high = (middle, high) if log_rate(middle) > wanted else (low, middle)
        levels.add(min((low, high), key=lambda level: abs(log_rate(level) - wanted)))
    return tuple(sorted(levels, reverse=True))


def rate_at(coder: Hybrid, clip: Clip, source: Path, level: int) -> float:
    commands = coder.commands(clip, level)
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        (work / SOURCE).symlink_to(source.absolute())
        run(commands.encode, work)
        return bits_per_pixel((work / commands.stream).stat().st_size, clip.width, clip.height, clip.frames)
