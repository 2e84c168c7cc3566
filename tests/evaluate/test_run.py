"""Points: bytes of files, decoded elsewhere, made once; a killed evaluation goes on; several processes share it."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from gnvc_vd.baselines.commands import StatedRate, run
from gnvc_vd.baselines.external import External
from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.cli.arguments import parser
from gnvc_vd.common.files import file_sha256
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.evaluate.compare import compare
from gnvc_vd.evaluate.evaluation import CodecEntry, Evaluation, OwnCodec, ReportOptions, evaluation_of
from gnvc_vd.evaluate.points import Point, key_of, path_of, read_point, settings_of, write_point
from gnvc_vd.evaluate.run import Job, evaluate, is_redundant, our_commands, shared_encoding
from gnvc_vd.evaluate.sequences import PreparedSource, prepare
from gnvc_vd.evaluate.test_sets import read_manifest
from gnvc_vd.metrics.weight_files import ALEXNET, in_torch_home
from gnvc_vd.report.evaluation_report import write_report
from gnvc_vd.zeroshot.sde import Schedule
from tests.conftest import names_beside
from tests.evaluate.evaluations import FRAMES, SIDE, evaluation, made_up_set, point
from tests.train.composing import EVALUATIONS, composed_of

TABLES = ("tables.md", "tables.tex", "points.csv", "bd.csv")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """An evaluation that has run."""
    folder = tmp_path_factory.mktemp("evaluation")
    made_up_set(folder)
    whole = evaluation(folder)
    done = evaluate(whole, "cpu")
    assert (done.made, done.kept, done.failures) == (12, 0, ()) and done.points is not None
    return whole


def timeless(point: Point) -> Point:
    return replace(point, encode_seconds=0.0, decode_seconds=0.0)


def test_a_point_is_bytes_of_its_stream_and_figures_of_what_it_decodes_to(first: Evaluation, tmp_path: Path) -> None:
    folder = Path(first.folder)
    for codec, suffix in (("x264", "h264"), ("x265", "hevc")):
        point = read_point(path_of(folder, codec, "s1", 36))
        stream = folder / "streams" / codec / "s1" / f"36.{suffix}"
        assert point is not None and point.fresh and point.notices == []
        assert point.bytes == stream.stat().st_size and point.stream_sha256 == file_sha256(stream)
        assert point.bpp == 8 * point.bytes / (SIDE * SIDE * FRAMES)
        assert point.kbps == pytest.approx(point.bpp * SIDE * SIDE * 25 / 1000)
        work = tmp_path / codec
        work.mkdir()
        (work / "stream.x").symlink_to(stream)
        again = [word.replace(f"stream.{suffix}", "stream.x") for word in point.decode]
        run(again, work)
        found = compare(str(folder / "sources" / "s1.mkv"), str(work / "decoded.mkv"), metrics=first.metrics)
        assert found.figures == point.figures and found.frames == FRAMES


def test_a_point_of_before_latent_codecs_were_noted_is_read(tmp_path: Path) -> None:
    write_point(tmp_path, replace(point("gnvc-vd", "s0", 1, 0.1), bottleneck="transform"))
    path = path_of(tmp_path, "gnvc-vd", "s0", 1)
    new, told = read_point(path), json.loads(path.read_text())
    assert told.pop("bottleneck") == "transform"
    path.write_text(json.dumps(told))
    old = read_point(path)
    assert new is not None and old is not None and old == replace(new, bottleneck=None)


def test_nothing_of_this_machine_is_in_a_point(first: Evaluation) -> None:
    text = path_of(Path(first.folder), "x265", "s0", 24).read_text()
    assert str(Path(first.folder).parent) not in text and sys.prefix not in text
    told = json.loads(text)
    assert told["encode"][0] == "ffmpeg" and "info=0" in " ".join(told["encode"])
    assert (
        told["settings"]["sequence"]["colour"] == "bt601 limited" and len(told["settings"]["sequence"]["sha256"]) == 64
    )
    assert told["settings"]["hybrid"]["ffmpeg"].startswith("ffmpeg version")


def test_a_second_call_redoes_nothing_and_a_lost_point_alone_is_made_again(first: Evaluation) -> None:
    folder = Path(first.folder)
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}
    again = evaluate(first, "cpu")
    assert (again.made, again.kept) == (0, 12)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()} == stamps
    path_of(folder, "x265", "s0", 24).unlink()
    third = evaluate(first, "cpu")
    assert (third.made, third.kept) == (1, 11) and third.points is not None and again.points is not None
    assert [timeless(one) for one in third.points] == [timeless(one) for one in again.points]


def test_two_at_once_make_the_same_points(first: Evaluation, tmp_path: Path) -> None:
    both = evaluate(replace(first, folder=str(tmp_path), at_once=2), "cpu")
    one_by_one = evaluate(first, "cpu").points
    assert both.made == 12 and both.points is not None and one_by_one is not None
    assert [timeless(one) for one in both.points] == [timeless(one) for one in one_by_one]


def test_another_file_of_still_weights_makes_the_point_again(tmp_path: Path) -> None:
    made_up_set(tmp_path, sequences=1)
    whole = evaluation(tmp_path, gop=25)
    source = prepare(read_manifest(whole.manifest).sequences[0], tmp_path, FRAMES, tmp_path)
    file, same = tmp_path / "weights", tmp_path / "same"

    def key(weights: Path | None) -> str:
        told = {"mode": "i2v", **({"still-weights": str(weights)} if weights else {})}
        entry = CodecEntry(ours=OwnCodec((8,), "gvc", encode=told, decode={"still-weights": str(file)}))
        return key_of(settings_of(entry, 8, source, whole))

    missing = key(file)
    for each in (file, same):
        each.write_text("one")
    first = key(file)
    assert key(same) == first and len({missing, first, key(None)}) == 3  # a file counts, not its name
    file.write_text("two")
    assert key(file) != first and key(same) != first  # here only what decodes has changed


def test_a_stream_is_made_once_however_many_decode_it(tmp_path: Path) -> None:
    made_up_set(tmp_path, sequences=1)
    ways = {"a": {}, "b": {"decode": {"steps": 1}}, "c": {"encode": {"seed": 1}}, "d": {"model": "tiny"}}
    codecs = {name: CodecEntry(ours=OwnCodec((1, 2), **({"model": "nano"} | way))) for name, way in ways.items()}
    whole = evaluation(tmp_path, codecs=codecs, report=ReportOptions(), gop=25)
    source = prepare(read_manifest(whole.manifest).sequences[0], tmp_path, FRAMES, tmp_path)
    settings = settings_of(codecs["a"], 1, source, whole)
    stream = Path(whole.folder) / "streams" / "a" / "s0" / "01.gnvc"
    stream.parent.mkdir(parents=True)
    stream.write_bytes(b"a stream")
    figures = dict.fromkeys(whole.metrics, 1.0)
    each = CodecEntry(ours=OwnCodec(models={1: "nano"}))
    assert settings_of(each, 1, source, whole) == settings  # a point is of its model, however that was named
    made = replace(
        point("a", "s0", 1, 0.1, **figures), key=key_of(settings), stream_sha256=file_sha256(stream), encode_seconds=7.0
    )
    write_point(Path(whole.folder), made)
    known = {(name, level): shared_encoding(Job(whole, name, level, source)) for name in "bcd" for level in (1, 2)}
    assert known.pop(("b", 1)) == (stream, 7.0) and set(known.values()) == {None}
    stream.write_bytes(b"another one")
    assert shared_encoding(Job(whole, "b", 1, source)) is None


def test_what_decides_a_point_makes_it_anew_and_fewer_metrics_do_not(first: Evaluation) -> None:
    one = replace(first, sequences=("s0",), codecs={"x264": first.codecs["x264"]}, report=ReportOptions())
    fewer = evaluate(replace(one, metrics=("psnr_yuv",)), "cpu")
    assert (fewer.made, fewer.kept) == (0, 3)
    slower = CodecEntry(hybrid=Hybrid("x264", (24, 36), preset="superfast"))
    assert evaluate(replace(one, codecs={"x264": slower}, folder=one.folder), "cpu").made == 2
    assert evaluate(one, "cpu").made == 2  # and these are as they were
    more = evaluate(replace(one, metrics=(*one.metrics, "vmaf"), codecs={"x264": slower}), "cpu")
    assert more.made == 2
    assert evaluate(one, "cpu").made == 2


def test_a_point_never_stands_beside_another_ones_stream(first: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    one = replace(first, sequences=("s0",), codecs={"x264": first.codecs["x264"]}, report=ReportOptions())
    stream = Path(one.folder) / "streams" / "x264" / "s0" / "24.h264"
    before = stream.read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    slower = CodecEntry(hybrid=Hybrid("x264", (24,), preset="superfast"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("gnvc_vd.evaluate.run.write_point", killed)
        evaluate(replace(one, codecs={"x264": slower}), "cpu")
    assert stream.read_bytes() != before
    assert evaluate(one, "cpu").made == 1 and stream.read_bytes() == before


def test_a_metric_that_lacked_its_network_is_computed_once_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    made_up_set(tmp_path, sequences=1)
    codecs = {"x264": CodecEntry(hybrid=Hybrid("x264", (30,), preset="ultrafast"))}
    whole = evaluation(tmp_path, codecs=codecs, metrics=("psnr_rgb", "lpips_alex"), report=ReportOptions())
    assert [evaluate(whole, "cpu").made for _ in range(2)] == [1, 0]
    in_torch_home(ALEXNET).parent.mkdir(parents=True)
    in_torch_home(ALEXNET).write_bytes(b"another file")
    assert [evaluate(whole, "cpu").made for _ in range(2)] == [1, 0]
    (point,) = evaluate(whole, "cpu").points or ()
    assert "is not the file of that name" in point.missing["lpips_alex"]


@pytest.mark.parametrize("frames", [2, 6])
def test_a_codec_with_too_few_or_too_many_frames_makes_no_point(frames: int, tmp_path: Path) -> None:
    made_up_set(tmp_path, sequences=1)
    again = "ffmpeg -loglevel error -stream_loop 1 -i stream.mkv -frames:v %d -c copy decoded.mkv"
    encode = "ffmpeg -loglevel error -i source.mkv -c copy stream.mkv"
    codec = External((1,), encode, again % frames, "mkv", "stream.mkv", "decoded.mkv")
    whole = evaluation(tmp_path, codecs={"x": CodecEntry(external=codec)}, report=ReportOptions())
    done = evaluate(whole, "cpu")
    assert done.made == 0 and len(done.failures) == 1 and "another number of frames than 4" in done.failures[0]
    assert read_point(path_of(Path(whole.folder), "x", "s0", 1)) is None


def test_a_crop_is_among_what_decides_a_point(first: Evaluation) -> None:
    bunny = read_manifest("small").sequences[0]
    source, codec = PreparedSource(bunny, bunny.clip(3), Path("x"), "ab"), first.codecs["x264"]
    whole, cut, other = (settings_of(codec, 24, source, replace(first, crop=c)) for c in (None, (64, 32), (32, 64)))
    assert len({key_of(one) for one in (whole, cut, other)}) == 3


def test_processes_share_the_points_and_jobs_the_codecs(first: Evaluation, tmp_path: Path) -> None:
    made_up_set(tmp_path, sequences=1)
    whole = evaluation(tmp_path)
    parts = []
    for codec in ("x264", "x265"):
        barrier = Barrier(2)
        with ThreadPoolExecutor(2) as two:
            share = partial(evaluate, replace(whole, only=(codec,)), "cpu", processes=2, barrier=barrier.wait)
            parts.append([*two.map(share, (0, 1))])
    assert [[part.made for part in both] for both in parts] == [[2, 1], [2, 1]]
    assert [[part.points is None for part in both] for both in parts] == [[True, True], [False, False]]
    for codec, level in (("x264", 24), ("x265", 48)):
        here, there = (read_point(path_of(Path(one.folder), codec, "s0", level)) for one in (whole, first))
        assert here and there and (here.bytes, here.figures) == (there.bytes, there.figures)


def test_a_codec_that_fails_is_named_and_the_others_points_are_there(tmp_path: Path) -> None:
    made_up_set(tmp_path, sequences=1)
    broken = CodecEntry(hybrid=Hybrid("x264", (30,), preset="no-such-preset"))
    whole = evaluation(
        tmp_path, codecs={"broken": broken, "x264": CodecEntry(hybrid=Hybrid("x264", (30,)))}, report=ReportOptions()
    )
    done = evaluate(whole, "cpu")
    assert done.made == 1 and done.points is None and len(done.failures) == 1
    assert done.failures[0].startswith("broken s0 30: ffmpeg failed with exit code")
    assert not any(name.startswith(".work") for name in names_beside(Path(whole.folder)))
    left = Path(whole.folder) / ".work.broken.s0.30"  # as a killed call leaves it
    left.mkdir()
    (left / "source.mkv").write_bytes(b"")
    again = evaluate(whole, "cpu").failures
    assert len(again) == 1 and "failed with exit code" in again[0] and not left.exists()


def test_our_codecs_go_through_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"mode": "i2v", "g-scale": 2.5, "shift": None, "withhold": False, "reuse": True, "tail-step": 0}
    commands = our_commands(OwnCodec((100,), "gvc", "nano", options, {"gops": "1:2"}), 100, 33, "cpu")
    assert " ".join(commands.encode) == (
        "gnvc-vd encode source.mkv stream.gnvc --codec gvc --model nano --atoms 100 --gop 33 --no-scenecut "
        "--device cpu --mode i2v --g-scale 2.5 --reuse --tail-step 0"
    )
    assert " ".join(commands.decode) == "gnvc-vd decode stream.gnvc decoded.mkv --model nano --device cpu --gops 1:2"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()  # a folder of any layout, found from the folder in which the commands run
    assert f"--model {tmp_path}/weights " in " ".join(
        our_commands(OwnCodec((5,), "gvc", "weights"), 5, 33, "cpu").encode
    )
    one_rate_each = OwnCodec(models={0: "nano", 3: "tiny"})
    assert one_rate_each.levels == (0, 3)
    coded = [our_commands(one_rate_each, level, 25, "cpu") for level in (0, 3)]
    assert [(one.encode[5], one.decode[5]) for one in coded] == [("nano", "nano"), ("tiny", "tiny")]
    plain = our_commands(OwnCodec((5,)), 5, 25, "cpu")
    assert " ".join(plain.encode[4:]) == "--quality 5 --gop 25 --no-scenecut --device cpu" and plain.decode[-1] == "cpu"


def test_wrong_evaluations_are_refused(tmp_path: Path) -> None:
    made_up_set(tmp_path, sequences=1)
    for wrong, said in (
        ({"codecs": {}}, "has a codec"),
        ({"at_once": 0}, "at_once is at least 1"),
        ({"codecs": {"../x": CodecEntry(ours=OwnCodec((1,)))}}, "called by letters"),
        ({"codecs": {"source": CodecEntry(ours=OwnCodec((1,)))}}, "not 'source'"),
        ({"metrics": ("psnr",)}, "no metric psnr"),
        ({"only": ("vvenc",)}, "no codec 'vvenc'"),
        ({"report": ReportOptions(anchor="vtm")}, "no codec 'vtm'"),
        ({"flow": "farneback"}, "no flow 'farneback'; there are dis, raft"),
        ({"frames": 0}, "frames is at least 1"),
        ({"gop": 24}, "1 \\+ 4k"),
    ):
        with pytest.raises(UsageError, match=said):
            evaluation(tmp_path, **wrong)
    with pytest.raises(UsageError, match="no sequence s7"):
        evaluate(evaluation(tmp_path, sequences=("s7",)), "cpu")
    with pytest.raises(UsageError, match="exactly one"):
        CodecEntry()
    for ours, said in (
        (OwnCodec, "0 to 63"),
        (partial(OwnCodec, codec="gvc"), "0 to 256"),
        (partial(OwnCodec, codec="x"), "'x'"),
    ):
        with pytest.raises(UsageError, match=said):
            ours((257,))
    with pytest.raises(UsageError, match="each once"):
        OwnCodec((5, 5))
    with pytest.raises(UsageError, match="give neither levels nor a model"):
        OwnCodec((5,), models={0: "nano"})
    with pytest.raises(UsageError, match="rates are positive"):
        ReportOptions(rates=(0.1, 0.0))
    for crop in ((64,), (64, 63), (64, 0)):
        with pytest.raises(UsageError, match="both even"):
            evaluation(tmp_path, crop=crop)
    broken = path_of(Path(evaluation(tmp_path).folder), "x264", "s0", 24)
    broken.parent.mkdir(parents=True)
    broken.write_text("{}")
    with pytest.raises(GnvcError, match="not a point of this program"):
        evaluate(evaluation(tmp_path), "cpu")


def test_what_lacks_is_said_before_anything_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root without the last film, and a model that is not there; a call for other codecs needs no model."""
    made_up_set(tmp_path)
    monkeypatch.setattr("gnvc_vd.evaluate.run.make", lambda job, device: None)
    codecs = {"ours": CodecEntry(ours=OwnCodec((1,), model="no/such/model")), **evaluation(tmp_path).codecs}
    with pytest.raises(GnvcError, match="no/such/model: no such preset or folder"):
        evaluate(evaluation(tmp_path, codecs=codecs), "cpu")
    last = (tmp_path / "s1.mp4").rename(tmp_path / "s2.mp4")
    with pytest.raises(GnvcError, match=r"s1\.mp4: missing; give the folder that holds it with root=FOLDER"):
        evaluate(evaluation(tmp_path), "cpu")
    sources = Path(evaluation(tmp_path).folder) / "sources"
    assert names_beside(sources) == []
    last.rename(tmp_path / "s1.mp4")
    assert evaluate(evaluation(tmp_path, codecs=codecs, only=("x264",)), "cpu").made == 6
    assert len(names_beside(sources)) == 4


