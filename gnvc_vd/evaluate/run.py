"""Rate–distortion points: encode → file → decode in a fresh process → metrics, for every codec, sequence and level.

    manifest ──▶ sources ──▶ jobs ──a share for each process──▶ points/CODEC/SEQUENCE/LEVEL.json ──▶ report

FOLDER/sources   the codecs' input                FOLDER/streams   their streams
FOLDER/points    a JSON file for each point       FOLDER/shown     decoded videos for the report's player

A point is finished when its file exists, and is made again only if its settings have changed.
"""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from gnvc_vd.backbone.sources import folder_of, repository_of
from gnvc_vd.baselines.commands import DECODED, SOURCE, CodingResult, Commands, code
from gnvc_vd.baselines.external import External
from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.codecs.contract import RATE_OPTIONS
from gnvc_vd.codecs.info import inspect
from gnvc_vd.codecs.load import DEFAULT_MODEL, highest_refined_quality
from gnvc_vd.common.files import file_sha256, replacing
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError, UsageError, bits_per_pixel, kilobits_per_second
from gnvc_vd.evaluate.compare import compare
from gnvc_vd.evaluate.evaluation import CodecEntry, Evaluation, OwnCodec, words
from gnvc_vd.evaluate.points import Point, environment, key_of, path_of, read_point, settings_of, write_point
from gnvc_vd.evaluate.protocols import read_protocol
from gnvc_vd.evaluate.sequences import PreparedSource, prepare, write_player_copy
from gnvc_vd.evaluate.test_sets import CLIPS, Sequence, path_of_film, read_manifest
from gnvc_vd.metrics.weight_files import FILES, NETWORKS, in_torch_home, missing_message, missing_network
from gnvc_vd.presets import PRESETS


@dataclass(frozen=True)
class Job:
    """One point of an evaluation, made or not: a codec at a level, on a sequence."""

    evaluation: Evaluation
    codec: str
    level: int
    source: PreparedSource

    def __str__(self) -> str:
        return f"{self.codec} {self.source.sequence.name} {self.level}"

    @property
    def entry(self) -> CodecEntry:
        return self.evaluation.codecs[self.codec]

    @property
    def settings(self) -> dict[str, object]:
        return settings_of(self.entry, self.level, self.source, self.evaluation)

    @property
    def path(self) -> Path:
        return path_of(Path(self.evaluation.folder), self.codec, self.source.sequence.name, self.level)

    def stream_path(self, suffix: str) -> Path:
        folder = Path(self.evaluation.folder) / "streams" / self.codec / self.source.sequence.name
        return folder / f"{self.level:02}{suffix}"

    def read_result(self) -> Point | None:
        """Read the point's file; None if it is missing, was made with other settings or lacks a requested metric.

        A metric that could not be measured for want of weights counts as lacking only if they are there now.
        """
        point, metrics = read_point(self.path), self.evaluation.metrics
        if point is None or point.key != key_of(self.settings) or not set(metrics) <= set(point.asked):
            return None
        return None if any(_has_weights_now(point, name) for name in metrics) else point


@dataclass(frozen=True)
class RunSummary:
    """The result of a call: counts, failures, and all points once the evaluation is complete."""

    made: int
    kept: int
    failures: tuple[str, ...]
    points: tuple[Point, ...] | None  # None while some are missing


