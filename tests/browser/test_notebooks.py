"""Each notebook in JupyterLab, as a reader uses it: run all cells, move every control over its whole range.

What is plotted is compared with the picture that the library computes for the same settings, in this process.
"""

import pathlib
import re
from functools import cache

import numpy as np
import pytest
from accessibility import axe
from meter import WATCH

from accum_lib.lessons.beyond_text.explorer import norm_explorer, speech_explorer, weighting_explorer
from accum_lib.lessons.choose_k.explorer import choose_k_explorer, times_from, trial_explorer
from accum_lib.lessons.distributed.explorer import forecast_explorer, traffic_explorer
from accum_lib.lessons.distributed.measure import measure_here
from accum_lib.lessons.equivalence.explorer import microscope_explorer
from accum_lib.lessons.memory.explorer import memory_explorer, planner_explorer
from accum_lib.lessons.roberta.explorer import fixed_batch_explorer
from accum_lib.lessons.three_descents.explorer import descents_explorer, moments_explorer
from accum_lib.lessons.variance.claims import race_all
from accum_lib.lessons.variance.explorer import (
    claims_explorer,
    guess_explorer,
    races_explorer,
    variance_explorer,
)
from accum_lib.lessons.variance.measure import VarianceLab
from accum_lib.lessons.when_it_breaks.explorer import clues_explorer, sightings_explorer

pytestmark = pytest.mark.browser

OUTPUTS = ".jp-OutputArea-output:has(> *)"
LAB, RACES = cache(VarianceLab), cache(race_all)  # once for all explorers of a notebook
EXPLORERS = {
    "00_start_here": [moments_explorer],
    "01_three_descents": [descents_explorer],
    "02_equivalence": [microscope_explorer],
    "03_variance": [
        lambda: guess_explorer(LAB()),
        lambda: variance_explorer(LAB()),
        lambda: races_explorer(RACES()),
        lambda: claims_explorer(RACES()),
    ],
    "04_memory": [memory_explorer, planner_explorer],
    "05_when_it_breaks": [clues_explorer, sightings_explorer],
    "06_roberta": [fixed_batch_explorer],
    "07_beyond_text": [norm_explorer, weighting_explorer, speech_explorer],
    "08_distributed": [lambda: traffic_explorer(measure_here()), forecast_explorer],
    "09_choose_k": [choose_k_explorer, trial_explorer],
}
# Curves that are errors of rounding: another process rounds otherwise.
SHOWS_ROUNDING = {"02_equivalence", "06_roberta", "07_beyond_text"}
SHOWS_TIMES = {("08_distributed", 0)}  # and another run takes another while; its bytes are the same
USES_TIMES = {("09_choose_k", 0): times_from}  # the page says which it was made from, so all can be compared


@pytest.fixture(scope="session")
def expected(notebook):
    """The explorers of this notebook as the library makes them, here and now."""
    explorers = []
    for number, make in enumerate(EXPLORERS.get(notebook.name, [])):
        revive = USES_TIMES.get((notebook.name, number))
        explorers.append(make(revive(notebook.explorers()[number].facts())) if revive else make())
    for number, explorer in enumerate(explorers):
        explorer.shows_rounding = notebook.name in SHOWS_ROUNDING
        explorer.shows_times = (notebook.name, number) in SHOWS_TIMES
    return explorers


def test_it_runs_and_asks_nothing_of_the_network(notebook, expected, meter) -> None:
    assert notebook.error_outputs() == []
    assert notebook.page_errors == []
    assert len(notebook.requests) > 10, "requests are being recorded"
    assert notebook.requests_off_the_machine() == []
    assert len(notebook.explorers()) == len(expected)
    meter.note(
        f"{notebook.name}: first figure {notebook.seconds_to_first_figure:.1f} s after 'run all' with a new "
        f"kernel, all cells run after {notebook.seconds_to_run:.1f} s"
    )


def test_the_recorder_would_notice_a_request(notebook) -> None:
    seen = list(notebook.requests)
    notebook.page.evaluate("() => { fetch('http://192.0.2.1/').catch(() => 0); }")  # reserved for examples
    assert notebook.requests_off_the_machine() == ["http://192.0.2.1/"]
    notebook.requests[:] = seen


