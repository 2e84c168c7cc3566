"""A corpus: shared, resumed, killed, with what failed; and every stream is the one that `encode` writes."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gnvc_vd.cli.main import main
from gnvc_vd.codecs.corpus import Corpus, code_corpus, read_record
from gnvc_vd.codecs.load import load
from gnvc_vd.common.files import file_sha256
from gnvc_vd.conventions import GnvcError
from gnvc_vd.data.manifests import Entry, entries_of, write_manifest
from gnvc_vd.learned.codec import EncodeOptions
from gnvc_vd.video import create_video, open_video
from tests.conftest import Script, smooth_clip

SCRIPT = Path(__file__).parents[2] / "scripts" / "code_corpus.py"


def film(path: Path, frames: int, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with create_video(path, 16, 16, Fraction(25)) as out:
        for frame in smooth_clip(16, 16, frames, seed=seed):
            out.write(frame)
    return path


def small(folder: Path) -> Path:
    """A manifest of four films, the second of which is damaged, and of a scene of the first."""
    entries = []
    for number, name in enumerate(("a/first.mkv", "b.mkv", "c.mkv", "d.mkv")):
        film(folder / name, 5 + number, number)
        entries.append(Entry(name, 0, 5 + number, 16, 16, 25.0))
    (folder / "b.mkv").write_bytes(b"no film")
    entries.append(Entry("a/first.mkv", 2, 3, 16, 16, 25.0))
    write_manifest(folder / "manifest.jsonl", "videos", entries)
    return folder / "manifest.jsonl"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def test_every_stream_is_what_encode_writes_and_the_rest_is_named(
    tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, out = small(tmp_path / "films"), tmp_path / "out"
    call = ("code_corpus.py", manifest, out, "--model", "nano", "--device", "cpu", "--no-refine")
    assert script(*call) == 1
    said = capsys.readouterr()
    assert "code_corpus: b.mkv: " in said.err and "Traceback" not in said.err
    assert "4 videos coded here, 0 were there" in said.out and "5 videos, 1 failed" in said.out
    (failed,) = rows(out / "failed.csv")
    assert failed["name"] == "b.mkv" and "not a video" in failed["error"]
    table = {row["name"]: row for row in rows(out / "table.csv")}
    assert list(table) == ["a/first.mkv", "b.mkv", "c.mkv", "d.mkv", "a/first.mkv[2:5]"]
    for name, frames in (("a/first.mkv", 5), ("c.mkv", 7), ("d.mkv", 8)):
        stream = out / "streams" / f"{name}.gnvc"
        assert main(["encode", str(tmp_path / "films" / name), str(tmp_path / "own.gnvc"), "--model", "nano"]) == 0
        assert stream.read_bytes() == (tmp_path / "own.gnvc").read_bytes()
        assert main(["decode", str(stream), str(tmp_path / "own.mkv"), "--model", "nano", "--no-refine"]) == 0
        with open_video(out / "decoded" / f"{name}.mkv") as decoded, open_video(tmp_path / "own.mkv") as own:
            assert sum(int((a == b).all()) for a, b in zip(decoded, own, strict=True)) == frames
        assert int(table[name]["bytes"]) == stream.stat().st_size and int(table[name]["frames"]) == frames
        assert float(table[name]["bpp"]) == pytest.approx(8 * stream.stat().st_size / (frames * 256))
    with open_video(out / "decoded" / "a" / "first.mkv.2-5.mkv") as scene:
        assert sum(1 for _ in scene) == 3
    # Again: nothing but the failed one, which is whole now.
    film(tmp_path / "films" / "b.mkv", 6, 9)
    stamps = {path: path.stat().st_mtime_ns for path in (out / "streams").rglob("*.gnvc")}
    capsys.readouterr()
    assert script(*call) == 0
    assert "1 videos coded here, 4 were there" in capsys.readouterr().out and not rows(out / "failed.csv")
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert script(*call, "--quality", 9) == 0  # other settings: all of them
    assert "5 videos coded here, 0 were there" in capsys.readouterr().out
    assert script(*call[:-1], "--codec", "gvc", "--compile") == 2
    assert "GVC's decoder follows its encoder's floats: leave compiling out" in capsys.readouterr().err


def test_streams_of_gvc_are_what_encode_writes_too(tmp_path: Path, script: Script) -> None:
    """With the model's own codebook: tiny's is not the published one."""
    source, out = film(tmp_path / "films" / "a.mkv", 6, 1), tmp_path / "out"
    for options in ((), ("--atoms", "9", "--gop", "5")):
        call = (source.parent, out, "--codec", "gvc", "--decoded", "none", "--device", "cpu", *options)
        assert script("code_corpus.py", *call) == 0
        assert main(["encode", str(source), str(tmp_path / "own.gnvc"), "--codec", "gvc", *options]) == 0
        assert (out / "streams" / "a.mkv.gnvc").read_bytes() == (tmp_path / "own.gnvc").read_bytes()


def test_options_of_the_other_codec_are_refused(
    tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    film(tmp_path / "films" / "a.mkv", 1, 1)
    call = ("code_corpus.py", tmp_path / "films", tmp_path / "out", "--device", "cpu")
    for options, said in {
        ("--codec", "gvc", "--quality", "32"): "--quality: not with --codec gvc",
        ("--codec", "gvc", "--precision", "bf16", "--steps", "0"): "--steps, --precision bf16: not with --codec gvc",
        ("--codec", "gvc", "--no-refine"): "--no-refine: not with --codec gvc",
        ("--atoms", "64"): "--atoms: not with --codec gnvc-vd",
    }.items():
        assert script(*call, *options) == 2
        assert capsys.readouterr().err == f"code_corpus: {said}\n"
    assert not (tmp_path / "out").exists()


def test_a_models_own_settings_make_a_video_again(tmp_path: Path) -> None:
    """Those that change a stream or what is shown of it, and are in no identity."""
    film(tmp_path / "a.mkv", 5, 1)
    codec, corpus = load("nano"), Corpus(tmp_path, [Entry("a.mkv")], tmp_path / "out", EncodeOptions(9), suffix=None)
    assert code_corpus(corpus, codec) == (1, 0) and code_corpus(corpus, codec) == (0, 1)
    for changed in ({"steps": 3}, {"highest_quality": 5}, {"tile": 64}):
        other = replace(codec, refinement=replace(codec.refinement, **changed))  # type: ignore[arg-type]
        assert (other.coded_identity, other.shown_identity) == (codec.coded_identity, codec.shown_identity)
        assert code_corpus(corpus, other) == (1, 0) and code_corpus(corpus, other) == (0, 1)
    codec.bottleneck.thrift = 0.1
    assert code_corpus(corpus, codec) == (1, 0) and code_corpus(corpus, codec) == (0, 1)


def test_whatever_changes_a_video_makes_it_again(
    tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    films = tmp_path / "films"
    film(films / "a.mkv", 5, 1)
    film(films / "b.mkv", 6, 2)
    call = ("code_corpus.py", films, tmp_path / "out", "--model", "nano", "--device", "cpu", "--no-refine")

    def made(*more: str) -> str:
        assert script(*call, *more) == 0
        return capsys.readouterr().out.splitlines()[0].partition(": ")[2]

    assert made("--precision", "bf16") == "2 videos coded here, 0 were there"
    assert made("--precision", "bf16") == "0 videos coded here, 2 were there"
    assert made("--precision", "fp32") == "2 videos coded here, 0 were there"
    film(films / "b.mkv", 6, 3)  # another film of the same name
    assert made("--precision", "fp32") == "1 videos coded here, 1 were there"
    with open_video(tmp_path / "out" / "decoded" / "b.mkv.mkv") as decoded:
        shown = np.stack(list(decoded))
    assert main(["encode", str(films / "b.mkv"), str(tmp_path / "own.gnvc"), "--model", "nano"]) == 0
    as_there = ("--model", "nano", "--no-refine", "--precision", "fp32")
    assert main(["decode", str(tmp_path / "own.gnvc"), str(tmp_path / "own.mkv"), *as_there]) == 0
    with open_video(tmp_path / "own.mkv") as own:
        assert (np.stack(list(own)) == shown).all()


def test_a_record_is_of_what_its_manifest_says(tmp_path: Path) -> None:
    digest, codec = file_sha256(film(tmp_path / "a.mkv", 6, 1)), load("nano")

    def coded(entry: Entry) -> tuple[int, int]:
        return code_corpus(Corpus(tmp_path, [entry], tmp_path / "out", EncodeOptions(9), suffix=None), codec)

    for entry in (Entry("a.mkv"), Entry("a.mkv", 0, 6), Entry("a.mkv", 0, 6, sha256=digest)):
        assert coded(entry) == (1, 0) and coded(entry) == (0, 1)
    os.utime(tmp_path / "a.mkv", ns=(0, 0))
    assert coded(entry) == (0, 1)  # its sha256 is known
    assert coded(Entry("a.mkv", 0, 6)) == (1, 0)
    (tmp_path / "a.mkv").unlink()
    assert coded(Entry("a.mkv", 0, 6)) == (0, 0)


def test_shares_are_disjoint_whole_and_the_same_after_others(tmp_path: Path) -> None:
    manifest = small(tmp_path / "films")
    film(tmp_path / "films" / "b.mkv", 6, 9)
    root, entries = entries_of(manifest, "videos", None)
    corpus, codec = Corpus(root, entries, tmp_path / "out", EncodeOptions(9), suffix=None, frames=5), load("nano")
    assert code_corpus(corpus, codec, (1, 2)) == (2, 0)
    done = [read_record(corpus, entry) is not None for entry in entries]
    assert done == [False, True, False, True, False]
    assert code_corpus(corpus, codec, (0, 2)) == (3, 0) and code_corpus(corpus, codec) == (0, 5)
    assert not (tmp_path / "out" / "decoded").exists()
    record = read_record(corpus, entries[3])
    assert record is not None and record.encoded["frames"] == 5  # of eight
    corpus.place("records", entries[0], ".json").write_text("{}")
    with pytest.raises(GnvcError, match="not a record of this program"):
        code_corpus(corpus, codec)


def test_a_manifest_that_is_not_so_fails_its_videos_alone(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", 5, 1)
    film(tmp_path / "b.mkv", 5, 2)
    entries = [Entry("a.mkv", 0, 9), Entry("b.mkv", sha256="0" * 64), Entry("b.mkv", 0, 5)]
    corpus = Corpus(tmp_path, entries[:2], tmp_path / "out", EncodeOptions(9))
    assert code_corpus(corpus, load("nano")) == (0, 0)
    errors = [record.error for entry in corpus.entries if (record := read_record(corpus, entry))]
    assert errors == ["5 frames, but the manifest says 9", "its sha256 is not the manifest's"]


def test_jobs_of_an_array_have_a_share_each(
    tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    film(tmp_path / "films" / "a.mkv", 1, 1)
    film(tmp_path / "films" / "b.mkv", 1, 2)
    call = ("code_corpus.py", tmp_path / "films", tmp_path / "out", "--model", "nano", "--device", "cpu", "--no-refine")
    for name, value in (("MIN", "4"), ("COUNT", "2"), ("ID", "5")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert script(*call) == 0
    assert capsys.readouterr().out.splitlines() == [
        "share 2 of 2: 1 videos coded here, 0 were there",
        f"{tmp_path / 'out' / 'table.csv'}: 2 videos, 0 failed, 1 wait for other jobs",
    ]
    assert [row["name"] for row in rows(tmp_path / "out" / "table.csv")] == ["b.mkv"]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "6")
    assert script(*call) == 1
    assert "code_corpus: a SLURM array counts by ones: task 6 of 2 has no share" in capsys.readouterr().err


@pytest.mark.slow
def test_a_thousand_videos_killed_twice_are_each_coded_once(tmp_path: Path) -> None:
    """SIGKILL in the middle of both; then two processes finish, as jobs of an array."""
    films, out = tmp_path / "films", tmp_path / "out"
    kinds = [film(tmp_path / f"kind{n}.mkv", 5 if n == 0 else 1, n) for n in range(8)]
    for number in range(1000):
        target = films / f"{number // 100}" / f"{number:03}.mkv"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kinds[number % 8], target)
    (films / "3" / "333.mkv").write_bytes(b"no film")
    call = [sys.executable, str(SCRIPT), str(films), str(out), "--model", "nano", "--device", "cpu", "--no-refine"]
    for wanted in (200, 450):  # counted where they are: folders of unfinished files come and go beside them
        process = subprocess.Popen(call, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list((out / "records").glob("*/*.json"))) < wanted:
            time.sleep(0.05)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    stamps = {path: path.stat().st_mtime_ns for path in (out / "records").glob("*/*.json")}
    jobs = []
    for number in range(2):
        array = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0"}
        jobs.append(subprocess.Popen(call, env=os.environ | array, stdout=subprocess.PIPE, text=True))
    told = [job.communicate()[0] for job in jobs]
    made = [int(text.split(": ")[1].split()[0]) for text in told]
    whole = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns == stamp]
    failed_before = sum(json.loads(path.read_text())["error"] is not None for path in whole)
    assert sum(made) == 999 - (len(whole) - failed_before) and len(stamps) - len(whole) <= 1  # the failed one again
    table = rows(out / "table.csv")
    assert len(table) == 1000 and [row["name"] for row in rows(out / "failed.csv")] == ["3/333.mkv"]
    kinds_made: dict[int, set[bytes]] = {}
    for row in (row for row in table if not row["error"]):
        kind = int(Path(row["name"]).stem) % 8
        kinds_made.setdefault(kind, set()).add((out / "streams" / f"{row['name']}.gnvc").read_bytes())
    assert len(kinds_made) == 8 and all(len(streams) == 1 for streams in kinds_made.values())  # whoever made them
    assert len(list((out / "decoded").glob("*/*.mkv"))) == 999


@pytest.mark.slow
def test_processes_of_torchrun_share_it_and_wait_for_one_another(tmp_path: Path) -> None:
    """A share with a failure does not end the other's process."""
    manifest, out = small(tmp_path / "films"), tmp_path / "out"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(SCRIPT)]
    call = [*launch, str(manifest), str(out), "--model", "nano", "--device", "cpu", "--no-refine"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "code_corpus: b.mkv: " in done.stderr
    assert "share 1 of 2: 3 videos coded here" in done.stdout and "share 2 of 2: 1 videos coded here" in done.stdout
    assert [row["name"] for row in rows(out / "failed.csv")] == ["b.mkv"] and len(rows(out / "table.csv")) == 5
