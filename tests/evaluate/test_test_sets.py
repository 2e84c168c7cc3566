"""Test sets as they ship, and their protocol in GOPs."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gnvc_vd.bitstream.gop import split_gops
from gnvc_vd.conventions import Colour, GnvcError, UsageError
from gnvc_vd.evaluate import sequences
from gnvc_vd.evaluate.protocols import read_protocol
from gnvc_vd.evaluate.sequences import prepare
from gnvc_vd.evaluate.test_sets import ASSETS, CLIPS, SHIPPED, Sequence, film_of, read_manifest
from gnvc_vd.video import open_video
from tests.data.material import run_script

FRAMES = {"uvg": 7, "mcl-jcv": 30, "hevc-b": 5}


@pytest.mark.parametrize("name", FRAMES)
def test_published_sets_are_96_frames_in_gops_of_25_25_25_and_21(name: str) -> None:
    manifest = read_manifest(name)
    assert len(manifest.sequences) == FRAMES[name] and manifest.frames == 96
    assert [len(gop) for gop in split_gops(range(manifest.frames), manifest.gop)] == [25, 25, 25, 21]
    for one in manifest.sequences:
        assert (one.width, one.height) == (1920, 1080) and one.frames >= 96 and one.file.endswith(".yuv")
        assert one.colour == Colour("bt709", "limited") and one.raw is not None
        assert one.clip(manifest.frames).frames == 96 and one.raw.frame_bytes() == 1920 * 1080 * 3 // 2
        stated_rate = one.file.removesuffix("_420_8bit_YUV.yuv").removesuffix("fps.yuv").removesuffix(".yuv")
        assert stated_rate.removesuffix("fps").rpartition("_")[2] == one.rate


def test_a_set_states_frames_as_its_authors_count_them() -> None:
    by_name = {one.name: one for set_ in FRAMES for one in read_manifest(set_).sequences}
    assert by_name["ShakeNDry"].frames == 300 and by_name["Beauty"].frames == 600 and by_name["Cactus"].frames == 500
    jcv = read_manifest("mcl-jcv").sequences
    assert all(one.frames == 5 * int(one.rate) for one in jcv)
    assert [sum(one.rate == rate for one in jcv) for rate in ("24", "25", "30")] == [7, 7, 16]


def test_the_shipped_clips_are_small_attributed_and_what_their_manifest_says() -> None:
    assert "small" in SHIPPED
    manifest = read_manifest("small")
    notes = (CLIPS / "README.md").read_text()
    assert sum(path.stat().st_size for path in CLIPS.iterdir()) < 2 * 10**6
    for one in manifest.sequences:
        film, _ = film_of(one, CLIPS)
        with open_video(film) as video:
            assert sum(1 for _ in video) == one.frames
            assert (video.info.width, video.info.height, str(video.info.rate)) == (one.width, one.height, one.rate)
            assert video.info.colour == one.colour and video.info.notices == ()
        assert one.file in notes
    assert "Blender Foundation" in notes and "CC BY 3.0" in notes and "CC0" in notes


def test_a_source_is_made_once_and_again_when_it_should_differ(tmp_path: Path) -> None:
    bunny = read_manifest("small").sequences[0]
    first = prepare(bunny, CLIPS, 3, tmp_path)
    stamp = first.path.stat().st_mtime_ns
    assert prepare(bunny, CLIPS, 3, tmp_path) == first and first.path.stat().st_mtime_ns == stamp
    assert first.sha256 == bunny.sha256 and first.clip.frames == 3
    again = prepare(bunny, CLIPS, 2, tmp_path)
    assert again.path.stat().st_mtime_ns != stamp
    with open_video(again.path) as video, open_video(CLIPS / bunny.file) as film:
        pairs = list(zip(video.pictures(), film.pictures(), strict=False))
    assert len(pairs) == 2 and all(a.planes and b.planes and a.planes.tobytes() == b.planes.tobytes() for a, b in pairs)


def test_a_crop_is_the_middle_code_for_code(tmp_path: Path) -> None:
    bunny = read_manifest("small").sequences[0]
    crop = (38, 30)
    found = prepare(bunny, CLIPS, 2, tmp_path, crop)
    assert (found.clip.width, found.clip.height) == crop
    with open_video(found.path) as video, open_video(CLIPS / bunny.file) as film:
        for ours, theirs in zip(video.pictures(), film.pictures(), strict=False):
            assert ours.planes is not None and theirs.planes is not None
            (y, u, v), (whole_y, whole_u, whole_v) = ours.planes.codes, theirs.planes.codes
            assert np.array_equal(y, whole_y[74:104, 140:178])  # 180 − 30 and 320 − 38 halved, to even places
            for part, whole in ((u, whole_u), (v, whole_v)):
                assert np.array_equal(part, whole[37:52, 70:89])
    stamp = found.path.stat().st_mtime_ns
    assert prepare(bunny, CLIPS, 2, tmp_path, [38, 30]).path.stat().st_mtime_ns == stamp
    assert prepare(bunny, CLIPS, 2, tmp_path, (36, 30)).path.stat().st_mtime_ns != stamp
    with pytest.raises(GnvcError, match="cannot be cropped to 322×30"):
        prepare(bunny, CLIPS, 2, tmp_path, (322, 30))


def test_a_source_is_of_the_manifest_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Sequence("s", "s.yuv", 32, 16, "25", 2)
    (tmp_path / "s.yuv").write_bytes(bytes(range(256)) * 12)  # four frames of 32 × 16, or two of 32 × 32
    first = prepare(raw, tmp_path, 2, tmp_path)
    for other in (replace(raw, height=32), replace(raw, rate="50"), replace(raw, matrix="bt601")):
        with open_video(prepare(other, tmp_path, 2, tmp_path).path) as video:
            found = video.info
        assert (found.height, found.rate, found.colour) == (other.height, int(other.rate), other.colour)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    assert prepare(raw, tmp_path, 2, tmp_path) == first
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sequences.json, "dumps", killed)  # the source is another's now, and nothing says so yet
        prepare(replace(raw, height=32), tmp_path, 2, tmp_path)
    with open_video(prepare(raw, tmp_path, 2, tmp_path).path) as video:
        assert video.info.height == 16


def test_what_is_not_there_or_not_so_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GnvcError, match="no manifest 'vimeo'; there are hevc-b, mcl-jcv, public, small, uvg"):
        read_manifest("vimeo")
    bunny, city = read_manifest("small").sequences
    shutil.copy(CLIPS / city.file, tmp_path / bunny.file)
    with pytest.raises(GnvcError, match="is not the manifest's file"):
        film_of(bunny, tmp_path)
    with pytest.raises(GnvcError, match=r"city\.mp4: missing; give the folder that holds it with root="):
        film_of(city, tmp_path)
    plain = json.loads((ASSETS / "manifests" / "small.json").read_text())
    for change, said in (
        ({"gop": 24}, "GOP"),
        ({"format": 2}, "format 2"),
        ({"strange": 1}, "unknown key 'strange'"),
        ({"sequences": []}, "a name of its own"),
        ({"sequences": [plain["sequences"][0]] * 2}, "a name of its own"),
        ({"sequences": [{**plain["sequences"][0], "name": "../x"}]}, "they name files and folders"),
        ({"sequences": [{**plain["sequences"][0], "name": "-y"}]}, "they name files and folders"),
        ({"sequences": [{**plain["sequences"][0], "name": "mean"}]}, "the name of the average"),
        ({"sequences": [{**plain["sequences"][0], "matrix": "bt470"}]}, "'bt470' is none of"),
        ({"sequences": [{**plain["sequences"][0], "rate": "0"}]}, "positive"),
    ):
        (tmp_path / "set.json").write_text(json.dumps({**plain, **change}))
        with pytest.raises(GnvcError, match=said):
            read_manifest(str(tmp_path / "set.json"))
    wrong = {**plain["sequences"][0], "width": 322, "sha256": None}
    (tmp_path / "set.json").write_text(json.dumps({**plain, "sequences": [wrong]}))
    with pytest.raises(GnvcError, match=r"width=320.*the manifest says.*width=322"):
        prepare(read_manifest(str(tmp_path / "set.json")).sequences[0], CLIPS, 2, tmp_path)


def test_what_a_folder_lacks_of_a_set_is_said_file_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seven files of UVG's names, small: whole, longer, in an archive, absent, cut short, of another size, odd."""
    names = [one.name for one in read_manifest("uvg").sequences]
    entries = [{"name": name, "file": f"{name}.yuv", "width": 32, "height": 16, "rate": "120"} for name in names]
    about = {"format": 1, "title": "UVG, small", "home": "nowhere", "licence": "", "frames": 3, "gop": 25}
    whole = {**about, "checksums": "none", "sequences": [{**one, "frames": 5} for one in entries]}
    (tmp_path / "set.json").write_text(json.dumps(whole))
    films, frame = tmp_path / "films", b"x" * (32 * 16 * 3 // 2)
    films.mkdir()
    for name, data in zip(
        (names[0], names[1], names[4], names[5]), (frame * 5, frame * 6, frame * 4, frame * 2), strict=True
    ):
        (films / f"{name}.yuv").write_bytes(data)
    (films / f"{names[2]}_RAW.7z").touch()
    (films / f"{names[6]}.yuv").write_bytes(frame * 5 + b"y")
    arguments = ("--check-set", tmp_path / "set.json", films)
    assert run_script("scripts/prepare_data.py", *arguments) == 1
    lines = {line.split()[0]: line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()[1:8]}
    assert list(lines.values()) == [
        "ok",
        "ok",
        f"missing; there is {names[2]}_RAW.7z: unpack it, or rename it",
        "missing",
        "4 frames of 32×16 yuv420p, but the manifest says 5",
        "1536 bytes: 2 frames of 32×16 yuv420p and 0 bytes; cut short, or of another format",
        "3841 bytes: 5 frames of 32×16 yuv420p and 1 bytes; cut short, or of another format",
    ]
    for name in names:
        (films / f"{name}.yuv").write_bytes(frame * 5)
    assert run_script("scripts/prepare_data.py", *arguments, "--hash") == 0
    out = capsys.readouterr().out
    assert out.count(hashlib.sha256(frame * 5).hexdigest()) == 7 and out.endswith("checksums: none\nnothing lacks\n")
    assert run_script("scripts/prepare_data.py", "--check-set", "vimeo", films) == 1
    assert capsys.readouterr().err.startswith("prepare_data: there is no manifest 'vimeo'; there are hevc-b")
    assert run_script("scripts/prepare_data.py", "--check-set", "small", CLIPS) == 0
    (films / "bunny.mp4").write_bytes((CLIPS / "city.mp4").read_bytes())
    assert run_script("scripts/prepare_data.py", "--check-set", "small", films) == 1
    assert "bunny.mp4: another file: its sha256 is not the manifest's" in capsys.readouterr().out
    assert not (films / "manifest.jsonl").exists()


def test_every_published_set_says_whether_its_owners_publish_checksums() -> None:
    assert all(
        "publish" in read_manifest(name).checksums or "public" in read_manifest(name).checksums for name in FRAMES
    )


def test_the_papers_protocol_is_that_of_the_published_sets() -> None:
    protocol = read_protocol("gnvc-vd")
    for name in FRAMES:
        manifest = read_manifest(name)
        assert (manifest.frames, manifest.gop) == (protocol.frames, protocol.gop) == (96, 25)
        for one in manifest.sequences:
            assert (one.width, one.height, str(one.colour)) == (protocol.width, protocol.height, protocol.colour)
    assert {"lpips_alex", "lpips_vgg", "dists"} <= protocol.measures.keys()  # the paper names no network of LPIPS
    assert [len(gop) for gop in split_gops(range(99), read_protocol("gvc").gop)] == [33, 33, 33]
    with pytest.raises(UsageError, match="no protocol 'vtm'; there are gnvc-vd, gvc"):
        read_protocol("vtm")
