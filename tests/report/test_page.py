"""The report in a real browser without network: it hovers, slides, plays, steps, zooms and draws what was decoded."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnvc_vd.evaluate.evaluation import Reporting
from gnvc_vd.evaluate.points import Point
from gnvc_vd.evaluate.run import evaluate, player_path
from gnvc_vd.report.curves import differences, rows_of
from gnvc_vd.report.evaluation_report import our_tables
from gnvc_vd.report.page import page
from gnvc_vd.video import open_video
from tests.evaluate.evaluations import FRAMES, SIDE, evaluation, made_up_set

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
PATIENCE = 60.0  # seconds
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: the report's page was not tried"),
]


@dataclass
class Opened:
    """A page of a report in a browser, and all that it complained of."""

    page: Any
    folder: Path
    points: tuple[Point, ...]
    complaints: list[str] = field(default_factory=list)

    def js(self, code: str) -> Any:
        return self.page.evaluate(code)

    def until(self, code: str, what: Callable[[Any], bool] = bool) -> Any:
        """Its value once it is as wanted; the page forbids the eval that the browser's own waiting takes."""
        end = time.monotonic() + PATIENCE
        while not what(value := self.js(code)):
            assert time.monotonic() < end, f"{code} stays {value}; complaints: {self.complaints}"
            time.sleep(0.05)
        return value

    def choose(self, **values: str) -> None:
        for name, value in values.items():
            self.page.locator(f"#{name.replace('_', '-')}").select_option(value)
        self.settled()

    def settled(self, frame: int | None = None) -> None:
        """Both videos stand where the page wants them."""
        both = "['left', 'right'].map(side => document.getElementById('video-' + side))"
        self.until(f"{both}.every(video => video.readyState >= 2 && !video.seeking)")
        if frame is not None:
            wanted = (frame + 0.5) / 25
            self.until(f"{both}.every(video => Math.abs(video.currentTime - {wanted}) < 0.005 && !video.seeking)")

    def picture(self, selector: str) -> np.ndarray:
        """What a video or canvas shows, as H W 3."""
        code = f"""(() => {{
            const source = document.querySelector({selector!r});
            const [width, height] = [source.videoWidth || source.width, source.videoHeight || source.height];
            const canvas = Object.assign(document.createElement("canvas"), {{ width, height }});
            const context = canvas.getContext("2d");
            context.drawImage(source, 0, 0);
            return [width, height, [...context.getImageData(0, 0, width, height).data]];
        }})()"""
        width, height, values = self.js(code)
        return np.array(values, np.float64).reshape(height, width, 4)[..., :3]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: the report's page was not tried")
    folder = tmp_path_factory.mktemp("page")
    made_up_set(folder)
    whole = evaluation(folder, report=Reporting(anchor="x265", rates=(0.1, 1.0)))
    points = evaluate(whole, "cpu").points
    assert points is not None
    rows = rows_of(points)
    found = differences(rows, "x265", whole.metrics)
    tables = our_tables(rows, found, "x265", whole.metrics)
    (folder / "index.html").write_text(page(whole, points, rows, [], tables, "about it"), encoding="utf-8")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(offline=True, viewport={"width": 1200, "height": 1000})
        shown = Opened(context.new_page(), folder, points)
        shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        shown.page.on("console", lambda said: shown.complaints.append(f"{said.type}: {said.text}"))
        shown.page.on("requestfailed", lambda request: shown.complaints.append(f"failed: {request.url[:80]}"))
        shown.page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file:", "blob:", "data:"))
                else shown.complaints.append(f"asked for {request.url[:80]}")
            ),
        )
        shown.page.goto((folder / "index.html").as_uri())
        shown.settled()
        yield shown
        browser.close()


@pytest.fixture(autouse=True)
def no_complaints(opened: Opened) -> Iterator[None]:
    yield
    assert opened.complaints == []


def shown_frames(opened: Opened, codec: str, sequence: str, level: int = 0) -> list[np.ndarray]:
    with open_video(player_path(opened.folder / "out", codec, sequence, level)) as video:
        return [frame.astype(float) for frame in video]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def test_a_point_answers_to_hovering_with_its_own_figures(opened: Opened) -> None:
    opened.page.locator("#metric").select_option("psnr_yuv")
    opened.page.locator("#curve-sequence").select_option("s1")
    circles = opened.page.locator("#curves circle")
    assert circles.count() == 6
    mine = sorted(
        (one for one in opened.points if one.sequence == "s1" and one.codec == "x264"), key=lambda one: one.bpp
    )
    for place, point in enumerate(mine):
        box = circles.nth(place).bounding_box()
        opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        text = opened.page.locator("#tip").inner_text()
        assert f"x264, level {point.level}" in text and f"{point.bpp:.5f} bpp" in text
        assert f"PSNR YUV 6:1:1, dB  {point.figures['psnr_yuv']:.2f}" in text and f"{point.bytes} bytes" in text
    opened.page.mouse.move(5, 5)
    assert opened.page.locator("#tip").is_hidden()
    opened.page.locator("#legend button", has_text="x264").click()
    assert circles.count() == 3
    opened.page.locator("#legend button", has_text="x264").click()
    assert circles.count() == 6


