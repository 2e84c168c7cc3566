"""A page in a real browser without network, and what tests do with it; skipped with a sentence where there is none."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
PATIENCE = 60.0  # seconds
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: no page was tried in one")

UNNAMED = """[...document.querySelectorAll("svg, canvas, video, img, input, select, button")]
  .filter(one => !(one.getAttribute("aria-label") || one.alt || one.labels?.length || one.textContent.trim()))
  .map(one => one.outerHTML.slice(0, 90))"""
OVERLAPPING = """[...document.querySelectorAll("svg")].flatMap(svg => {
  const place = one => ({ text: one.textContent, box: one.getBoundingClientRect() });
  const texts = [...svg.querySelectorAll("text")].map(place);
  const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top + 3 || b.bottom <= a.top + 3;
  const edge = svg.getBoundingClientRect();
  const found = texts.filter(({ box }) => box.left < edge.left - 1 || box.right > edge.right + 1);
  texts.forEach((one, i) => found.push(...texts.slice(i + 1).filter(other => !apart(one.box, other.box))));
  return found.map(one => one.text);
})"""
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll("p, td, label, text, figcaption")]
  .map(one => parseFloat(getComputedStyle(one).fontSize)))"""
CONTRASTS = """(() => {
  const linear = one => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(one => linear(one / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = light(getComputedStyle(document.body).backgroundColor);
  const against = colour => (Math.max(light(colour), back) + 0.05) / (Math.min(light(colour), back) + 0.05);
  const seen = [...document.querySelectorAll("h1, #about, .hint, td, a, label, figcaption")];
  const drawn = [...document.querySelectorAll("svg text")].map(one => against(getComputedStyle(one).fill));
  return { back, lowest: Math.min(...drawn, ...seen.map(one => against(getComputedStyle(one).color))) };
})()"""


@dataclass
class Opened:
    """A page in a browser, and all that it complained of."""

    page: Any
    path: Path
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

    def started(self) -> "Opened":
        """Once it plays by itself and all strips are drawn, paused."""
        self.until("document.getElementById('play').textContent", lambda text: text == "pause")
        self.until("document.getElementById('strips').dataset.row")
        self.page.locator("#play").click()
        self.settled()
        return self

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


@contextmanager
def browser() -> Iterator[Callable[..., Opened]]:
    """Opens pages: their path, then options of the browser's context."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: no page was tried in a browser")
    with playwright.sync_playwright() as driver:
        program = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def opened(path: Path, **options: Any) -> Opened:
            context = program.new_context(**({"offline": True, "viewport": {"width": 1200, "height": 1000}} | options))
            shown = Opened(context.new_page(), path)
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
            shown.page.goto(path.as_uri())
            return shown

        yield opened
        program.close()
