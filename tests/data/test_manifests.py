"""Manifests: what they say comes back, what they must not say is refused, and scanning names what is broken."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from gnvc_vd.conventions import GnvcError
from gnvc_vd.data.clips import ClipSpec, VideoClips
from gnvc_vd.data.manifests import (
    Entry,
    candidates,
    inside,
    read_manifest,
    relative,
    scan,
    split_of,
    write_manifest,
)
from gnvc_vd.video import VideoError
from tests.conftest import names_beside, noise_clip, smooth_clip
from tests.data.material import film, numbered, photo, run_script

HEADER = '{"format": 1, "kind": "videos"}'


def manifest(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_entries_come_back_as_they_were_written(tmp_path: Path) -> None:
    entries = [
        Entry("a/ü name, with comma.mp4", 3, 240, 1280, 720, 23.976024, "validation", "0" * 64),
        Entry("b.mkv"),
    ]
    write_manifest(tmp_path / "m.jsonl", "videos", entries)
    assert read_manifest(tmp_path / "m.jsonl", "videos") == entries
    assert read_manifest(tmp_path / "m.jsonl", "videos", "validation") == entries[:1]
    assert names_beside(tmp_path) == ["m.jsonl"]
    first, second, third = (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(first) == {"format": 1, "kind": "videos"}
    assert json.loads(second)["path"] == "a/ü name, with comma.mp4" and "sha256" not in third


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "/etc/passwd",
        "../a.mp4",
        "a/../../b.mp4",
        "a\\b.mp4",
        "C:/a.mp4",
        "file:a.mp4",
        "a\nb.mp4",
        "a\0.mp4",
        "x" * 1001,
    ],
)
def test_paths_that_lead_out_or_are_none_are_refused(tmp_path: Path, path: str) -> None:
    assert not relative(path) or len(path) > 1000
    with pytest.raises(GnvcError, match=r"line 2.*path"):
        read_manifest(manifest(tmp_path, json.dumps({"path": path})), "videos")


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    film(outside / "a.mkv", numbered(9))
    film(root / "b.mkv", numbered(9))
    (root / "a.mkv").symlink_to(outside / "a.mkv")
    (root / "c.mkv").symlink_to(root / "b.mkv")
    with pytest.raises(VideoError, match="lies outside"):
        inside(root, "a.mkv")
    assert inside(root, "c.mkv") == root / "c.mkv"
    clips = VideoClips(root, ClipSpec(5, 16, 32))
    for number in range(6):
        clips[number]
    assert clips.skipped == {"a.mkv": "cannot be read"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"path": "a.mp4", "size": 3}'], r"line 2 holds an unknown key 'size'"),
        (["{}"], r"line 2 lacks 'path'"),
        (["[]"], r"line 2 should be an object"),
        (["not json"], r"line 2: not JSON"),
        ([""], r"line 2: not JSON"),
        (['{"path": "a.mp4", "frames": "9"}'], r"frames should be int"),
        (['{"path": "a.mp4", "frames": -1}'], r"is negative"),
        (['{"path": "a.mp4", "frames": 1e400}'], r"frames should be int"),
        (['{"path": "a.mp4", "start": true}'], r"start should be int"),
        (['{"path": "a.mp4", "width": 100000}'], r"more than 16383 pixels"),
        (['{"path": "a.mp4", "fps": NaN}'], r"fps"),
        (['{"path": "a.mp4", "split": "test"}'], r"split 'test' is neither"),
        (['{"path": "a.mp4", "sha256": "abc"}'], r"64 lower-case"),
        (['{"path": "a.mp4"}', '{"path": "' + "x" * 9000 + '"}'], r"line 3: too long"),
        (["[" * 5000], r"line 2: not JSON"),
    ],
)
def test_what_is_no_entry_is_refused_by_its_line(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(GnvcError, match=said):
        read_manifest(manifest(tmp_path, *lines), "videos")


@pytest.mark.parametrize(
    "header", ['{"format": 2, "kind": "videos"}', '{"format": 1, "kind": "photos"}', "{}", '{"path": "a"}']
)
def test_other_formats_and_kinds_are_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(GnvcError, match=r"not format 1 of 'videos'|line 1"):
        read_manifest(manifest(tmp_path, '{"path": "a.mp4"}', header=header), "videos")


def test_missing_and_empty_manifests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GnvcError, match="missing"):
        read_manifest(tmp_path / "m.jsonl", "videos")
    (tmp_path / "m.jsonl").write_bytes(b"")
    with pytest.raises(GnvcError, match="line 1 should be an object"):
        read_manifest(tmp_path / "m.jsonl", "videos")


def test_splits_hang_on_the_name_alone() -> None:
    names = [f"{k}.mp4" for k in range(2000)]
    kept = {name for name in names if split_of(name, 0.1) == "validation"}
    assert 150 < len(kept) < 250
    assert kept <= {name for name in names if split_of(name, 0.2) == "validation"}
    assert not any(split_of(name, 0.0) == "validation" for name in names)
    digest = hashlib.sha256(b"7.mp4").digest()
    assert split_of("7.mp4", int.from_bytes(digest[:8]) / 2**64 + 1e-9) == "validation"
    assert split_of("7.mp4", int.from_bytes(digest[:8]) / 2**64 - 1e-9) == "train"


def test_candidates_are_of_one_kind_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "z").mkdir()
    (tmp_path / "folder.mp4").mkdir()
    for name in ("b.MP4", "a.mkv", "z/c.webm", "p.JPG", "q.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert candidates(tmp_path, "videos") == ["a.mkv", "b.MP4", "z/c.webm"]
    assert candidates(tmp_path, "photos") == ["p.JPG", "q.png"]
    with pytest.raises(GnvcError, match="no such folder"):
        candidates(tmp_path / "nothing", "videos")


def test_a_film_is_one_entry_or_one_for_each_scene(tmp_path: Path) -> None:
    dark, bright = np.zeros((32, 48, 3), np.uint8), np.full((32, 48, 3), 200, np.uint8)
    path = film(tmp_path / "a.mkv", [dark] * 12 + [bright] * 4 + [dark] * 20)
    assert scan(tmp_path, "a.mkv", "videos", 0.0) == [Entry("a.mkv", 0, 36, 48, 32, 25.0)]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    scenes = scan(tmp_path, "a.mkv", "videos", 0.0, with_hash=True, by_scene=True)
    assert scenes == [
        Entry("a.mkv", 0, 12, 48, 32, 25.0, "train", digest),
        Entry("a.mkv", 16, 20, 48, 32, 25.0, "train", digest),
    ], "four frames are too few for an entry"
    assert [entry.name for entry in scenes] == ["a.mkv", "a.mkv[16:36]"]


def test_a_photograph_is_an_entry(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", 40, 50)
    assert scan(tmp_path, "a.png", "photos", 1 - 1e-9) == [Entry("a.png", 0, 1, 50, 40, 0.0, "validation")]


def test_the_script_names_what_is_broken_and_writes_what_training_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(3):
        film(tmp_path / f"{k}.mkv", smooth_clip(32, 48, 12, seed=k))
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    damaged = film(tmp_path / "torn.avi.mkv", noise_clip(32, 48, 12))
    damaged.write_bytes(damaged.read_bytes()[:30_000])
    assert run_script("scripts/prepare_data.py", tmp_path, "--validation", 0) == 0
    out, err = capsys.readouterr()
    assert "4 entries, 0 of them for validation; 1 files left out" in out
    assert "left out:" in err and "broken.mp4: not a video that can be read" in err
    options = ["--validation", 0.4, "--check", "--hash", "--name", "checked.jsonl"]
    assert run_script("scripts/prepare_data.py", tmp_path, *options) == 0
    out, err = capsys.readouterr()
    assert "2 files left out" in out and "torn.avi.mkv: damaged or cut" in err
    entries = read_manifest(tmp_path / "checked.jsonl", "videos")
    assert [(entry.path, entry.frames) for entry in entries] == [("0.mkv", 12), ("1.mkv", 12), ("2.mkv", 12)]
    assert {entry.split for entry in entries} <= {"train", "validation"}
    assert all(entry.sha256 and entry.split == split_of(entry.path, 0.4) for entry in entries)
    clips = VideoClips(tmp_path / "checked.jsonl", ClipSpec(9, 16, 32), split=None)
    assert clips[0].shape == (3, 9, 16, 32) and len(clips) == 3


def test_the_script_refuses_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_script("scripts/prepare_data.py", tmp_path) == 1
    assert capsys.readouterr().err.strip() == f"prepare_data: {tmp_path}: no videos that can be read"
    assert run_script("scripts/prepare_data.py", tmp_path, "--name", "../m.jsonl") == 2
    assert run_script("scripts/prepare_data.py", tmp_path, "--validation", "1") == 2
    assert list(tmp_path.iterdir()) == []
