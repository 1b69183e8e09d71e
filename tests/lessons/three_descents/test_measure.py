"""The comparison of descents: fair budgets, and a distance that would show a difference."""

import numpy as np
import pytest

from accum_lib.lessons.three_descents import figure
from accum_lib.lessons.three_descents.measure import EPOCHS, UPDATES, DescentComparison, surface
from accum_lib.problems.regression import Regression


@pytest.fixture(scope="module")
def comparison() -> DescentComparison:
    return DescentComparison(Regression(100))


@pytest.mark.parametrize(("m", "k"), [(10, 1), (10, 2), (20, 4), (7, 3), (50, 10)])
def test_accumulated_descent_goes_where_the_big_batch_goes(comparison, m, k) -> None:
    found = comparison.compare(m, k, 0.1)
    assert found.distance < 1e-12
    assert found.accumulated.updates == found.big.updates > 0
    assert np.ptp(found.accumulated.weights, axis=0).min() > 0.01, "it moved"


def test_the_sum_goes_elsewhere(comparison) -> None:
    assert comparison.compare(10, 2, 0.1, gradient="sum").distance > 0.1


def test_one_micro_batch_cannot_tell_sum_from_mean(comparison) -> None:
    assert comparison.compare(10, 1, 0.1, gradient="sum").distance == 0


def test_equal_examples_means_equal_examples(comparison) -> None:
    found = comparison.compare(10, 3, 0.1)
    for path in (found.full, found.mini, found.accumulated, found.big):
        assert path.examples[-1] == EPOCHS * 100
    assert (found.full.updates, found.mini.updates) == (EPOCHS, 10 * EPOCHS)
    assert found.accumulated.updates == 4 * EPOCHS, "windows of 30, 30, 30 and 10"
    assert found.accumulated.passes == 10 * EPOCHS


def test_equal_updates_means_equal_updates(comparison) -> None:
    found = comparison.compare(10, 2, 0.1, budget="updates")
    for path in (found.full, found.mini, found.accumulated, found.big):
        assert path.updates == UPDATES
    assert (found.full.examples[-1], found.mini.examples[-1]) == (100 * UPDATES, 10 * UPDATES)


def test_a_descent_that_blows_up_is_said_to_have_diverged(comparison) -> None:
    found = comparison.compare(10, 10, 0.4, gradient="sum")
    assert found.accumulated.diverged
    assert not found.big.diverged


def test_descents_from_another_start_go_where_they_go_by_hand() -> None:
    problem = Regression(100, start=(4.0, 2.0))
    found = DescentComparison(problem).compare(10, 2, 0.1, budget="updates")
    assert found.distance < 1e-12
    x, y, w = problem.x.numpy(), problem.y.numpy(), np.array([4.0, 2.0])
    for update in range(UPDATES + 1):
        assert np.abs(found.full.weights[update] - w).max() < 1e-12, f"full batch, update {update}"
        w = w - 0.1 * 2 * x.T @ (x @ w - y) / 100
    said = figure.start_summary(found)
    assert said.startswith(f"Above the minimum after {UPDATES} updates from (4, 2): accumulated: ")
    assert f"full batch: {found.full.excess[-1]:.3g}" in said


def test_an_unknown_budget_is_named(comparison) -> None:
    with pytest.raises(ValueError, match="'examples' or 'updates'; got 'seconds'"):
        comparison.compare(10, 2, 0.1, budget="seconds")


def test_the_surface_is_the_loss_above_its_minimum() -> None:
    problem = Regression(40)
    ground = surface(problem, half_width=1.0, points=5)
    x, y = problem.x.numpy(), problem.y.numpy()
    for row, w2 in enumerate(ground.w2):
        for column, w1 in enumerate(ground.w1):
            loss = np.mean((x @ [w1, w2] - y) ** 2)
            assert ground.excess[row, column] == pytest.approx(loss - ground.minimum_loss, abs=1e-12)
    assert ground.excess.argmin() == 12, "the middle of the grid"


def test_contour_lines_are_lines_of_equal_loss() -> None:
    problem = Regression(40)
    ground = surface(problem)
    ends = np.flatnonzero(np.isnan(ground.contours[:, 0]))
    lines = [line[:-1] for line in np.split(ground.contours, ends + 1)[:-1]]
    assert len(lines) >= 17
    for line in lines:
        logs = np.log10(problem.loss_at(line) - ground.minimum_loss)
        level = np.round(np.median(logs) * 4) / 4
        assert np.abs(logs - level).max() < 0.12, "interpolated between the grid's points"
