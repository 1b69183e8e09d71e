"""A page of the site in Chromium, opened from disk with the network cut; requests and complaints are kept."""

import base64
import gzip
import json
import pathlib
import re
import unittest.mock
from typing import Any

import numpy as np
from meter import WATCH
from notebook_page import ExplorerOnPage
from playwright.sync_api import Browser, Locator

from accum_lib.lessons.kit.grid import GridExplorer
from web import record
from web.record import Block

DRAWN = """place => new Promise((done) => {
  const look = () => (place.dataset.drawn ? done() : setTimeout(look, 20));
  look();
})"""


class SitePage:
    """One page, as a reader has it on the screen."""

    def __init__(
        self, browser: Browser, path: pathlib.Path, width: int = 1280, height: int = 720, query: str = "",
        **context: Any,
    ) -> None:  # fmt: skip
        size = {"width": width, "height": height}
        self._context = browser.new_context(viewport=size, offline=True, reduced_motion="reduce", **context)
        self.page = self._context.new_page()
        self.page.set_default_timeout(20_000)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self._complain(said.type, said.text))
        self.page.goto(path.as_uri() + query)
        self.page.evaluate(WATCH)

    def _complain(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def close(self) -> None:
        self._context.close()

    def off_the_machine(self) -> list[str]:
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))]

    def first_drawn(self) -> float:
        """Milliseconds from the start of the page until its first explorer was drawn."""
        self.page.locator(".explorer").first.evaluate(DRAWN)
        return self.page.evaluate("() => performance.getEntriesByName('first-explorer')[0].startTime")

    def unveil(self) -> None:
        for button in self.page.locator(".veil button").all():
            if button.is_visible():
                button.click()

    def explorers(self) -> list[ExplorerOnPage]:
        """All of them, unveiled and drawn."""
        self.unveil()
        places = self.page.locator(".explorer").all()
        for place in places:
            place.scroll_into_view_if_needed()
            place.evaluate(DRAWN)
        return [ExplorerOnPage(self, place.locator(".accum")) for place in places]

    def quizzes(self) -> list[Locator]:
        return self.page.locator(".quiz").all()

    def progress(self) -> dict[str, Any]:
        return json.loads(self.page.evaluate("() => localStorage.getItem('accum-progress')") or "{}")

    def waits(self) -> list[float]:
        """Milliseconds from each key press to the frame with its effect, since this was last asked."""
        return self.page.evaluate("() => window.__meter.waits.splice(0)")


def recorded(path: pathlib.Path, language: str) -> tuple[list[Block], list[GridExplorer]]:
    """A notebook's blocks, and the explorers that they were made from, which can compute again."""
    made: list[GridExplorer] = []
    pack = record._explorer

    def kept(explorer: GridExplorer) -> Block:
        made.append(explorer)
        return pack(explorer)

    with unittest.mock.patch.object(record, "_explorer", kept):
        return record.record(path, language), made


def with_a_number_altered(page: str) -> str:
    """The page, but one number that its first explorer draws at first is a thousandth larger."""
    found = re.search(r'<script type="text/plain"[^>]*>([^<]*)<', page)
    assert found
    words, _, numbers = gzip.decompress(base64.b64decode(found[1])).partition(b"\0")
    state, series = json.loads(words), np.frombuffer(numbers, "<f8").copy()
    first = ",".join(str(state["selection"][control["name"]]) for control in state["controls"])
    arrays = state["cells"][first]["arrays"]
    places = (
        at
        for _, kind, start, length in reversed(arrays)
        for at in range(start, start + length)
        if kind in ("x", "y", "base") and np.isfinite(series[at]) and series[at]
    )
    at = next(places)
    series[at] *= 1.001
    packed = base64.b64encode(gzip.compress(words + b"\0" + series.tobytes())).decode()
    return page.replace(found[1], packed)
