"""Notebook 10: the repaired script ends where one big batch ends, and the found one does not."""

import ast
import inspect
import re
import runpy

import numpy as np
import pytest
import solutions
import torch
from asking import asked
from gallery import MadeRun

from accum_lib.lessons.capstone import figure, questions
from accum_lib.lessons.capstone.explorer import run_explorer
from accum_lib.lessons.capstone.measure import Run, apart, big_batch, found_script, problem
from accum_lib.machine import one_thread

REPAIRED = runpy.run_path(str(solutions.ANSWERS / "10_capstone.py"))["train"]


def test_the_repaired_script_ends_where_one_big_batch_does() -> None:
    repaired, found = Run(REPAIRED), Run(found_script)
    assert apart(repaired, big_batch()) < 1e-5
    assert apart(found, big_batch()) > 0.5
    np.testing.assert_allclose(repaired.losses, big_batch().losses, rtol=1e-5)
    assert found.losses[-1] - found.losses[0] > (repaired.losses[-1] - repaired.losses[0]) / 2


def test_the_notebook_shows_the_script_that_is_run() -> None:
    """Twice: to be read, and in the cell in which it is repaired."""
    text = (solutions.ROOT / "notebooks" / "src" / "10_capstone.py").read_text()
    read = re.search(r"^# ```python\n(.*?)^# ```", text, re.MULTILINE | re.DOTALL)
    cell = re.search(r"^def train\(.*?^    return log$", text, re.MULTILINE | re.DOTALL)
    shown = [re.sub(r"^# ?", "", read[1], flags=re.MULTILINE), cell[0]]
    own = ast.parse(inspect.getsource(found_script)).body[0].body[1:]  # without the docstring
    for source in shown:
        assert [ast.dump(line) for line in ast.parse(source).body[0].body] == [ast.dump(line) for line in own]


def test_the_first_epoch_of_the_reference_is_plain_big_batch_training_in_float64() -> None:
    """By hand: each window of 32 in one pass, every loss a mean over its hidden tokens, AdamW."""
    model = problem().make_model().double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    with one_thread():
        for update, rows in enumerate(torch.arange(90).split(32)):
            optimizer.param_groups[0]["lr"] = 2e-3 * 0.95**update
            loss = problem().loss_sum(model, problem().batch(rows)) / problem().count(problem().batch(rows))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        every = problem().batch(torch.arange(90))
        with torch.no_grad():
            after = float(problem().loss_sum(model, every)) / problem().count(every)
    assert big_batch().losses[1] == pytest.approx(after, rel=1e-5)


def test_the_question_is_answered_by_the_run() -> None:
    assert "As you predicted." in asked(questions.how_far(), 2)
    assert "It is: <b>less than half as far</b>" in asked(questions.how_far(), 0)


def test_the_words_tell_rounding_from_another_run() -> None:
    explorer = run_explorer(
        REPAIRED, lambda script: MadeRun(float(script is found_script)), lambda: MadeRun(0.0)
    )
    explorer.fill()
    assert explorer.errors == []
    found, yours = (explorer.cells[key]["summary"] for key in ("0", "1"))
    assert "it is another run" in found
    assert "it is the same run" in yours


def test_the_figure_draws_both_losses() -> None:
    drawn = figure.picture(np.array([3.0, 2.0]), np.array([3.0, 1.0]), 0.5)
    assert [list(trace["y"]) for trace in drawn.data] == [[3.0, 1.0], [3.0, 2.0]]
    assert drawn.figure().layout.meta["summary"] == drawn.summary
