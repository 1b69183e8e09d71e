"""Each notebook in JupyterLab, as a reader uses it: run all cells, answer, move every control.

All but one of them, and the controls of that one, too, are for `make test-all`: every explorer stands in the
gallery (test_gallery.py), and the cells of every notebook are run by nbval.
"""

import pathlib
from functools import cache

import pytest
from accessibility import violations
from driving import Expected, answer, check, check_fit, click_through, walk_by_keyboard
from made_trials import times_from
from meter import WATCH
from notebook_page import OUTPUTS, QUESTIONS

from accum_lib.lessons.beyond_text.explorer import norm_explorer, speech_explorer, weighting_explorer
from accum_lib.lessons.capstone.explorer import run_explorer
from accum_lib.lessons.capstone.measure import found_script
from accum_lib.lessons.choose_k.explorer import choose_k_explorer, trial_explorer
from accum_lib.lessons.distributed.explorer import forecast_explorer, traffic_explorer
from accum_lib.lessons.distributed.measure import measure_here
from accum_lib.lessons.equivalence.explorer import microscope_explorer
from accum_lib.lessons.memory.explorer import memory_explorer, planner_explorer
from accum_lib.lessons.roberta.explorer import fixed_batch_explorer
from accum_lib.lessons.three_descents.explorer import (
    cuts_explorer,
    descents_explorer,
    moments_explorer,
    starts_explorer,
)
from accum_lib.lessons.two_claims.explorer import claims_explorer
from accum_lib.lessons.variance.explorer import guess_explorer, races_explorer, variance_explorer
from accum_lib.lessons.variance.measure import VarianceLab
from accum_lib.lessons.when_it_breaks.explorer import clues_explorer, line_up_explorer, sightings_explorer

pytestmark = pytest.mark.browser

LAB = cache(VarianceLab)  # once for all explorers of a notebook
EXPLORERS = {
    "00_start_here": [moments_explorer, cuts_explorer],
    "01_three_descents": [descents_explorer, starts_explorer],
    "02_equivalence": [microscope_explorer],
    "03_variance": [
        lambda: guess_explorer(LAB()),
        lambda: variance_explorer(LAB()),
        races_explorer,
    ],
    "04_memory": [memory_explorer, planner_explorer],
    "05_when_it_breaks": [line_up_explorer, clues_explorer, sightings_explorer],
    "06_roberta": [fixed_batch_explorer],
    "07_beyond_text": [norm_explorer, weighting_explorer, speech_explorer],
    "08_distributed": [lambda: traffic_explorer(measure_here()), forecast_explorer],
    "09_choose_k": [choose_k_explorer, trial_explorer],
    "10_capstone": [lambda: run_explorer(found_script)],
    "11_two_claims": [claims_explorer],
}
# Curves that are errors of rounding: another process rounds otherwise.
SHOWS_ROUNDING = {"02_equivalence", "06_roberta", "07_beyond_text", "10_capstone"}
SHOWS_TIMES = {("08_distributed", 0)}  # and another run takes another while; its bytes are the same
USES_TIMES = {("09_choose_k", 0): times_from}  # the page says which it was made from, so all can be compared


@pytest.fixture(scope="session")
def expected(notebook) -> list[Expected]:
    """The explorers of this notebook as the library makes them, here and now."""
    made = []
    for number, make in enumerate(EXPLORERS.get(notebook.name, [])):
        place = notebook.name, number
        revive = USES_TIMES.get(place)
        explorer = make(revive(notebook.explorer(number).facts())) if revive else make()
        made.append(Expected(None, explorer, notebook.name in SHOWS_ROUNDING, place in SHOWS_TIMES))
    return made


def test_it_runs_and_asks_nothing_of_the_network(notebook, meter) -> None:
    assert notebook.error_outputs() == []
    assert notebook.page_errors == []
    assert len(notebook.requests) > 10, "requests are being recorded"
    assert notebook.requests_off_the_machine() == []
    assert len(notebook.explorers()) == len(EXPLORERS.get(notebook.name, []))
    meter.note(
        f"{notebook.name}: first figure {notebook.seconds_to_first_figure:.1f} s after 'run all' with a new "
        f"kernel, all cells run after {notebook.seconds_to_run:.1f} s"
    )


def test_the_recorder_would_notice_a_request(notebook) -> None:
    seen = list(notebook.requests)
    notebook.page.evaluate("() => { fetch('http://192.0.2.1/').catch(() => 0); }")  # reserved for examples
    assert notebook.requests_off_the_machine() == ["http://192.0.2.1/"]
    notebook.requests[:] = seen


@pytest.mark.slow
def test_every_control_works_with_the_keyboard_alone(notebook, expected, meter) -> None:
    notebook.page.evaluate(WATCH)
    for explorer, library in zip(notebook.explorers(), expected, strict=True):
        assert explorer.status() == ""
        check(explorer.look(), library)
        for control in explorer.controls():
            walk_by_keyboard(explorer, library, control)
    meter.add(notebook.name, notebook.page.evaluate("() => window.__meter.waits.splice(0)"))


@pytest.mark.slow
def test_every_control_works_with_the_mouse(notebook, expected) -> None:
    for explorer, library in zip(notebook.explorers(), expected, strict=True):
        for control in explorer.controls():
            click_through(explorer, library, control)


def test_explorers_fit_their_place_and_are_labelled(notebook) -> None:
    for explorer in notebook.explorers():
        check_fit(explorer)


def test_our_outputs_have_no_serious_violation(notebook) -> None:
    """What our code has put out, not JupyterLab around it."""
    outputs = notebook.page.locator(OUTPUTS)
    seen = [violations(outputs.nth(i)) for i in range(outputs.count())]
    assert len(seen) > len(notebook.explorers()), "explorers and at least one prediction"
    assert [found for found in seen if found] == []


def test_a_prediction_is_answered_after_the_guess(notebook) -> None:
    boxes = notebook.page.locator(QUESTIONS)
    assert boxes.count() > 0
    for i in range(boxes.count()):
        assert answer(boxes.nth(i)).startswith(("✓ As you predicted.", "✗ "))


def test_pictures_of_the_explorers(notebook, pytestconfig, tmp_path) -> None:
    """Each explorer as it stands at first; ``--pictures docs/pictures`` renews those in the README."""
    folder = pathlib.Path(pytestconfig.getoption("pictures") or tmp_path)
    for number, explorer in enumerate(notebook.explorers()):
        explorer.root.scroll_into_view_if_needed()
        picture = folder / f"{notebook.name}{f'_{number + 1}' if number else ''}.png"
        explorer.root.screenshot(path=picture)
        assert picture.stat().st_size > 10_000, "an empty sheet compresses to less"
