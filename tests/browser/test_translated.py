"""Notebooks in another language, in JupyterLab: they speak it throughout, and wider words still fit."""

import re

import pytest
from driving import english

pytestmark = pytest.mark.browser
CHINESE = ["zh/00_start_here", "zh/04_memory"]


@pytest.fixture(scope="module", params=CHINESE)
def notebook(request, open_notebook):
    return open_notebook(request.param)


@pytest.mark.slow
def test_it_runs_and_its_explorers_speak_it(notebook) -> None:
    assert notebook.error_outputs() == []
    assert notebook.page_errors == []
    assert notebook.requests_off_the_machine() == []
    assert notebook.explorers()
    for explorer in notebook.explorers():
        words = explorer.root.inner_text() + explorer.summary()
        assert re.search(r"[\u3400-\u9fff]", words)
        assert english(words) == []


@pytest.mark.slow
def test_every_control_works_and_nothing_is_cut_off(notebook) -> None:
    for explorer in notebook.explorers():
        for control in explorer.controls():
            start = explorer.position(control)
            for position in (explorer.positions(control) - 1, 0, start):
                explorer.click(control, position)
                assert not explorer.is_error()
                assert explorer.root.evaluate("e => e.scrollWidth <= e.clientWidth")
                assert english(explorer.summary()) == []


@pytest.mark.slow
def test_a_prediction_is_answered_in_it(notebook) -> None:
    box = notebook.page.locator(".widget-vbox:has(> .widget-radio)").first
    box.scroll_into_view_if_needed()
    box.locator("input[type=radio]").first.check()
    box.get_by_role("button", name="看看结果").click()
    reply = box.locator("[role=status]")
    reply.wait_for()
    assert re.search(r"[\u3400-\u9fff]", reply.inner_text())
    assert english(reply.inner_text()) == []


def test_english_that_is_left_would_be_noticed() -> None:
    assert english("峰值 peak memory 为 3 GiB，RoBERTa-base") == ["peak memory"]
