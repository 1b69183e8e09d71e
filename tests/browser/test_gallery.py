"""Every explorer and every question in one notebook in JupyterLab, on small inputs: moved, read, answered.

What is plotted is compared with the picture that the library has computed for the same settings: once, in the
notebook's kernel, where it is kept by the values that the computation was given.
"""

import inspect
import pickle
import re
from functools import cache

import course
import gallery
import numpy as np
import pytest
from accessibility import violations
from driving import Expected, answer, check, check_fit, click_through, english, same, walk_by_keyboard
from meter import WATCH
from notebook_page import OUTPUTS, QUESTIONS
from playwright.sync_api import Error

pytestmark = pytest.mark.browser

EXPLORERS, PREDICTIONS = list(gallery.EXPLORERS), list(gallery.PREDICTIONS)
MOUSE = ("descents", "moments", "planner")


@pytest.fixture(scope="module")
def notebook(open_notebook):
    opened = open_notebook("gallery")
    opened.page.evaluate(WATCH)
    return opened


@pytest.fixture(scope="module")
def expected(notebook, computed):
    """By name, what an explorer shows as the library has computed it in the notebook's kernel."""
    return cache(lambda name: Expected(pickle.loads((computed / f"{name}.pickle").read_bytes())))


@pytest.fixture
def explorer(notebook, name):
    """The one on the page; a test that fails half-way leaves no control moved."""
    explorer = notebook.explorer(EXPLORERS.index(name))
    start = {control: explorer.position(control) for control in explorer.controls()}
    yield explorer
    for control, position in start.items():
        if explorer.position(control) != position:
            explorer.put(control, position)


def test_it_runs_and_asks_nothing_of_the_network(notebook, meter) -> None:
    assert notebook.error_outputs() == []
    assert notebook.page_errors == []
    assert len(notebook.requests) > 10, "requests are being recorded"
    assert notebook.requests_off_the_machine() == []
    assert notebook.page.locator(".accum").count() == len(EXPLORERS)
    assert notebook.page.locator(QUESTIONS).count() == len(PREDICTIONS)
    meter.note(f"the gallery: all cells run after {notebook.seconds_to_run:.1f} s")


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_control_works_with_the_keyboard_alone(notebook, explorer, expected, meter, name) -> None:
    assert explorer.status() == ""
    check(explorer.look(), expected(name))
    for control in explorer.controls():
        walk_by_keyboard(explorer, expected(name), control)
    meter.add("the gallery", notebook.page.evaluate("() => window.__meter.waits.splice(0)"))


# The keyboard moves each control of each explorer; the mouse, by default, one of each kind.
@pytest.mark.parametrize(
    "name", [n if n in MOUSE else pytest.param(n, marks=pytest.mark.slow) for n in EXPLORERS]
)
def test_every_control_works_with_the_mouse(explorer, expected, name) -> None:
    for control in explorer.controls():
        click_through(explorer, expected(name), control)


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_fits_and_bars_nobody(explorer, name, tmp_path) -> None:
    check_fit(explorer)
    assert violations(explorer.root) == []
    picture = tmp_path / "picture.png"
    explorer.root.screenshot(path=picture)
    assert picture.stat().st_size > 10_000, "an empty sheet compresses to less"


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_question_is_answered_after_the_guess(notebook, name) -> None:
    box = notebook.page.locator(QUESTIONS).nth(PREDICTIONS.index(name))
    assert violations(box) == []
    assert answer(box).startswith(("✓ As you predicted.", "✗ "))


def test_nothing_was_asked_of_the_network_and_nothing_complained(notebook) -> None:
    assert notebook.page_errors == []
    assert notebook.requests_off_the_machine() == []


def test_play_walks_through_the_moments(notebook, expected) -> None:
    explorer = notebook.explorer(EXPLORERS.index("moments"))
    play = explorer.root.locator("[data-play]")
    explorer.click("moment", 14)
    play.click()
    notebook.page.wait_for_function("() => document.querySelector('[data-control=moment]').value === '16'")
    notebook.page.wait_for_function("() => document.querySelector('[data-play]').textContent === '▶ Play'")
    check(explorer.look(), expected("moments"), {"moment": 16})
    explorer.put("moment", 4)


