"""Move an explorer's controls as a reader does, and compare what is drawn with what the library computes."""

import re
from typing import Any

import numpy as np
import pytest
from notebook_page import ExplorerOnPage, Seen

from accum_lib.lessons.kit.grid import GridExplorer
from accum_lib.lessons.kit.theme import Picture


class Expected:
    """What an explorer shows, by the positions of its controls, as the library has computed it.

    Args:
        known: pictures that are computed already.
        explorer: made in this process from the same inputs as the one on the page, for all other pictures.
        rounding: its curves are errors of rounding, and another process rounds otherwise.
        times: it shows times, and another run takes another while.
    """

    def __init__(
        self,
        known: dict[tuple[int, ...], Picture] | None = None,
        explorer: GridExplorer | None = None,
        rounding: bool = False,
        times: bool = False,
    ) -> None:
        self.rounding, self.times = rounding, times
        self._explorer, self._known = explorer, known or {}

    def at(self, positions: dict[str, int]) -> Picture:
        key = tuple(positions.values())
        if key not in self._known and self._explorer:
            self._explorer.choose(**{c.name: c.values[positions[c.name]] for c in self._explorer._controls})
            self._known[key] = self._explorer.picture()
        return self._known[key]


def walk_by_keyboard(explorer: ExplorerOnPage, library: Expected, control: str) -> None:
    """One step back, if there is one; then from its first value to its last; then it is put back."""
    start, positions = explorer.position(control), explorer.positions(control)
    if start:
        explorer.press(control, "ArrowLeft")
        check(explorer.look(), library, {control: start - 1}, focused=control)
        explorer.put(control, 0)
        explorer.focus(control)
    else:
        check(explorer.look(), library, {control: 0})
        explorer.focus(control)
    for position in range(1, positions):
        explorer.notebook.page.keyboard.press("ArrowRight")
        check(explorer.look(), library, {control: position}, focused=control)
    assert explorer.drawn_as_if_new(), f"after {control} had been moved"
    if positions > 1:
        explorer.notebook.page.keyboard.press("ArrowLeft")
        check(explorer.look(), library, {control: positions - 2}, focused=control)
    explorer.put(control, start)


def click_through(explorer: ExplorerOnPage, library: Expected, control: str) -> None:
    """First value, one in the middle, last; then it is put back."""
    start, last = explorer.position(control), explorer.positions(control) - 1
    for position in dict.fromkeys((last, 0, last // 2, last)):
        explorer.click(control, position)
        check(explorer.look(), library, {control: position})
    explorer.put(control, start)


def check(
    seen: Seen, library: Expected, at: dict[str, int] | None = None, focused: str | None = None
) -> None:
    """What is on the screen is what the library computes for where the controls are."""
    assert {name: seen.positions[name] for name in at or {}} == (at or {})
    assert focused is None or seen.focused == focused
    picture = library.at(seen.positions)
    assert not seen.error
    assert seen.label == seen.summary, "a screen reader says the same words"
    words = without_numbers if library.rounding or library.times else str
    assert words(seen.summary) == words(picture.summary)
    assert [words(note) for note in seen.notes] == [
        words(note["text"]) for note in picture.layout.get("annotations", ())
    ]
    check_axes(seen, picture, library.times)
    for drawn, trace in zip(seen.traces, picture.data, strict=True):
        assert {k: drawn.get(k) for k in look_of(trace)} == look_of(trace)
        for key in ("x", "y", "base"):
            if key in trace and library.times and trace["xaxis"] != "x2":
                assert same_kind(np.array(drawn[key], float), np.array(trace[key], float))
            elif key in trace:
                assert same(np.array(drawn[key], float), np.array(trace[key], float), library.rounding)


def look_of(trace: dict[str, Any]) -> dict[str, Any]:
    """How a trace is drawn: whatever of it is words, and not coordinates."""
    return {k: v for k, v in trace.items() if isinstance(v, str | bool)}


def check_axes(seen: Seen, picture: Picture, times: bool) -> None:
    """Ranges as the library says, and labels at the ticks that follow them."""
    for name, (lowest, highest, labels) in seen.axes.items():
        axis = picture.layout[name]
        if "range" in axis and not (times and name in ("xaxis", "yaxis3")):
            assert [lowest, highest] == pytest.approx(axis["range"])
        if "ticktext" in axis:  # words, or the numbers of a scale of choices
            assert set(labels) <= {re.sub("<.*?>", "", text) for text in axis["ticktext"]}, name
            continue
        numbers = [
            float(t.replace("−", "-").replace(",", "")) for t in labels if re.fullmatch(r"−?[\d.,]+", t)
        ]
        lowest, highest = sorted((lowest, highest))
        if numbers and axis.get("type") != "log":
            assert lowest - 1e-9 <= min(numbers) < max(numbers) <= highest + 1e-9, name
            assert max(numbers) - min(numbers) > (highest - lowest) / 3, name


def same(drawn: np.ndarray, computed: np.ndarray, rounding: bool = False) -> bool:
    """The very same numbers; or, where they show rounding, as near as sums in another process come."""
    if not rounding or drawn.shape != computed.shape:
        return np.array_equal(drawn, computed, equal_nan=True)
    tiny = (drawn < 1e-5) & (computed < 1e-5)
    apart = np.abs(np.log(np.maximum(drawn, 1e-17) / np.maximum(computed, 1e-17)))
    gone = np.isnan(drawn) & np.isnan(computed)  # nothing is drawn, as nothing should be
    return bool((gone | (apart < np.where(tiny, np.log(100), 0.2))).all())


def same_kind(drawn: np.ndarray, computed: np.ndarray) -> bool:
    """As many numbers, with gaps at the same places: times differ from run to run."""
    return drawn.shape == computed.shape and np.array_equal(np.isnan(drawn), np.isnan(computed))


def without_numbers(text: str) -> str:
    return re.sub(r"\d[\d.,e-]*", "#", text)


def english(text: str) -> list[str]:
    """Two or more English words in a row."""
    return re.findall(r"[A-Za-z]{2,}(?: [A-Za-z]{2,})+", text)


def check_fit(explorer: ExplorerOnPage) -> None:
    """Nothing is cut off, every control has its label, and sentences stand apart."""
    seen = explorer.look()
    assert seen.fits, "nothing is cut off"
    for control in explorer.controls():
        assert explorer.inputs(control).first.evaluate("e => e.labels.length") == 1
    assert seen.label == seen.summary
    assert not re.search(r"[a-z%)]\.[A-Z]", seen.summary), "a space between sentences"


def answer(box, button: str = "Show what happens") -> str:
    """Guess at a question's box, and what is said to it."""
    box.scroll_into_view_if_needed()
    show = box.get_by_role("button", name=button)
    assert show.is_disabled(), "no answer without a guess"
    box.locator("input[type=radio]").first.check()
    show.click()
    reply = box.locator("[role=status]")
    reply.wait_for()
    return reply.inner_text()