def test_the_papers_curve_has_a_model_for_each_point() -> None:
    config, _ = composed_of("evaluate", "experiment=paper", "codecs.gnvc-vd.ours.models.0=other")
    ours, unrefined = (evaluation_of(config).codecs[name].ours for name in ("gnvc-vd", "gnvc-vd-unrefined"))
    assert ours is not None and unrefined is not None and ours.levels == unrefined.levels == (0, 1, 2, 3)
    assert [ours.model_at(level) for level in (0, 3)] == ["other", "outputs/models/paper_stage2-0.5"]
    assert unrefined.models == ours.models and unrefined.decode == {"no-refine": True}


@pytest.mark.parametrize("name", sorted({*EVALUATIONS} - {"paper"}))
def test_every_evaluation_composes(name: str) -> None:
    codec = "gvc" if name.startswith("gvc") else "gnvc-vd"
    found = evaluation_of(composed_of("evaluate", f"experiment={name}", f"codecs.{codec}.ours.model=other")[0])
    assert found.name == name and found.folder.startswith(f"outputs/evaluate/{found.name}")
    ours = [entry.ours for entry in found.codecs.values() if entry.ours]
    own = [one for one in ours if one.model != "tiny-contextual"]  # which stands beside tiny in one of them
    assert own and all(one.model == "other" for one in own)  # one place says which
    if codec == "gvc":
        assert found.name == name and [one.encode["mode"] for one in ours] == [name.removeprefix("gvc_")]
    anchor = found.report.anchor
    assert anchor is None or found.codecs[anchor].hybrid or name == "refinement"