def evaluate(
    evaluation: Evaluation, device: str, rank: int = 0, processes: int = 1, barrier: Callable[[], object] = lambda: None
) -> RunSummary:
    """Make this process's share of the points.

    Args:
        barrier: waits for the other processes.
    """
    (Path(evaluation.folder) / "sources").mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(evaluation.manifest)
    conditions = read_protocol(evaluation.protocol) if evaluation.protocol else manifest
    frames, gop = evaluation.frames or conditions.frames, evaluation.gop or conditions.gop
    evaluation = replace(evaluation, frames=frames, gop=gop)
    sequences = [one for one in manifest.sequences if not evaluation.sequences or one.name in evaluation.sequences]
    lacking = sorted(set(evaluation.sequences) - {one.name for one in sequences})
    require(not lacking, f"{evaluation.manifest} has no sequence {', '.join(lacking)}")
    for one in sequences:  # missing films and models are reported before any work
        path_of_film(one, root_of(evaluation))
    for name, entry in evaluation.codecs.items():
        if entry.ours and (not evaluation.only or name in evaluation.only):
            for level in entry.ours.levels:
                folder_of(entry.ours.model_at(level) or DEFAULT_MODEL)
    codecs = {name: one for name, one in evaluation.codecs.items() if not is_redundant(one)}
    anchor = evaluation.report.anchor
    if anchor is not None and anchor not in codecs:
        raise UsageError(f"the anchor {anchor} has no points, as its model does not refine: set another report.anchor")
    for one in sequences[rank::processes]:
        _prepare_copies(one, evaluation)
    barrier()
    sources = [_prepare_copies(one, evaluation) for one in sequences]
    all_jobs = [
        Job(evaluation, name, level, source)
        for source in sources
        for name, entry in codecs.items()
        for level in entry.codec.levels
    ]
    jobs = [job for job in all_jobs if not evaluation.only or job.codec in evaluation.only]
    waiting = [job for job in jobs if job.read_result() is None]
    barrier()  # before any process makes a point: all need the same list
    mine = waiting[rank::processes]

    def attempt(job: Job) -> GnvcError | None:
        """Make a point; return an error instead of raising it, so that the other points are still made."""
        try:
            make(job, device)
        except GnvcError as error:
            return error
        return None

    failures = []
    with ThreadPoolExecutor(evaluation.at_once) as workers:  # threads that mostly wait for other processes
        # One at a time, points are made in the main thread, where Ctrl-C also ends the running program.
        each = map if evaluation.at_once == 1 else workers.map
        attempts = zip(mine, each(attempt, mine), strict=True)
        progress = tqdm(attempts, total=len(mine), unit="point", desc="evaluating", disable=None)
        for job, failure in progress:
            progress.set_postfix_str(str(job))
            failures += [] if failure is None else [f"{job}: {failure}"]
    barrier()
    points = [job.read_result() for job in all_jobs]
    whole = tuple(point for point in points if point is not None)
    kept = len(jobs) - len(waiting)
    return RunSummary(len(mine) - len(failures), kept, tuple(failures), whole if len(whole) == len(points) else None)


def is_redundant(entry: CodecEntry) -> bool:
    """Whether an entry repeats another: it turns refinement off, though its model refines none of its levels."""
    ours = entry.ours
    if ours is None or ours.codec != "gnvc-vd" or ours.decode.get("no-refine") is not True:
        return False
    return all(level > highest_refined_quality(ours.model_at(level)) for level in ours.levels)


def make(job: Job, device: str) -> None:
    """Make a point: encode, decode and measure; its file is written last."""
    evaluation, clip, name = job.evaluation, job.source.clip, job.source.sequence.name
    folder, settings = Path(evaluation.folder), job.settings
    work = folder / f".work.{job.codec}.{name}.{job.level}"
    shutil.rmtree(work, ignore_errors=True)  # left by a killed call
    work.mkdir()
    with ExitStack() as at_the_end:
        at_the_end.callback(shutil.rmtree, work, ignore_errors=True)
        (work / SOURCE).symlink_to(job.source.path.absolute())
        commands = commands_of(job, device, work)
        done = _code_or_reuse(job, commands, work)
        asked, flow = evaluation.metrics, evaluation.flow
        comparison = compare(str(work / SOURCE), str(done.decoded), metrics=asked, flow=flow, device=device)
        # compare.py's notice of unequal lengths says that one video "goes on".
        whole = comparison.frames == clip.frames and not any("goes on" in notice for notice in comparison.notices)
        notices = "; ".join(comparison.notices) or f"{comparison.frames} frames could be compared"
        require(whole, f"it decodes to another number of frames than {clip.frames}: {notices}", GnvcError)
        job.path.unlink(missing_ok=True)  # removed first, as the stream of an older point is replaced below
        write_player_copy(done.decoded, clip, player_path(folder, job.codec, name, job.level))
        size, digest = done.bytes, file_sha256(done.stream)
        bottleneck = inspect(str(done.stream)).bottleneck if job.entry.ours else None
        kept = job.stream_path(done.stream.suffix)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as part:
            shutil.copyfile(done.stream, part)
    point = Point(
        codec=job.codec,
        sequence=name,
        level=job.level,
        bytes=size,
        frames=clip.frames,
        width=clip.width,
        height=clip.height,
        bpp=bits_per_pixel(size, clip.width, clip.height, clip.frames),
        kbps=kilobits_per_second(size, clip.frames, clip.rate),
        figures=comparison.figures,
        missing=comparison.missing,
        notices=[notice.replace(f"{work}{os.sep}", "") for notice in comparison.notices],
        asked=list(asked),
        fresh=bool(commands.decode),
        stated=bool(commands.stated),
        flicker_spectrum=list(comparison.flicker_spectrum),
        encode_seconds=done.encode_seconds,
        decode_seconds=done.decode_seconds,
        encode=list(commands.encode),
        decode=list(commands.decode),
        stream_sha256=digest,
        key=key_of(settings),
        settings=settings,
        environment=environment(device),
        bottleneck=bottleneck,
    )
    write_point(folder, point)


