"""The hunt: nothing before the guess, the whole story after it, and the two explorers' pictures."""

import numpy as np
import pytest
import torch

from accum_lib.check.faults import FAULTS, loops
from accum_lib.lessons.equivalence import questions
from accum_lib.lessons.when_it_breaks import observe
from accum_lib.lessons.when_it_breaks import questions as pitfalls
from accum_lib.lessons.when_it_breaks.explorer import (
    BugHunt,
    difference,
    line_up_explorer,
    sightings_explorer,
)
from accum_lib.lessons.when_it_breaks.observe import OBSERVATIONS, UNITS, Pages, train
from accum_lib.lessons.when_it_breaks.record import Sightings
from accum_lib.problems.digits import mlp


def test_the_line_up_shows_what_a_log_shows() -> None:
    """The first run again by hand: a plain loop over its pages in float32, one loss a micro-batch."""
    pages, seed = Pages(), observe.SEEDS
    logged: list[float] = []
    train(loops.right, pages.shuffled(seed), torch.optim.Adam, 1, seed, torch.float32, logged)
    torch.manual_seed(seed)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    expected, order = [], pages.shuffled(seed)
    for start in range(0, len(order), observe.STEPS):
        window = order[start : start + observe.STEPS]
        total = sum(int((y >= 0).sum()) for _, y in window)
        for x, y in window:
            losses = torch.nn.functional.cross_entropy(model(x), y, reduction="none")
            expected.append(float(losses.detach().sum() / (y >= 0).sum()))
            (losses.sum() / total).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert logged == pytest.approx(expected, rel=1e-3)


def test_the_line_up_has_right_runs_and_broken_ones_and_its_words_hide_which(monkeypatch) -> None:
    monkeypatch.setattr(observe, "LINE_UP_EPOCHS", 1)
    monkeypatch.setattr(observe, "SUSPECTS", ("", "mean_of_means"))
    done = []
    runs = observe.line_up(lambda *share: done.append(share))
    assert runs.titles == ("", "A mean of means")
    assert runs.losses.shape == (2, observe.PAGES)
    assert done == [(1, 2), (2, 2)]
    explorer = line_up_explorer(lambda: runs)
    explorer.fill()
    hidden, shown = (explorer.cells[key]["summary"] for key in ("0", "1"))
    assert "mean of means" not in hidden
    assert "B " in shown
    assert "(A mean of means)" in shown
    assert explorer.figure["marks"]["right"] == [False, True]


@pytest.fixture
def hunt() -> BugHunt:
    return BugHunt()


def test_the_button_waits_for_a_guess_and_a_move_forgets_it(hunt) -> None:
    assert hunt.button.disabled
    hunt.guess.value = "mean_of_means"
    assert not hunt.button.disabled
    hunt.explorer.choose(number=2)
    assert hunt.button.disabled
    assert hunt.guess.value == ""


def test_each_loop_is_revealed_with_its_name_source_and_place(hunt) -> None:
    titles = {f.code: f for f in FAULTS}
    for number, (code, _) in enumerate(hunt.suspects, start=1):
        hunt.explorer.choose(number=number)
        hunt.guess.value = code
        hunt.button.click()
        assert hunt.errors == []
        assert "Well seen." in hunt.reply.value
        assert "def " in hunt.reply.value
        if code != "right":
            assert titles[code].source in hunt.reply.value
            assert "The checker: " in hunt.reply.value
    assert f"Named so far: {len(hunt.suspects)} of {len(hunt.suspects)}" in hunt.reply.value


def test_a_wrong_guess_is_said_and_not_counted(hunt) -> None:
    code, _ = hunt.suspects[0]
    hunt.guess.value = next(f.code for f in FAULTS if f.code != code)
    hunt.button.click()
    assert "Not that one." in hunt.reply.value
    assert hunt.named == set()


def test_the_difference_marks_what_is_wrong() -> None:
    lines = difference(loops.right, loops.off_by_one)
    assert "+         if i % accumulation_steps == 0:" in lines
    assert not [line for line in lines if line.startswith("?")]


def made_up() -> Sightings:
    """A table in which each fault is seen by one observation less than the one before."""
    shape = len(FAULTS), len(OBSERVATIONS)
    values = np.arange(np.prod(shape), dtype=float).reshape(shape)
    seen = np.arange(shape[1])[None] >= (np.arange(shape[0]) % shape[1])[:, None]
    names = tuple(f.code for f in FAULTS)
    return Sightings(names, OBSERVATIONS, values, seen, UNITS, np.array([2.0, 2.0, 1e-5, 1e-5, 0.0]))


def test_the_matrix_draws_every_fault_under_every_observation() -> None:
    explorer = sightings_explorer(made_up)
    explorer.fill()
    assert explorer.errors == []
    picture = explorer.picture()
    seen, hidden = picture.data[0], picture.data[1]
    assert len(seen["x"]) + len(hidden["x"]) == len(FAULTS) * len(OBSERVATIONS)
    assert len(seen["x"]) == made_up().seen.sum()
    assert "3 of 15 faults stand out" in picture.summary


def test_the_predictions_take_their_answers_from_runs() -> None:
    lonely = questions.lonely_token()._answer()
    assert lonely[0] == 1
    assert "2.000" in lonely[1]
    right, words = questions.coarse_buffer(32)._answer()
    assert right in (0, 1)
    assert "float32 buffer" in words
    assert pitfalls.seen_in_the_loss(made_up)._answer()[0] == 2
    few = made_up()
    few.values[few.faults.index("divided_twice")] = [0, 0, 0.0004, 0.8, 0.8]
    assert pitfalls.hidden_by_adam(lambda: few)._answer()[0] == 2