def test_every_control_works_with_the_keyboard_alone(notebook, expected, meter) -> None:
    notebook.page.evaluate(WATCH)
    for explorer, library in zip(notebook.explorers(), expected, strict=True):
        assert explorer.status() == ""
        check_plot(explorer, library)
        for control in explorer.controls():
            walk_by_keyboard(explorer, library, control)
    meter.add(notebook.name, notebook.page.evaluate("() => window.__meter.waits.splice(0)"))


def walk_by_keyboard(explorer, library, control: str) -> None:
    """To its first value, to its last, and back to where it was."""
    start, positions = explorer.position(control), explorer.positions(control)
    for _ in range(start):
        explorer.press(control, "ArrowLeft")
    assert explorer.position(control) == 0
    for position in range(1, positions):
        explorer.press(control, "ArrowRight")
        assert explorer.position(control) == position
        check_plot(explorer, library)
    assert explorer.drawn_as_if_new(), f"after {control} had been moved"
    for _ in range(positions - 1 - start):
        explorer.press(control, "ArrowLeft")
    assert explorer.position(control) == start


def test_every_control_works_with_the_mouse(notebook, expected) -> None:
    for explorer, library in zip(notebook.explorers(), expected, strict=True):
        for control in explorer.controls():
            start = explorer.position(control)
            for position in [*range(explorer.positions(control)), start]:
                explorer.click(control, position)
                assert explorer.position(control) == position
                check_plot(explorer, library)


def test_explorers_fit_their_place_and_are_labelled(notebook) -> None:
    for explorer in notebook.explorers():
        assert explorer.root.evaluate("e => e.scrollWidth <= e.clientWidth"), "nothing is cut off"
        for control in explorer.controls():
            assert explorer.inputs(control).first.evaluate("e => e.labels.length") == 1
        assert explorer.root.locator(".accum-plot").get_attribute("aria-label") == explorer.summary()
        assert not re.search(r"[a-z%)]\.[A-Z]", explorer.summary()), "a space between sentences"


def test_our_outputs_have_no_serious_violation(notebook) -> None:
    """What our code has put out, not JupyterLab around it; one output after the other, since JupyterLab
    does not render what is far off the screen."""
    outputs = notebook.page.locator(OUTPUTS)
    seen = [_violations(notebook.page, outputs.nth(i)) for i in range(outputs.count())]
    assert len(seen) > len(notebook.explorers()), "explorers and at least one prediction"
    assert [found for found in seen if found] == []


def _violations(page, output) -> list[str]:
    """JupyterLab's page has a body without a height, which axe-core takes for one that hides everything."""
    page.evaluate("() => { document.body.style.minHeight = '100vh'; }")
    output.scroll_into_view_if_needed()
    output.evaluate("e => e.setAttribute('data-looked-at', '')")
    try:
        return axe(page, "[data-looked-at]")
    finally:
        output.evaluate("e => e.removeAttribute('data-looked-at')")


def test_a_prediction_is_answered_after_the_guess(notebook) -> None:
    boxes = notebook.page.locator(".widget-vbox:has(> .widget-radio)")
    assert boxes.count() > 0
    for i in range(boxes.count()):
        box = boxes.nth(i)
        box.scroll_into_view_if_needed()
        button = box.get_by_role("button", name="Show what happens")
        assert button.is_disabled(), "no answer without a guess"
        box.locator("input[type=radio]").first.check()
        button.click()
        reply = box.locator("[role=status]")
        reply.wait_for()
        assert reply.inner_text().startswith(("As you predicted.", "It is: "))


def test_pictures_of_the_explorers(notebook, pytestconfig, tmp_path) -> None:
    """Each explorer as it stands at first; ``--pictures docs/pictures`` renews those in the README."""
    folder = pathlib.Path(pytestconfig.getoption("pictures") or tmp_path)
    for number, explorer in enumerate(notebook.explorers()):
        explorer.root.scroll_into_view_if_needed()
        picture = folder / f"{notebook.name}{f'_{number + 1}' if number else ''}.png"
        explorer.root.screenshot(path=picture)
        assert picture.stat().st_size > 10_000, "an empty sheet compresses to less"


