"""Rate–distortion points: encode → file → decode in a fresh process → metrics, for every codec, sequence and level.

    manifest ──▶ sources ──▶ jobs ──a share for each process──▶ points/CODEC/SEQUENCE/LEVEL.json ──▶ report

FOLDER/sources   what the codecs are given        FOLDER/streams   what they made of it
FOLDER/points    a JSON file for each point       FOLDER/shown     decoded videos for the report's player

A point is finished when its file is there, and is not made again while what decides it stays the same.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from gnvc_vd.backbone.folder import DESCRIPTION
from gnvc_vd.baselines.commands import SOURCE, Clip, Coded, Commands, code
from gnvc_vd.baselines.external import External, code_external
from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.common.files import file_sha256, replacing
from gnvc_vd.conventions import GnvcError, UsageError, bits_per_pixel, kilobits_per_second
from gnvc_vd.evaluate.compare import Comparison, compare
from gnvc_vd.evaluate.evaluation import Contestant, Evaluation, Ours, words
from gnvc_vd.evaluate.playable import show
from gnvc_vd.evaluate.points import (
    Point,
    environment,
    key_of,
    path_of,
    read_point,
    settings_of,
    write_point,
)
from gnvc_vd.evaluate.sequences import Prepared, prepare
from gnvc_vd.evaluate.test_sets import CLIPS, Sequence, read_manifest
from gnvc_vd.metrics.weight_files import FILES, absent, in_torch_home
from gnvc_vd.presets import PRESETS

LOSSLESS = "decoded.mkv"


@dataclass(frozen=True)
class Job:
    """A point to be made."""

    codec: str
    contestant: Contestant
    level: int
    source: Prepared

    def __str__(self) -> str:
        return f"{self.codec} {self.source.sequence.name} {self.level}"


@dataclass(frozen=True)
class Done:
    """What a call did, and whether every point of the evaluation is there now."""

    made: int
    kept: int
    failures: tuple[str, ...]
    points: tuple[Point, ...] | None  # all of them, or None while some lack


def evaluate(
    evaluation: Evaluation,
    device: str,
    rank: int = 0,
    processes: int = 1,
    together: Callable[[], object] = lambda: None,
) -> Done:
    """This process's share of the points.

    Args:
        together: waits for the other processes.
    """
    (Path(evaluation.folder) / "sources").mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(evaluation.manifest)
    evaluation = replace(evaluation, frames=evaluation.frames or manifest.frames, gop=evaluation.gop or manifest.gop)
    wanted = evaluation.sequences
    named = [one for one in manifest.sequences if not wanted or one.name in wanted]
    absent = set(evaluation.sequences) - {one.name for one in named}
    if absent:
        raise UsageError(f"{evaluation.manifest} has no sequence {', '.join(sorted(absent))}")
    for one in named[rank::processes]:
        _prepared(one, evaluation)
    together()
    sources = [_prepared(one, evaluation) for one in named]
    jobs = list(_jobs(evaluation, sources, evaluation.only or tuple(evaluation.codecs)))
    waiting = [job for job in jobs if _finished(job, evaluation) is None]
    together()  # before anybody makes one: all share the same list
    mine = waiting[rank::processes]
    failures = []
    with (
        tqdm(total=len(mine), unit="point", desc="evaluating", disable=None) as progress,
        ThreadPoolExecutor(evaluation.at_once) as workers,  # who wait for other processes most of the time
    ):
        # One by one in this thread, which an interruption reaches and whose program it ends.
        each = map if evaluation.at_once == 1 else workers.map
        for job, failure in each(lambda job: (job, _attempt(job, evaluation, device)), mine):
            progress.set_postfix_str(str(job))
            progress.update()
            failures += [] if failure is None else [f"{job}: {failure}"]
    together()
    points = [_finished(job, evaluation) for job in _jobs(evaluation, sources, tuple(evaluation.codecs))]
    whole = tuple(point for point in points if point is not None)
    kept = len(jobs) - len(waiting)
    return Done(len(mine) - len(failures), kept, tuple(failures), whole if len(whole) == len(points) else None)


def _attempt(job: Job, evaluation: Evaluation, device: str) -> GnvcError | None:
    """Why a point could not be made, if so: another codec's points are worth having all the same."""
    try:
        make(job, evaluation, device)
    except GnvcError as error:
        return error
    return None


def make(job: Job, evaluation: Evaluation, device: str) -> Point:
    """Code, decode and judge; the point's file is written last."""
    folder, clip, name = Path(evaluation.folder), job.source.clip, job.source.sequence.name
    settings = settings_of(job.contestant, job.level, job.source, evaluation)
    with _work_folder(folder / f".work.{job.codec}.{name}.{job.level}") as work:
        (work / SOURCE).symlink_to(job.source.path.absolute())
        commands = commands_of(job, evaluation, device, work)
        done = _coded(job, commands, evaluation, work)
        found = compare(
            str(work / SOURCE), str(done.decoded), metrics=evaluation.metrics, flow=evaluation.flow, device=device
        )
        _check_whole(found, clip)
        path_of(folder, job.codec, name, job.level).unlink(missing_ok=True)  # of other settings: its stream goes now
        show(done.decoded, clip, shown_path(folder, job.codec, name, job.level))
        size, digest = done.stream.stat().st_size, file_sha256(done.stream)
        _keep(done.stream, _stream_path(evaluation, job.codec, name, job.level, done.stream.suffix))
        notices = [notice.replace(f"{work}{os.sep}", "") for notice in found.notices]
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
        figures=found.figures,
        missing=found.missing,
        notices=notices,
        asked=list(evaluation.metrics),
        fresh=bool(commands.decode),
        encode_seconds=done.encode_seconds,
        decode_seconds=done.decode_seconds,
        encode=list(commands.encode),
        decode=list(commands.decode),
        stream_sha256=digest,
        key=key_of(settings),
        settings=settings,
        environment=environment(device),
    )
    write_point(folder, point)
    return point


