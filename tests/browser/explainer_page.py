"""The explainer opened from disk, with the network cut, and everything that it asks for or complains of."""

import json
import re
from typing import Any

from meter import WATCH

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


class ExplainerPage:
    def __init__(self, browser, path, width=1280, height=800, language="en", **context) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, **context)
        self.context.set_offline(True)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self._complain(m.type, m.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"{path.as_uri()}?lang={language}")
        self.page.locator("body[data-ready]").wait_for()
        self.page.evaluate(WATCH)

    def _complain(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def off_the_machine(self) -> list[str]:
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))]

    def live(self, call: str, *values: Any) -> Any:
        """What a function of the page's own gives: ``live("descend(data.regression, ...a)", ...)``."""
        names = ", ".join(self.page.evaluate("() => Object.keys(window.__explainer.live)"))
        function = f"(({{ {names} }}, data, a) => {call})"
        return self.page.evaluate(
            f"(values) => {{ const e = window.__explainer; return {function}(e.live, e.data, values); }}",
            list(values),
        )

    def data(self) -> dict[str, Any]:
        return self.page.evaluate("() => window.__explainer.data")

    def sections(self) -> list[str]:
        return self.page.evaluate("() => window.__explainer.stages.map((stage) => stage.id)")

    def open_all(self) -> None:
        self.page.locator("#open-all").click()

    def set(self, section: str, **state: Any) -> None:
        self.page.evaluate(
            "([id, state]) => window.__explainer.stages.find((s) => s.id === id).apply(state)",
            [section, state],
        )

    def words(self, section: str) -> list[str]:
        """What is said under each figure of a section."""
        return self.page.evaluate(
            """(id) => window.__explainer.stages.find((s) => s.id === id)
                 .slots.map((slot) => slot.summary.textContent)""",
            section,
        )

    def numbers(self, section: str, figure: int = 0) -> list[float]:
        return [float(number) for number in NUMBER.findall(self.words(section)[figure])]

    def verdict(self, section: str) -> str:
        return self.page.locator(f"#{section} .verdict").inner_text()

    def waits(self) -> list[float]:
        return self.page.evaluate("() => window.__meter.waits.splice(0)")

    def close(self) -> None:
        self.context.close()


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two records differ by more than a 1e-9th (numbers), or at all (anything else)."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [d for key in one for d in differences(one[key], other[key], f"{path}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [
            d
            for i, (a, b) in enumerate(zip(one, other, strict=True))
            for d in differences(a, b, f"{path}[{i}]")
        ]
    both = (one, other)
    if all(isinstance(x, int | float) and not isinstance(x, bool) for x in both):
        return [] if abs(one - other) <= 1e-9 * max(1.0, abs(one), abs(other)) else [path]
    return [] if json.dumps(one) == json.dumps(other) else [path]