def test_play_walks_through_the_moments(open_notebook) -> None:
    notebook, library = open_notebook("00_start_here"), moments_explorer()
    library.shows_rounding = library.shows_times = False
    explorer = notebook.explorers()[0]
    play = explorer.root.locator("[data-play]")
    explorer.click("moment", 14)
    play.click()
    notebook.page.wait_for_function("() => document.querySelector('[data-control=moment]').value === '16'")
    notebook.page.wait_for_function("() => document.querySelector('[data-play]').textContent === '▶ Play'")
    explorer.settle()
    check_plot(explorer, library)
    explorer.click("moment", 4)


def test_the_check_of_what_is_drawn_can_fail(open_notebook) -> None:
    explorer = open_notebook("00_start_here").explorers()[0]
    assert explorer.drawn_as_if_new()
    move = "plot => plot.querySelector('.cartesianlayer .overplot path').setAttribute('transform', '{}')"
    line = explorer.root.locator(".accum-plot")
    before = line.evaluate("p => p.querySelector('.cartesianlayer .overplot path').getAttribute('transform')")
    line.evaluate(move.format("translate(9,9)"))
    assert not explorer.drawn_as_if_new()
    line.evaluate(move.format(before or ""))


BARRED = """
from IPython.display import HTML
from accum_lib.lessons.kit.grid import Control, GridExplorer
bare = GridExplorer([Control("b", "", (0, 1), 0)], lambda b: explorer._picture_of(moment=b))
bare.show()
display(HTML("<button></button><p style='color: #ccc; background: white'>pale</p>"))
"""


def test_an_output_that_bars_a_reader_would_be_noticed(open_notebook) -> None:
    notebook = open_notebook("00_start_here")
    before = notebook.page.locator(OUTPUTS).count()
    notebook.run_new_cell(BARRED)
    notebook.page.locator(OUTPUTS).get_by_text("pale", exact=True).wait_for()
    notebook.wait_for_explorers()
    outputs = notebook.page.locator(OUTPUTS)
    found = [v for i in range(before, outputs.count()) for v in _violations(notebook.page, outputs.nth(i))]
    notebook.delete_last_cell()
    assert {violation.partition(" ")[0] for violation in found} == {"label", "button-name", "color-contrast"}


def test_a_loop_is_revealed_after_the_guess(open_notebook) -> None:
    notebook = open_notebook("05_when_it_breaks")
    explorer = notebook.explorers()[0]
    explorer.click("number", 3)
    box = notebook.page.locator(".widget-vbox:has(> .widget-hbox .widget-dropdown)")
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


def test_an_interrupt_stops_the_races(open_notebook) -> None:
    notebook = open_notebook("03_variance")
    notebook.run_new_cell("track = RaceTrack()\nstopped = track.show()\nprint('came back', stopped is None)")
    notebook.page.get_by_text("Racing …").last.wait_for()
    notebook.page.wait_for_timeout(1000)
    notebook.command("notebook:interrupt-kernel")
    notebook.page.get_by_text("Stopped. Run this cell again").wait_for(timeout=10_000)
    notebook.page.get_by_text("came back True", exact=True).wait_for()
    notebook.delete_last_cell()


def check_axes(explorer, picture, times: bool) -> None:
    """Ranges as the library says, and labels at the ticks that follow them."""
    for name, (lowest, highest, labels) in explorer.axes().items():
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
        if numbers and axis.get("type") != "log" and "ticktext" not in axis:
            assert lowest - 1e-9 <= min(numbers) < max(numbers) <= highest + 1e-9, name
            assert max(numbers) - min(numbers) > (highest - lowest) / 3, name


def check_plot(explorer, library) -> None:
    """What is on the screen is what the library computes for where the controls are."""
    library.choose(**{c.name: c.values[explorer.position(c.name)] for c in library._controls})
    picture = library.picture()
    rounding = library.shows_rounding
    words = without_numbers if rounding or library.shows_times else str
    assert words(explorer.summary()) == words(picture.summary)
    check_axes(explorer, picture, library.shows_times)
    for drawn, trace in zip(explorer.plotted(), picture.data, strict=True):
        assert drawn.get("name") == trace.get("name")
        for key in ("x", "y", "base"):
            if key in trace and library.shows_times and trace["xaxis"] != "x2":
                assert same_kind(np.array(drawn[key], float), np.array(trace[key], float))
            elif key in trace:
                assert same(np.array(drawn[key], float), np.array(trace[key], float), rounding)


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


def test_the_comparison_can_fail() -> None:
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