def commands_of(job: Job, device: str, work: Path) -> Commands:
    codec, clip = job.entry.codec, job.source.clip
    if isinstance(codec, Hybrid):
        return codec.commands(clip, job.level)
    if isinstance(codec, External):
        return codec.commands(clip, job.level, work)
    return our_commands(codec, job.level, job.evaluation.gop, device)


def our_commands(codec: OwnCodec, level: int, gop: int | None, device: str) -> Commands:
    """Commands of one of our codecs, with GOPs of the protocol's length and without scene cuts."""
    # A preset's name means the preset, even if a folder is called the same; the point's key assumes it too.
    name = codec.model_at(level)
    local = name is not None and name not in PRESETS and Path(name).is_dir()
    model = [] if name is None else ["--model", str(Path(name).absolute()) if local else name]
    which = [] if codec.codec == "gnvc-vd" else ["--codec", codec.codec]
    rate = [RATE_OPTIONS[codec.codec].option, str(level), *(["--gop", str(gop)] if gop else []), "--no-scenecut"]
    device_options = ["--device", device]
    stream = "stream.gnvc"
    encode = ["gnvc-vd", "encode", SOURCE, stream, *which, *model, *rate, *device_options, *words(codec.encode)]
    decode = ["gnvc-vd", "decode", stream, DECODED, *model, *device_options, *words(codec.decode)]
    return Commands(tuple(encode), tuple(decode), stream)


def _code_or_reuse(job: Job, commands: Commands, work: Path) -> CodingResult:
    at_once, all_threads = job.evaluation.at_once, int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    threads = None if at_once == 1 or job.entry.external else max(1, all_threads // at_once)
    earlier = shared_encoding(job)
    if earlier is None:
        return code(commands, job.source.clip, work, threads)
    stream, seconds = earlier
    shutil.copyfile(stream, work / commands.stream)
    return replace(code(replace(commands, encode=()), job.source.clip, work, threads), encode_seconds=seconds)


def shared_encoding(job: Job) -> tuple[Path, float] | None:
    """Stream and encoding time of another entry that differs only in decoding options; None if none has a point."""
    mine = job.entry.ours
    for name, other in job.evaluation.codecs.items():
        theirs = other.ours
        if name == job.codec or mine is None or theirs is None or job.level not in theirs.levels:
            continue
        models = theirs.model_at(job.level), mine.model_at(job.level)
        if models[0] != models[1] or (theirs.codec, theirs.encode) != (mine.codec, mine.encode):
            continue
        twin = replace(job, codec=name)
        point, stream = twin.read_result(), twin.stream_path(".gnvc")
        if point is not None and stream.is_file() and file_sha256(stream) == point.stream_sha256:
            return stream, point.encode_seconds
    return None


def root_of(evaluation: Evaluation) -> Path:
    return CLIPS if evaluation.root is None else Path(evaluation.root)


def _prepare_copies(sequence: Sequence, evaluation: Evaluation) -> PreparedSource:
    """Make the source and its copy for the player, unless they exist."""
    folder = Path(evaluation.folder)
    frames = evaluation.frames or sequence.frames
    prepared = prepare(sequence, root_of(evaluation), frames, folder / "sources", evaluation.crop)
    copy = player_path(folder, "source", sequence.name)
    if not copy.is_file() or copy.stat().st_mtime_ns < prepared.path.stat().st_mtime_ns:
        write_player_copy(prepared.path, prepared.clip, copy)
    return prepared


def _has_weights_now(point: Point, metric: str) -> bool:
    """Whether a metric is missing because its weights were not installed, and they are installed now."""
    if metric in NETWORKS:
        network, folder = NETWORKS[metric], repository_of(NETWORKS[metric].name)[1]
        return folder.is_dir() and point.missing.get(metric) == missing_network(network, folder)
    file = FILES.get(metric)
    return file is not None and point.missing.get(metric) == missing_message(file) and in_torch_home(file).is_file()


def player_path(folder: Path, codec: str, sequence: str, level: int = 0) -> Path:
    """Path of the player's copy of a decoded video, or of the source (codec "source")."""
    return folder / "shown" / codec / sequence / f"{level:02}.mp4"
