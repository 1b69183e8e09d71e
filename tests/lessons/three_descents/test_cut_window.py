"""A window cut into micro-batches, against weights and gradients written out in NumPy."""

import numpy as np
import pytest

from accum_lib.lessons.three_descents import cut_figure
from accum_lib.lessons.three_descents.measure import cut_window
from accum_lib.problems.regression import START, Regression

N, EXACT = 12, 1e-12
CUTS = {(4, 8): (4, 4, 4), (8, 1): (1, 7, 4), (5, 5): (5, 7), (1, 2): (1, 1, 10)}


@pytest.fixture(scope="module")
def problem() -> Regression:
    return Regression(N)


def by_hand(problem: Regression, weights: np.ndarray) -> np.ndarray:
    x, y = problem.x.numpy(), problem.y.numpy()
    return x.T @ (weights * 2 * (x @ np.array(START) - y))


@pytest.mark.parametrize("cuts", CUTS)
def test_weights_and_gradients_are_those_written_out(problem, cuts) -> None:
    window, sizes = cut_window(problem, cuts), CUTS[cuts]
    assert window.sizes == sizes
    even = np.full(N, 1 / N)
    of_means = np.concatenate([np.full(size, 1 / len(sizes) / size) for size in sizes])
    for found, weights in ((window.over_total, even), (window.mean_of_means, of_means)):
        assert np.abs(found.weights - weights).max() < EXACT
        assert np.abs(found.gradient - by_hand(problem, weights)).max() < EXACT * 100
    assert np.abs(window.big_batch - by_hand(problem, even)).max() < EXACT * 100


@pytest.mark.parametrize("cuts", CUTS)
def test_only_a_mean_of_means_moves_with_uneven_cuts(problem, cuts) -> None:
    window = cut_window(problem, cuts)
    assert window.error(window.over_total) < EXACT
    even = len(set(window.sizes)) == 1
    assert (window.error(window.mean_of_means) < EXACT) == even
    said = cut_figure.summary(window)
    assert ("is exact" in said, "is off by" in said) == (even, not even)


@pytest.mark.parametrize("cut", [0, N])
def test_a_cut_that_parts_nothing_is_refused(problem, cut) -> None:
    with pytest.raises(ValueError, match=f"a cut must be from 1 to 11, between two samples; got {cut}"):
        cut_window(problem, (4, cut))