def test_what_a_model_does_anyway_stands_under_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told not to refine, a model that does not is the same codec again: it gets no points, and is no anchor."""
    made_up_set(tmp_path, sequences=1)
    names = ("tiny", "nano")
    codecs = {
        f"{name}-{decode}": CodecEntry(ours=OwnCodec((32,), model=name, decode={"no-refine": True} if decode else {}))
        for name in names
        for decode in (0, 1)
    }
    made: list[str] = []
    monkeypatch.setattr("gnvc_vd.evaluate.run.make", lambda job, device: made.append(job.codec))
    evaluate(evaluation(tmp_path, codecs=codecs, report=ReportOptions()), "cpu")
    assert made == ["tiny-0", "nano-0", "nano-1"]
    with pytest.raises(UsageError, match=r"the anchor tiny-1 has no points, .*: set another report\.anchor"):
        evaluate(evaluation(tmp_path, codecs=codecs, report=ReportOptions(anchor="tiny-1")), "cpu")


@pytest.mark.parametrize("name", ["small", "uvg", "public", "refinement"])
def test_our_codec_stands_with_and_without_refinement(name: str) -> None:
    found = evaluation_of(composed_of("evaluate", f"experiment={name}", "codecs.gnvc-vd.ours.model=other")[0])
    refined, unrefined = (found.codecs[codec].ours for codec in ("gnvc-vd", "gnvc-vd-unrefined"))
    assert refined and unrefined and (refined.decode, unrefined.decode) == ({}, {"no-refine": True})
    assert (refined.levels, refined.encode) == (unrefined.levels, unrefined.encode)


def test_refinement_is_judged_on_the_same_streams_refined_in_three_ways() -> None:
    found = evaluation_of(composed_of("evaluate", "experiment=refinement")[0])
    ways = {name: one.ours for name, one in found.codecs.items() if one.ours}
    assert {name: way.decode for name, way in ways.items()} == {
        "gnvc-vd": {}, "gnvc-vd-apart": {"apart": True}, "gnvc-vd-unrefined": {"no-refine": True},
    }  # fmt: skip
    assert len({(way.levels, way.model) for way in ways.values()}) == 1 and not any(way.encode for way in ways.values())


def test_the_small_evaluation_is_what_it_promises() -> None:
    config, whole = composed_of("evaluate", "experiment=small")
    small = evaluation_of(config)
    assert (
        {"x264", "x265", "svt-av1", "vvenc"} <= small.codecs.keys() and small.manifest == "small" and small.root is None
    )
    assert not {"lpips_alex", "lpips_vgg", "dists"} & set(small.metrics)  # whose networks are downloads
    assert whole.hydra.run.dir == small.folder == "outputs/evaluate/small"
    with pytest.raises(GnvcError, match="unknown key 'strange'"):
        evaluation_of(composed_of("evaluate", "experiment=small", "+strange=1")[0])


def test_any_option_of_gvc_is_swept_from_the_command_line() -> None:
    swept = [f"codecs.gvc.ours.encode.{one}" for one in ("codebook=256", "g-scale=2", "tail-atoms=9", "sde-steps=10")]
    config, whole = composed_of("evaluate", "experiment=gvc_i2v", *swept)
    found = evaluation_of(config)
    (gvc,) = (one.ours for one in found.codecs.values())
    assert gvc is not None and (gvc.codec, gvc.model, gvc.levels) == ("gvc", "tiny", (8, 16, 32, 64))
    encode = list(our_commands(gvc, 16, found.gop, "cpu").encode[4:])
    arguments = parser().parse_args(["encode", "a", "b", *encode])
    assert (arguments.atoms, arguments.mode, arguments.gop) == (16, "i2v", 9)
    assert (arguments.codebook, arguments.g_scale, arguments.tail_atoms, arguments.sde_steps) == (256, 2, 9, 10)
    assert (arguments.shift, arguments.ode_tail, arguments.reuse, arguments.model) == (None, None, None, "tiny")
    assert (Schedule().shift, Schedule().tail, Schedule().reuse) == (3, 3, False)  # of what is not said
    assert found.folder == f"outputs/evaluate/gvc_i2v/{','.join(sorted(swept))}"
    assert whole.hydra.sweep.dir == "outputs/evaluate/gvc_i2v"


@pytest.mark.parametrize(
    ("levels", "model", "redundant"), [((21, 63), "tiny", True), ((20, 63), "tiny", False), ((63,), "nano", False)]
)
def test_a_codec_that_decodes_as_the_model_does_anyway_is_left_out(
    levels: tuple[int, ...], model: str, redundant: bool
) -> None:
    """tiny refines up to quality 20, nano at all of them."""
    unrefined = OwnCodec(levels, model=model, decode={"no-refine": True})
    assert is_redundant(CodecEntry(ours=unrefined)) == redundant
    assert not is_redundant(CodecEntry(ours=replace(unrefined, decode={})))


@pytest.mark.slow
def test_our_codec_is_decoded_by_a_process_of_its_own(tmp_path: Path) -> None:
    made_up_set(tmp_path, sequences=1)
    codecs = {
        "refined": CodecEntry(ours=OwnCodec((32,), model="nano")),
        "unrefined": CodecEntry(ours=OwnCodec((32,), model="nano", decode={"no-refine": True})),
    }
    whole = evaluation(tmp_path, codecs=codecs, report=ReportOptions())
    done = evaluate(whole, "cpu")
    assert done.points is not None and done.failures == ()
    refined, unrefined = done.points
    assert refined.bytes == unrefined.bytes and refined.stream_sha256 == unrefined.stream_sha256
    assert refined.encode_seconds == unrefined.encode_seconds  # encoded once
    assert refined.figures != unrefined.figures
    assert refined.bottleneck == unrefined.bottleneck == "contextual"  # nano's


@pytest.mark.slow
def test_killed_and_started_again_it_finishes_with_the_same_tables(first: Evaluation, tmp_path: Path) -> None:
    """SIGKILL at several moments, through scripts/evaluate.py, until it is done."""
    done_before = evaluate(first, "cpu").points
    assert done_before is not None
    write_report(first, done_before, Path(first.folder) / "report")
    made_up_set(tmp_path)
    hybrid = "{hybrid: {encoder: %s, levels: [24, 36, 48], preset: ultrafast}}"
    command = [
        *(sys.executable, "scripts/evaluate.py", f"manifest={tmp_path}/set.json"),
        *(f"root={tmp_path}", f"folder={tmp_path}/out", "name=made-up", "metrics=[psnr_rgb,psnr_yuv]", "device=cpu"),
        *(f"+codecs.{name}={hybrid % name}" for name in ("x264", "x265")),
        *("report.anchor=x265", "report.rates=[0.05,0.5]"),
    ]
    kills = 0
    for wanted in (1, 5, 9):
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and len(list((tmp_path / "out").glob("points/*/*/*.json"))) < wanted:
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert kills >= 2 and "0 were there" not in done.stdout
    for name in TABLES:
        assert (tmp_path / "out" / "report" / name).read_text() == (Path(first.folder) / "report" / name).read_text(), (
            name
        )
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout.startswith("0 points made here, 12 were there")


@pytest.mark.slow
def test_two_processes_of_torchrun_share_it(first: Evaluation, tmp_path: Path) -> None:
    made_up_set(tmp_path)
    hybrid = "{hybrid: {encoder: x264, levels: [24, 36, 48], preset: ultrafast}}"
    command = [
        *(
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            "scripts/evaluate.py",
        ),
        *(f"manifest={tmp_path}/set.json", f"root={tmp_path}", f"folder={tmp_path}/out"),
        *("name=made-up", "metrics=[psnr_rgb,psnr_yuv]", "device=cpu", f"+codecs.x264={hybrid}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "3 points made here, 0 were there" in done.stdout
    for sequence in ("s0", "s1"):
        for level in (24, 36, 48):
            here, there = (
                read_point(path_of(root, "x264", sequence, level)) for root in (tmp_path / "out", Path(first.folder))
            )
            assert here and there and (here.bytes, here.figures) == (there.bytes, there.figures)


def test_a_stated_rate_is_marked_in_points_and_in_the_report(tmp_path: Path) -> None:
    """A program without a stream: 0.5 bits a pixel in the names of its pictures."""
    made_up_set(tmp_path, sequences=1)
    script = "import pathlib, shutil; p = sorted(pathlib.Path('source').iterdir()); pathlib.Path('out').mkdir(); "
    script += "[shutil.copy(one, f'out/{one.stem}_bpp_0.5.png') for one in p]"
    external = External(
        (7,),
        f'{sys.executable} -c "{script}"',
        reads="png",
        stream="rate.json",
        decoded="out",
        stated=(StatedRate("out/*.png", "bpp_([0-9.]+)[.]png"),),
    )
    codecs = {"theirs": CodecEntry(external=external)}
    whole = evaluation(tmp_path, codecs=codecs, report=ReportOptions())
    points = evaluate(whole, "cpu").points
    assert points is not None
    assert points[0].stated and not points[0].fresh and points[0].bpp == pytest.approx(0.5)
    assert points[0].bytes == 0.5 * SIDE * SIDE * FRAMES / 8 and points[0].figures["psnr_rgb"] == 100
    write_report(whole, points, Path(whole.folder) / "report")
    assert "But theirs: no stream is written" in (Path(whole.folder) / "report" / "tables.md").read_text()


def test_a_protocol_gives_frames_and_gops_that_nobody_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up_set(tmp_path, sequences=1)
    seen: list[tuple[int | None, int | None]] = []
    monkeypatch.setattr("gnvc_vd.evaluate.run._prepare_copies", lambda one, told: seen.append((told.frames, told.gop)))
    monkeypatch.setattr("gnvc_vd.evaluate.run.Job.read_result", lambda job: job)  # nothing is to be made
    for changes in ({}, {"protocol": "gvc"}, {"protocol": "gvc", "frames": 5, "gop": 9}):
        evaluate(evaluation(tmp_path, **changes), "cpu")
    assert seen[::2] == [(FRAMES, 25), (99, 33), (5, 9)]
    with pytest.raises(UsageError, match="no protocol 'mine'; there are gnvc-vd, gvc"):
        evaluation(tmp_path, protocol="mine")