def test_what_is_marked_is_counted_once_it_is_revealed(notebook) -> None:
    """Of four runs the second and the last are broken: one is marked with its button, another by a click."""
    explorer = notebook.explorer(EXPLORERS.index("line-up"))
    said = explorer.root.locator(".accum-said")
    marks = explorer.root.locator(".accum-mark")
    marks.nth(1).click()
    box = explorer.root.locator(".trace.scatter").nth(3).locator(".point").nth(2)
    box.scroll_into_view_if_needed()
    place = box.bounding_box()
    notebook.page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    pressed = [marks.nth(i).get_attribute("aria-pressed") for i in range(4)]
    assert pressed == ["false", "true", "true", "false"]
    fills = explorer.root.locator(".trace.scatter").nth(3).locator(".point")
    colours = fills.evaluate_all("(boxes) => boxes.map((box) => box.style.fill)")
    assert colours[0] == colours[3] != colours[1] == colours[2], "the picture shows what is marked"
    assert said.inner_text() == "", "nothing is said before"
    explorer.click("shown", 1)
    assert said.inner_text() == "You marked 2: 1 of the 2 broken ones, and 1 that are right."
    explorer.put("shown", 0)
    marks.nth(1).click()
    marks.nth(2).click()


HUNT = """
hunt = gallery.explorers.BugHunt()
hunt.explorer._grid = hunt.explorer._grid[:6]
hunt.show()
"""


def test_a_loop_is_revealed_after_the_guess(notebook, in_new_cell) -> None:
    in_new_cell(
        "from accum_lib.lessons.when_it_breaks import BugHunt\nhunt = BugHunt()\n"
        "hunt.explorer._grid = hunt.explorer._grid[:6]\nhunt.show()"
    )
    box = notebook.page.locator(".widget-vbox:has(> .widget-hbox .widget-dropdown)")
    box.wait_for()
    notebook.wait_for_explorers()
    explorer = notebook.explorers()[-1]
    explorer.click("number", 3)
    button = box.get_by_role("button", name="Reveal")
    assert button.is_disabled(), "no answer without a guess"
    box.locator("select").select_option(label="A mean of means")
    button.click()
    reply = box.locator("[role=status]")
    reply.wait_for()
    assert reply.inner_text().startswith(("Well seen.", "Not that one."))
    assert "def " in reply.inner_text(), "its source is shown"
    explorer.click("number", 4)
    reply.wait_for(state="detached")


def test_an_interrupt_stops_the_races(notebook, in_new_cell) -> None:
    in_new_cell(
        "from accum_lib.lessons.variance import RaceTrack\ntrack = RaceTrack()\n"
        "stopped = track.show()\nprint('came back', stopped is None)"
    )
    notebook.page.get_by_text("Racing …").last.wait_for()
    notebook.page.wait_for_timeout(1000)
    notebook.command("notebook:interrupt-kernel")
    notebook.page.get_by_text("Stopped. Run this cell to race again").wait_for(timeout=10_000)
    notebook.page.get_by_text("came back True", exact=True).wait_for()


CHINESE = """
from accum_lib.words import speaking
with speaking("zh"):
    gallery.show("memory")
    gallery.show("choose K")
"""


def test_wider_words_fit_and_no_english_is_left(notebook, in_new_cell) -> None:
    in_new_cell(CHINESE)
    notebook.page.wait_for_function(
        f"() => document.querySelectorAll('.accum').length >= {len(EXPLORERS) + 2}"
    )
    notebook.wait_for_explorers()
    for explorer in notebook.explorers()[-2:]:
        words = explorer.root.inner_text() + explorer.summary()
        assert re.search(r"[\u3400-\u9fff]", words)
        assert english(words) == []
        for control in explorer.controls():
            start = explorer.position(control)
            explorer.click(control, 0 if start else 1)
            seen = explorer.look()
            assert seen.fits
            assert not seen.error
            assert english(seen.summary) == []
            explorer.put(control, start)


def names_in(makers: dict) -> set[str]:
    """What the functions in it are called, or call."""
    return {name for make in makers.values() for name in (make.__name__, *make.__code__.co_names)}


def test_no_explorer_and_no_question_is_left_out() -> None:
    explorers = {n for m in course.EXPLORERS for n in vars(m) if n.endswith("_explorer")}
    assert len(explorers) > 15
    assert explorers - names_in(gallery.EXPLORERS) == set()
    modules = course.QUESTIONS.values()
    public = {n: f for m in modules for n, f in vars(m).items() if inspect.isfunction(f) and n[0] != "_"}
    questions = {n for n, f in public.items() if f.__annotations__.get("return") is gallery.Quiz}
    assert len(questions) > 20
    assert questions - names_in(gallery.PREDICTIONS) == set()


# --- What the checks above would notice


def test_a_curve_in_the_wrong_place_would_be_noticed(notebook) -> None:
    explorer = notebook.explorer(EXPLORERS.index("moments"))
    assert explorer.drawn_as_if_new()
    move = "plot => plot.querySelector('.cartesianlayer .overplot path').setAttribute('transform', '{}')"
    line = explorer.root.locator(".accum-plot")
    before = line.evaluate("p => p.querySelector('.cartesianlayer .overplot path').getAttribute('transform')")
    line.evaluate(move.format("translate(9,9)"))
    assert not explorer.drawn_as_if_new()
    line.evaluate(move.format(before or ""))


