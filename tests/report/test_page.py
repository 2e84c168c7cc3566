"""The report in a real browser without network: it plays, hovers, slides, steps, zooms and draws what was decoded."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gnvc_vd.evaluate.evaluation import ReportOptions
from gnvc_vd.evaluate.points import Point
from gnvc_vd.evaluate.run import evaluate, player_path
from gnvc_vd.report.curves import differences, rows_of
from gnvc_vd.report.evaluation_report import our_tables
from gnvc_vd.report.page import page
from gnvc_vd.report.tables import three_digits
from gnvc_vd.video import open_video
from tests.evaluate.evaluations import FRAMES, SIDE, evaluation, made_up_set
from tests.report.browser import CONTRASTS, OVERLAPPING, SMALLEST_TEXT, UNNAMED, Opened, browser, needs_browser

pytestmark = [pytest.mark.slow, needs_browser]
Opener = Callable[..., Opened]


@pytest.fixture(scope="module")
def opener() -> Iterator[Opener]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> tuple[Point, ...]:
    folder = tmp_path_factory.mktemp("page")
    made_up_set(folder)
    whole = evaluation(folder, report=ReportOptions(anchor="x265", rates=(0.1, 1.0)))
    points = evaluate(whole, "cpu").points
    assert points is not None
    rows = rows_of(points)
    found = differences(rows, "x265", whole.metrics)
    tables = our_tables(rows, found, "x265", whole.metrics)
    (folder / "index.html").write_text(page(whole, points, rows, [], tables, "about it"), encoding="utf-8")
    return points


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, points: tuple[Point, ...]) -> Path:
    return tmp_path_factory.getbasetemp() / "page0" / "index.html"


@pytest.fixture(scope="module")
def opened(opener: Opener, path: Path) -> Opened:
    return opener(path).started()


@pytest.fixture(autouse=True)
def no_complaints(opened: Opened) -> Iterator[None]:
    yield
    assert opened.complaints == []


def shown_frames(opened: Opened, codec: str, sequence: str, level: int = 0) -> list[np.ndarray]:
    with open_video(player_path(opened.path.parent / "out", codec, sequence, level)) as video:
        return [frame.astype(float) for frame in video]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def test_it_opens_playing_two_streams_in_step_with_a_loupe_and_strips(opener: Opener, path: Path) -> None:
    fresh = opener(path)
    fresh.until("document.getElementById('play').textContent", lambda text: text == "pause")
    first = fresh.js("data.opening")
    assert (fresh.js("$('left').value"), fresh.js("$('right').value")) == (first["left"], first["right"])
    assert {first["left"], first["right"]} == {"x264", "x265"}
    assert fresh.js("document.querySelector('#measures :checked').value") == "psnr_rgb"
    seen = []
    for _ in range(60):  # the clip is a sixth of a second: some rounds of it
        left, right, seeking = fresh.js(
            "[video.left.currentTime, video.right.currentTime, running().some(o => o.seeking)]"
        )
        if not seeking:
            seen.append((left, right))
    assert len({left for left, _ in seen}) > 3  # it moves
    assert np.median([abs(left - right) for left, right in seen]) < 1 / 25
    assert fresh.js("[...$('loupe').querySelectorAll('canvas')].map(one => one.dataset.of)") == [
        "source",
        "left",
        "right",
    ]
    fresh.until("$('strips').dataset.row", lambda row: row == str(SIDE // 2))  # nobody asked
    assert fresh.complaints == []


def test_it_stands_still_for_readers_who_want_no_motion(opener: Opener, path: Path) -> None:
    fresh = opener(path, reduced_motion="reduce")
    fresh.until("document.getElementById('strips').dataset.row")
    assert fresh.js("$('play').textContent") == "play" and fresh.js("video.left.paused && video.right.paused")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_it_can_be_read_in_light_and_dark_wide_and_narrow(opener: Opener, path: Path, scheme: str, width: int) -> None:
    fresh = opener(path, color_scheme=scheme, viewport={"width": width, "height": 844}).started()
    assert fresh.js("document.documentElement.scrollWidth") <= width
    assert fresh.js(OVERLAPPING) == [] and fresh.js(UNNAMED) == []
    contrast = fresh.js(CONTRASTS)
    assert contrast["lowest"] >= 4.5 and (contrast["back"] < 0.05) == (scheme == "dark")
    assert fresh.js(SMALLEST_TEXT) >= 11
    assert fresh.js("$('curves').viewBox.baseVal.width <= $('curves').getBoundingClientRect().width + 1")  # not shrunk
    assert fresh.complaints == []


def test_the_measure_switches_by_mouse_and_key(opened: Opened) -> None:
    assert "PSNR RGB" in opened.js("$('curves').getAttribute('aria-label')")
    opened.page.locator("#measures label", has_text="PSNR YUV").click()
    labels = "[...document.querySelectorAll('#curves .label, #multiples .label')].map(one => one.textContent)"
    rate = "bits per pixel"
    assert opened.js(labels) == [
        *("PSNR YUV 6:1:1, dB (higher is better)", f"{rate} of whole files, logarithmic"),
        *("dB", rate, "dB", rate),  # the two sequences
    ]
    opened.page.keyboard.press("ArrowLeft")
    assert opened.js("metricNow()") == "psnr_rgb" and "PSNR RGB" in opened.js("$('curves').getAttribute('aria-label')")


def test_each_sequence_has_its_own_small_curves_on_the_axes_of_all(opened: Opened) -> None:
    assert opened.js("[...$('multiples').children].map(one => one.dataset.sequence)") == ["s0", "s1"]
    assert opened.js("[...$('multiples').children].map(one => one.querySelectorAll('circle').length)") == [6, 6]
    texts = "[...one.querySelectorAll('text')].map(text => text.textContent).join()"
    ticks = f"[...$('multiples').children].map(one => {texts})"
    one, other = opened.js(ticks)
    assert one == other
    opened.page.locator("#multiples button").nth(1).click()
    assert opened.page.locator("#curve-sequence").input_value() == "s1"
    opened.page.locator("#multiples button").nth(1).click()
    assert opened.page.locator("#curve-sequence").input_value() == "mean"


def test_a_point_answers_to_hovering_with_its_own_figures(opened: Opened, points: tuple[Point, ...]) -> None:
    opened.page.locator("#curve-sequence").select_option("s1")
    circles = opened.page.locator("#curves circle")
    assert circles.count() == 6
    mine = sorted((one for one in points if one.sequence == "s1" and one.codec == "x264"), key=lambda one: one.bpp)
    for place, point in enumerate(mine, 3):  # on top, so after x265's
        box = circles.nth(place).bounding_box()
        opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        text = opened.page.locator("#tip").inner_text()
        assert f"x264, level {point.level}" in text and f"{three_digits(point.bpp)} bpp" in text
        assert f"PSNR YUV 6:1:1, dB  {three_digits(point.figures['psnr_yuv'])}" in text
        assert f"{point.bytes} bytes" in text
    opened.page.mouse.move(5, 5)
    assert opened.page.locator("#tip").is_hidden()
    opened.page.locator("#legend button", has_text="x264").click()
    assert circles.count() == 3
    opened.page.locator("#legend button", has_text="x264").click()
    assert circles.count() == 6


def test_keys_walk_along_the_curves_and_play_a_point(opened: Opened, points: tuple[Point, ...]) -> None:
    opened.page.locator("#curve-sequence").select_option("s0")
    opened.page.locator("#curves").focus()
    said = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
        opened.page.keyboard.press(key)
        said.append(opened.page.locator("#tip").inner_text().splitlines()[:2])
    opened.settled()
    of = {
        name: sorted(one.bpp for one in points if (one.codec, one.sequence) == (name, "s0"))
        for name in ("x264", "x265")
    }
    first, other = opened.js("data.opening.left"), opened.js("data.opening.right")
    assert [line[1] for line in said[:2]] == [f"{three_digits(rate)} bpp" for rate in of[first][:2]]
    assert said[0][0].startswith(first) and said[2][0].startswith(other)
    assert (
        opened.page.locator("#right").input_value() == other and opened.page.locator("#sequence").input_value() == "s0"
    )
    opened.page.locator("#curves").focus()
    opened.page.keyboard.press("Escape")
    assert opened.page.locator("#tip").is_hidden()


def test_a_click_on_a_point_shows_it(opened: Opened, points: tuple[Point, ...]) -> None:
    opened.page.locator("#curve-sequence").select_option("s1")
    circle = opened.page.locator("#curves circle").nth(0)  # x265's lowest rate
    circle.scroll_into_view_if_needed()
    box = circle.bounding_box()
    opened.page.mouse.click(box["x"] + 4, box["y"] + 4)
    opened.settled()
    assert opened.page.locator("#sequence").input_value() == "s1"
    assert opened.page.locator("#right").input_value() == "x265"
    opened.until("document.querySelector('#pane-right .tag').textContent", lambda text: text.startswith("x265"))
    lowest = min(one.bpp for one in points if one.codec == "x265" and one.sequence == "s1")
    assert opened.page.locator("#pane-right .tag").inner_text() == f"x265 · {three_digits(lowest)} bpp"


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
    level = next(iter(opened.js("data.shown.s0.x265").values()))
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


def test_it_plays_pauses_steps_swaps_and_zooms_by_keys(opened: Opened) -> None:
    opened.choose(sequence="s1", left="source", right="x265", speed="0.25", view="split")
    opened.page.locator("#frame").fill("0")
    opened.settled(0)
    opened.page.locator("#stage").focus()
    opened.page.keyboard.press("Space")
    opened.until("$('play').textContent", lambda text: text == "pause")
    opened.until("video.left.currentTime", lambda now: now > 1.5 / 25)
    opened.page.keyboard.press("Space")
    opened.until("video.left.paused && video.right.paused")
    assert opened.page.locator("#play").inner_text() == "play"
    opened.settled()
    assert opened.js("Math.abs(video.left.currentTime - video.right.currentTime)") < 1.5 / 25
    opened.page.locator("#frame").fill("0")
    opened.settled(0)
    opened.page.locator("#stage").focus()
    opened.page.keyboard.press("ArrowRight")
    opened.settled(1)
    opened.page.keyboard.press("x")
    opened.until("document.querySelector('#pane-left .tag').textContent", lambda text: text.startswith("x265"))
    assert opened.page.locator("#right").input_value() == "source"
    opened.settled(1)
    opened.page.keyboard.press("+")
    assert opened.js("zoom") == 1.5
    opened.page.keyboard.press("0")
    assert opened.js("zoom") == 1
    opened.choose(speed="1")


def test_the_loupe_shows_the_pixels_at_its_square_and_moves_by_mouse_and_keys(opened: Opened) -> None:
    opened.choose(sequence="s0", rate="0", left="x264", right="x265", view="split")
    opened.page.locator("#frame").fill("2")
    opened.settled(2)
    size = opened.js("lensSize()")
    assert size == 16
    stage = opened.page.locator("#stage").bounding_box()
    opened.page.mouse.move(stage["x"] + 0.75 * stage["width"], stage["y"] + 0.25 * stage["height"])
    places = [opened.js("[lens.x, lens.y]")]
    assert places[0] == pytest.approx([0.75 * SIDE, 0.25 * SIDE], abs=1)
    opened.page.mouse.move(5, 5)
    opened.page.locator("#lens").focus()
    for key in ("ArrowLeft", "ArrowDown"):
        opened.page.keyboard.press(key)
        places.append(opened.js("[lens.x, lens.y]"))
    assert places[1] == [places[0][0] - 8, places[0][1]] and places[2] == [places[1][0], places[1][1] + 8]
    assert opened.page.locator("#frame").input_value() == "2"  # the arrows were the loupe's
    left, top = (round(place - size / 2) for place in places[2])
    level = opened.js("data.shown.s0.x264['0']")
    for of, frame in (
        ("source", shown_frames(opened, "source", "s0")[2]),
        ("left", shown_frames(opened, "x264", "s0", level)[2]),
    ):
        seen = opened.picture(f"#loupe canvas[data-of={of}]")
        assert seen.shape == (size, size, 3) and apart(seen, frame[top : top + size, left : left + size]) < 3


def test_zoom_is_one_for_both_and_returns_and_the_wheel_alone_scrolls(opened: Opened) -> None:
    for view in ("split", "beside"):
        opened.choose(view=view)
        opened.page.locator("#stage").scroll_into_view_if_needed()
        box = opened.page.locator("#pane-left").bounding_box()
        opened.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
        opened.page.keyboard.down("Control")
        opened.page.mouse.wheel(0, -400)
        opened.until("document.getElementById('video-left').style.transform", lambda said: "scale(2.7" in said)
        opened.page.keyboard.up("Control")
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
    before = opened.js("scrollY")
    opened.page.locator("#stage").hover()
    opened.page.mouse.wheel(0, 120)
    opened.until("scrollY", lambda now: now != before)
    assert opened.js("zoom") == 1


def test_the_flicker_view_is_a_row_of_every_frame(opened: Opened) -> None:
    opened.choose(sequence="s0", rate="1")
    row = 20
    opened.page.locator("#row").fill(str(row))
    opened.until("document.getElementById('strips').dataset.row", lambda found: found == str(row))
    names = opened.js("[...document.querySelectorAll('#strips canvas')].map(canvas => canvas.dataset.codec)")
    assert names == ["source", "x264", "x265"]
    shown = opened.js("data.shown.s0")
    for name in names:
        level = 0 if name == "source" else shown[name]["1"]
        strip = opened.picture(f"#strips canvas[data-codec={name}]")
        wanted = np.stack([frame[row] for frame in shown_frames(opened, name, "s0", level)])
        assert strip.shape == (FRAMES, SIDE, 3) and apart(strip, wanted) < 3
        assert apart(strip, wanted) < 0.5 * apart(strip, wanted[::-1])


def test_tables_fold_and_commands_are_there_to_read(opened: Opened) -> None:
    seen = opened.page.locator("#tables").inner_text()
    assert "BD-rate against x265, %, mean of the sequences' own" in seen and "Rate and quality, s1" not in seen
    opened.page.locator("#tables summary", has_text="s1").click()
    assert "Rate and quality, s1" in opened.page.locator("#tables").inner_text()
    assert opened.page.locator("#commands details details").count() == 12
    opened.page.locator("#commands summary").first.click()
    opened.page.locator("#commands details details summary").first.click()
    assert "ffmpeg -nostdin" in opened.page.locator("#commands code").first.inner_text()
    assert opened.page.locator("#about").inner_text() == "about it"
