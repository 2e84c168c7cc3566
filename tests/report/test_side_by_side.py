"""`gnvc-vd compare … --html DIR`: the page of any videos, and the call that makes it."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gnvc_vd.cli.main import main
from gnvc_vd.evaluate.compare import compare
from gnvc_vd.report.tables import three_digits
from gnvc_vd.video import open_video
from tests.conftest import smooth_clip
from tests.metrics.clips import noisy, write
from tests.report.browser import OVERLAPPING, UNNAMED, Opened, browser, needs_browser
from tests.report.markup import check_stands_alone

Opener = Callable[..., Opened]
METRICS = "psnr_rgb,lpips_alex,ms_ssim"


def videos(folder: Path, tests: int = 2) -> list[str]:
    """A film of 5 frames of 48 × 40 and noisy versions of it, the noisier the later; the last one is shorter."""
    clip = smooth_clip(40, 48, 5)
    paths = [write(folder / "film.mkv", clip)]
    for number in range(1, tests + 1):
        (folder / f"v{number}").mkdir()
        seen = noisy(clip, 4 * number)
        paths.append(write(folder / f"v{number}" / "out.mkv", seen[:4] if number == tests else seen))
    return [*map(str, paths)]


def data_of(page: Path) -> dict:  # type: ignore[type-arg]
    held = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert held is not None
    found = json.loads(held[1])
    assert isinstance(found, dict)
    return found


def test_a_page_holds_the_videos_and_their_figures(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(Path.home() / "no torch home"))
    film, first, second = videos(tmp_path)
    folder = tmp_path / "new" / "page"
    assert main(["compare", film, first, second, "--metrics", METRICS, "--html", str(folder)]) == 0
    out, said = capfd.readouterr()
    assert out.splitlines()[-1] == str(folder / "index.html") and f"{second} ends after 4 frames" in said
    assert [path.name for path in folder.iterdir()] == ["index.html"]  # one file, and no leftovers
    text = (folder / "index.html").read_text(encoding="utf-8")
    check_stands_alone(text)
    assert "<h1>v1/out.mkv and v2/out.mkv against film.mkv</h1>" in text and "4 frames of 48 × 40" in text
    data = data_of(folder / "index.html")
    assert data["source"] == "film.mkv" and [one["key"] for one in data["metrics"]] == ["psnr_rgb"]
    assert [one["label"] for one in data["codecs"]] == ["v1/out.mkv", "v2/out.mkv"]
    assert data["opening"] == {"sequence": "", "rate": 0, "left": "0", "right": "1"}
    assert set(data["videos"]) == {"source/", "0//0", "1//0"} and "files" not in data
    figures = [compare(film, one, metrics=["psnr_rgb"]).figures["psnr_rgb"] for one in (first, second)]
    assert [one["figures"]["psnr_rgb"] for one in data["rows"]] == figures
    cells = "".join(f"<td>{three_digits(value)}</td>" for value in figures)
    assert f'<th scope="row">PSNR RGB, dB</th>{cells}<td>higher</td>' in text
    assert text.count("needs pictures of at least 161 pixels") == 1  # one reason for both videos
    assert "LPIPS (AlexNet): needs torchvision&#x27;s weights ~/no torch home/" in text  # not whose home it is
    assert "<svg" not in text  # nothing of rates


def test_a_single_video_stands_beside_the_reference_and_json_stays_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    film, test = videos(tmp_path, 1)
    call = ["compare", film, test, "--metrics", "psnr_rgb", "--json"]
    assert main([*call, "--html", str(tmp_path), "--frames", "3"]) == 0
    out, said = capfd.readouterr()
    assert json.loads(out)["frames"] == 3 and str(tmp_path / "index.html") in said
    data = data_of(tmp_path / "index.html")
    assert data["opening"] == {"sequence": "", "rate": 0, "left": "source", "right": "0"}
    assert data["clips"][""] == {"width": 48, "height": 40, "frames": 3, "rate": 25.0}
    assert data["source"] == "film.mkv" and data["codecs"][0]["label"] == "out.mkv"


def test_several_videos_are_a_line_of_json_each(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film, first, second = videos(tmp_path)
    assert main(["compare", film, first, second, "--metrics", "psnr_rgb", "--json"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [one["test"] for one in lines] == [first, second]
    assert [one["frames"] for one in lines] == [5, 4] and lines[0]["psnr_rgb"] > lines[1]["psnr_rgb"]
    assert main(["compare", film, first, second, "--metrics", "psnr_rgb"]) == 0
    said = capfd.readouterr().out
    assert f"{first}: 5 frames of 48×40\n" in said and f"{second}: 4 frames of 48×40\n" in said


def test_videos_too_large_for_a_page_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnvc_vd.report.player.MAX_VIDEO_BYTES", 100)
    film, test = videos(tmp_path, 1)
    for _ in range(2):  # the second call replaces what the first one made
        assert main(["compare", film, test, "--metrics", "psnr_rgb", "--html", str(tmp_path / "page")]) == 0
    assert sorted(path.name for path in (tmp_path / "page").rglob("*")) == [
        "0.mp4",
        "1.mp4",
        "index.html",
        "index_files",
    ]
    data = data_of(tmp_path / "page" / "index.html")
    assert data["files"] == {"source/": "index_files/0.mp4", "0//0": "index_files/1.mp4"} and "videos" not in data
    with open_video(tmp_path / "page" / "index_files" / "1.mp4") as copy:
        assert (copy.info.width, copy.info.height, len(list(copy))) == (48, 40, 4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-", "test", "--html", "page"], "standard input can be read once"),
        (["film", "test", "-"], "standard input can be read once"),
        (["film", "test", "--html", "film"], "is a file: --html takes a folder"),
    ],
)
def test_a_call_that_cannot_be_is_refused_before_anything_is_computed(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("film", "test"):
        Path(name).write_bytes(b"no video")
    assert main(["compare", *arguments]) == 2
    out, said = capfd.readouterr()
    assert out == "" and sentence in said and said.count("\n") == 1


@pytest.fixture(scope="module")
def opener() -> Iterator[Opener]:
    with browser() as opened:
        yield opened


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("largest", [10**8, 100], ids=["in the page", "beside it"])
def test_it_plays_in_a_browser(opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    monkeypatch.setattr("gnvc_vd.report.player.MAX_VIDEO_BYTES", largest)
    film, first, second = videos(tmp_path)
    assert main(["compare", film, first, second, "--metrics", "psnr_rgb", "--html", str(tmp_path / "page")]) == 0
    page = opener(
        tmp_path / "page" / "index.html", viewport={"width": 390, "height": 844}, color_scheme="dark"
    ).started()
    assert page.js("[$('left').selectedOptions[0].text, $('right').selectedOptions[0].text]") == [
        "v1/out.mkv",
        "v2/out.mkv",
    ]
    assert page.js("[...$('loupe').querySelectorAll('figcaption')].map(one => one.textContent)") == [
        *("film.mkv", "v1/out.mkv", "v2/out.mkv")
    ]
    assert page.js("[...$('strips').querySelectorAll('figcaption')].map(one => one.textContent)") == [
        *("film.mkv", "v1/out.mkv", "v2/out.mkv")
    ]
    assert page.js("[$('of-sequence'), $('of-rate')].every(one => one.hidden)")
    assert page.js("document.documentElement.scrollWidth") <= 390
    assert page.js(UNNAMED) == [] and page.js(OVERLAPPING) == []
    page.choose(left="source")
    page.page.locator("#frame").fill("2")
    page.settled(2)
    if largest > 100:  # browsers let nobody read the pixels of files beside the page
        with open_video(film) as frames:
            wanted = [frame.astype(float) for frame in frames]
        errors = [np.abs(page.picture("#video-left") - frame).mean() for frame in wanted]
        assert int(np.argmin(errors)) == 2 and errors[2] < 3
    assert page.complaints == []