def test_a_click_on_a_point_shows_it(opened: Opened) -> None:
    opened.page.locator("#curve-sequence").select_option("s1")
    box = opened.page.locator("#curves circle").nth(3).bounding_box()  # x265's lowest rate
    opened.page.mouse.click(box["x"] + 4, box["y"] + 4)
    opened.settled()
    assert (
        opened.page.locator("#sequence").input_value() == "s1" and opened.page.locator("#right").input_value() == "x265"
    )
    tag = opened.page.locator("#pane-right .tag").inner_text()
    lowest = min(one.bpp for one in opened.points if one.codec == "x265" and one.sequence == "s1")
    assert tag == f"x265 · {lowest:.3f} bpp" if lowest >= 0.1 else f"x265 · {lowest:.4f} bpp"


def test_the_slider_moves_where_the_pictures_meet(opened: Opened) -> None:
    opened.choose(sequence="s0", rate="0", left="source", right="x264", view="split")
    stage = opened.page.locator("#stage").bounding_box()
    seen = {}
    for place in (100, 500, 900):
        opened.page.locator("#wipe").fill(str(place))
        divider = opened.page.locator("#divider").bounding_box()
        assert divider["x"] + 1 == pytest.approx(stage["x"] + stage["width"] * place / 1000, abs=2)
        seen[place] = opened.js("getComputedStyle(document.getElementById('pane-right')).clipPath")
    assert seen == {place: f"inset(0px 0px 0px {place / 10:g}%)" for place in seen}
    pictures = []
    for place in (0, 1000):
        opened.page.locator("#wipe").fill(str(place))
        pictures.append(opened.page.locator("#stage").screenshot())
    opened.page.locator("#left").select_option("x264")
    opened.settled()
    assert pictures[0] != pictures[1]


def test_a_frame_step_shows_that_frame_of_both_videos(opened: Opened) -> None:
    opened.choose(sequence="s0", rate="0", left="source", right="x265")
    level = next(iter(opened.js("JSON.parse(document.getElementById('data').textContent).shown.s0.x265").values()))
    frames = {"left": shown_frames(opened, "source", "s0"), "right": shown_frames(opened, "x265", "s0", level)}
    opened.page.locator("#frame").fill("0")
    opened.settled(0)
    for number in (1, 2, 3, 2):
        now = int(opened.page.locator("#frame").input_value())
        opened.page.locator("#forward" if number > now else "#back").click()
        opened.settled(number)
        assert opened.page.locator("#count").inner_text() == f"{number + 1} / {FRAMES}"
        for side, own in frames.items():
            picture = opened.picture(f"#video-{side}")
            errors = [apart(picture, frame) for frame in own]
            assert int(np.argmin(errors)) == number and errors[number] < 3


def test_it_plays_and_pauses(opened: Opened) -> None:
    opened.choose(sequence="s1", speed="0.25")
    opened.page.locator("#frame").fill("0")
    opened.settled(0)
    opened.page.locator("#play").click()
    assert opened.page.locator("#play").inner_text() == "pause"
    opened.until("document.getElementById('video-left').currentTime", lambda now: now > 1.5 / 25)
    opened.page.locator("#play").click()
    opened.until("document.getElementById('video-left').paused && document.getElementById('video-right').paused")
    assert opened.page.locator("#play").inner_text() == "play"
    left, right = (opened.js(f"document.getElementById('video-{side}').currentTime") for side in ("left", "right"))
    opened.settled()
    assert abs(left - right) < 1.5 / 25


def test_zoom_is_one_for_both_and_returns(opened: Opened) -> None:
    for view in ("split", "beside"):
        opened.choose(view=view)
        opened.page.locator("#stage").scroll_into_view_if_needed()
        box = opened.page.locator("#pane-left").bounding_box()
        opened.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
        opened.page.mouse.wheel(0, -400)
        opened.until("document.getElementById('video-left').style.transform", lambda said: "scale(2.7" in said)
        both = [opened.js(f"document.getElementById('video-{side}').style.transform") for side in ("left", "right")]
        assert both[0] == both[1]
        opened.page.mouse.down()
        opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
        opened.page.mouse.up()
        moved = [opened.js(f"document.getElementById('video-{side}').style.transform") for side in ("left", "right")]
        assert moved[0] == moved[1] != both[0]
        opened.page.locator("#reset").click()
        assert opened.js("document.getElementById('video-right').style.transform").endswith("scale(1)")
    opened.choose(view="split")


def test_the_flicker_view_is_a_row_of_every_frame(opened: Opened) -> None:
    opened.choose(sequence="s0", rate="1")
    row = 20
    opened.page.locator("#row").fill(str(row))
    opened.page.locator("#draw").click()
    opened.until("document.getElementById('strips').dataset.row", lambda found: found == str(row))
    names = opened.js("[...document.querySelectorAll('#strips canvas')].map(canvas => canvas.dataset.codec)")
    assert names == ["source", "x264", "x265"]
    shown = opened.js("JSON.parse(document.getElementById('data').textContent).shown.s0")
    for name in names:
        level = 0 if name == "source" else shown[name]["1"]
        strip = opened.picture(f"#strips canvas[data-codec={name}]")
        wanted = np.stack([frame[row] for frame in shown_frames(opened, name, "s0", level)])
        assert strip.shape == (FRAMES, SIDE, 3) and apart(strip, wanted) < 3
        assert apart(strip, wanted) < 0.5 * apart(strip, wanted[::-1])


def test_tables_and_commands_are_there_to_read(opened: Opened) -> None:
    text = opened.page.locator("#tables").inner_text()
    assert "BD-rate against x265" in text and "Rate and quality, s1" in text
    assert opened.page.locator("#commands details").count() == 12
    opened.page.locator("#commands summary").first.click()
    assert "ffmpeg -nostdin" in opened.page.locator("#commands code").first.inner_text()
    assert opened.page.locator("#about").inner_text() == "about it"