@contextmanager
def _work_folder(work: Path) -> Iterator[Path]:
    """An empty folder, gone afterwards; what a killed call left of the same name goes first."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def commands_of(job: Job, evaluation: Evaluation, device: str, work: Path) -> Commands:
    codec, clip = job.contestant.codec, job.source.clip
    if isinstance(codec, Hybrid):
        return codec.commands(clip, job.level)
    if isinstance(codec, External):
        return codec.commands(clip, job.level, work)
    return our_commands(codec, job.level, evaluation.gop, device)


def our_commands(codec: Ours, level: int, gop: int | None, device: str) -> Commands:
    """The command line in two processes; GOPs of the protocol's length whatever the pictures show."""
    # A name of ours is never a folder beside us, or a point's key would be of another model.
    local = codec.model is not None and codec.model not in PRESETS and (Path(codec.model) / DESCRIPTION).is_file()
    model = [] if codec.model is None else ["--model", str(Path(codec.model).absolute()) if local else codec.model]
    which = [] if codec.codec == "gnvc-vd" else ["--codec", codec.codec]
    rate = [*codec.rate(level), *(["--gop", str(gop)] if gop else []), "--no-scenecut"]
    on = ["--device", device]
    stream = "stream.gnvc"
    encode = ["gnvc-vd", "encode", SOURCE, stream, *which, *model, *rate, *on, *words(codec.encode)]
    decode = ["gnvc-vd", "decode", stream, LOSSLESS, *model, *on, *words(codec.decode)]
    return Commands(tuple(encode), tuple(decode), stream, decoded=LOSSLESS)


def _coded(job: Job, commands: Commands, evaluation: Evaluation, work: Path) -> Coded:
    if job.contestant.external:
        return code_external(commands, job.source.clip, work)
    told = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    threads = None if evaluation.at_once == 1 else max(1, told // evaluation.at_once)
    known = _same_stream(job, evaluation)
    if known is None:
        return code(commands, work, threads)
    shutil.copyfile(known.stream, work / commands.stream)
    return replace(code(replace(commands, encode=()), work, threads), encode_seconds=known.encode_seconds)


@dataclass(frozen=True)
class Known:
    """A stream that is there."""

    stream: Path
    encode_seconds: float


def _same_stream(job: Job, evaluation: Evaluation) -> Known | None:
    """What another of our codecs has encoded, if they differ in how they decode alone."""
    mine = job.contestant.ours
    for name, other in evaluation.codecs.items():
        theirs = other.ours
        if name == job.codec or mine is None or theirs is None or job.level not in theirs.levels:
            continue
        if (theirs.codec, theirs.model, theirs.encode) != (mine.codec, mine.model, mine.encode):
            continue
        point = _finished(Job(name, other, job.level, job.source), evaluation)
        stream = _stream_path(evaluation, name, job.source.sequence.name, job.level, ".gnvc")
        if point is not None and stream.is_file() and file_sha256(stream) == point.stream_sha256:
            return Known(stream, point.encode_seconds)
    return None


def _prepared(sequence: Sequence, evaluation: Evaluation) -> Prepared:
    """Both the source and its copy for the player, made where they are not there."""
    folder = Path(evaluation.folder)
    root = CLIPS if evaluation.root is None else Path(evaluation.root)
    frames = evaluation.frames or sequence.frames
    prepared = prepare(sequence, root, frames, folder / "sources", evaluation.crop)
    shown = shown_path(folder, "source", sequence.name)
    if not shown.is_file() or shown.stat().st_mtime_ns < prepared.path.stat().st_mtime_ns:
        show(prepared.path, prepared.clip, shown)
    return prepared


def _jobs(evaluation: Evaluation, sources: Iterable[Prepared], codecs: Iterable[str]) -> Iterator[Job]:
    for source in sources:
        for name in codecs:
            contestant = evaluation.codecs[name]
            for level in contestant.codec.levels:
                yield Job(name, contestant, level, source)


def _finished(job: Job, evaluation: Evaluation) -> Point | None:
    """A point's file, if it is of these settings and holds the metrics that are asked for."""
    point = read_point(path_of(Path(evaluation.folder), job.codec, job.source.sequence.name, job.level))
    key = key_of(settings_of(job.contestant, job.level, job.source, evaluation))
    if point is None or point.key != key or not set(evaluation.metrics) <= set(point.asked):
        return None
    return None if any(_possible_now(point, name) for name in evaluation.metrics) else point


def _possible_now(point: Point, metric: str) -> bool:
    """Whether a metric that lacked its network has got it since."""
    file = FILES.get(metric)
    return file is not None and point.missing.get(metric) == absent(file) and in_torch_home(file).is_file()


def _check_whole(found: Comparison, clip: Clip) -> None:
    if found.frames != clip.frames or any("goes on" in notice for notice in found.notices):
        said = "; ".join(found.notices) or f"{found.frames} could be compared"
        raise GnvcError(f"it decodes to another number of frames than {clip.frames}: {said}")


def shown_path(folder: Path, codec: str, sequence: str, level: int = 0) -> Path:
    """The copy of a decoded video, or of codec "source", for the report's player."""
    return folder / "shown" / codec / sequence / f"{level:02}.mp4"


def _stream_path(evaluation: Evaluation, codec: str, sequence: str, level: int, suffix: str) -> Path:
    return Path(evaluation.folder) / "streams" / codec / sequence / f"{level:02}{suffix}"


def _keep(stream: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as part:
        part.write_bytes(stream.read_bytes())