SWAP = "plot => { [plot.data[0], plot.data[1]] = [plot.data[1], plot.data[0]]; }"
SUMMARY = "plot => { const p = plot.parentElement.querySelector('.accum-summary'); "
WRONG = {  # what goes wrong on the screen, and what mends it
    "a value": (
        "plot => { plot.was = plot.data[1].y; plot.data[1].y = plot.was.map((v) => v + 1e-9); }",
        "plot => { plot.data[1].y = plot.was; }",
    ),
    "two traces": (SWAP, SWAP),
    "a line without its markers": (
        "plot => { plot.was = plot.data[0].mode; plot.data[0].mode = 'none'; }",
        "plot => { plot.data[0].mode = plot.was; }",
    ),
    "an axis": (
        "plot => { plot._fullLayout.yaxis.range[0] -= 1; }",
        "plot => { plot._fullLayout.yaxis.range[0] += 1; }",
    ),
    "the words": (
        SUMMARY + "plot.was = p.textContent; p.textContent += '!'; }",
        SUMMARY + "p.textContent = plot.was; }",
    ),
    "the label": (
        "plot => { plot.was = plot.getAttribute('aria-label'); plot.removeAttribute('aria-label'); }",
        "plot => { plot.setAttribute('aria-label', plot.was); }",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_something_else_on_the_screen_would_be_noticed(notebook, expected, what) -> None:
    explorer, library = notebook.explorer(EXPLORERS.index("descents")), expected("descents")
    spoil, mend = WRONG[what]
    check(explorer.look(), library)
    explorer.root.locator(".accum-plot").evaluate(spoil)
    with pytest.raises(AssertionError):
        check(explorer.look(), library)
    explorer.root.locator(".accum-plot").evaluate(mend)
    check(explorer.look(), library)


def test_a_control_that_does_not_redraw_would_be_noticed(notebook) -> None:
    explorer = notebook.explorer(EXPLORERS.index("trial"))
    explorer.root.locator(".accum-plot").evaluate("plot => { plot.dataset.setting = 'another'; }")
    with pytest.raises(Error, match="the controls say 0, and another is drawn"):
        explorer.look(patience=0.2)
    explorer.root.locator(".accum-plot").evaluate("plot => { plot.dataset.setting = '0'; }")


BARRED = """
from IPython.display import HTML
from accum_lib.lessons.kit.grid import Control, GridExplorer
known = gallery.EXPLORERS["moments"]()
bare = GridExplorer([Control("b", "", (0, 1), 0)], lambda b: known._picture_of(moment=b))
bare.show()
display(HTML("<button></button><p style='color: #ccc; background: white'>pale</p>"))
"""


def test_an_output_that_bars_a_reader_would_be_noticed(notebook, in_new_cell) -> None:
    before = notebook.page.locator(OUTPUTS).count()
    in_new_cell(BARRED)
    notebook.page.locator(OUTPUTS).get_by_text("pale", exact=True).wait_for()
    notebook.wait_for_explorers()
    outputs = notebook.page.locator(OUTPUTS)
    found = [v for i in range(before, outputs.count()) for v in violations(outputs.nth(i))]
    assert {violation.partition(" ")[0] for violation in found} == {"label", "button-name", "color-contrast"}


def test_a_request_would_be_noticed(notebook) -> None:
    seen = list(notebook.requests)
    notebook.page.evaluate("() => { fetch('http://192.0.2.1/').catch(() => 0); }")  # reserved for examples
    assert notebook.requests_off_the_machine() == ["http://192.0.2.1/"]
    notebook.requests[:] = seen


def test_the_comparison_of_numbers_can_fail() -> None:
    numbers = np.array([1.0, np.nan, 3e-16])
    assert same(numbers, numbers)
    assert not same(numbers, np.array([1.0, np.nan, 2e-16]))
    assert not same(numbers, numbers[:2])
    errors = np.array([1.0, 3e-16])
    assert same(errors, np.array([1.01, 2e-16]), rounding=True)
    assert not same(errors, np.array([1.3, 2e-16]), rounding=True)
    assert not same(errors, np.array([1.0, 3e-9]), rounding=True)
    assert not same(errors, errors[:1], rounding=True)
    assert same(numbers, numbers, rounding=True)
    assert not same(numbers, np.array([1.0, 2.0, 3e-16]), rounding=True)


@pytest.fixture
def in_new_cell(notebook):
    """Run something in a cell at the end, which is gone afterwards."""
    yield notebook.run_new_cell
    notebook.delete_last_cell()
