"""Each moment of a window, against the gradient written out in NumPy."""

import numpy as np
import pytest
import torch

from accum_lib.descent import accumulated
from accum_lib.lessons.three_descents.measure import window_story
from accum_lib.problems.regression import Regression

N, M, K, RATE = 44, 4, 4, 0.1  # 11 micro-batches: windows of 4, 4 and 3
EXACT = 1e-12


@pytest.fixture(scope="module")
def problem() -> Regression:
    return Regression(N)


@pytest.fixture(scope="module")
def story(problem):
    return window_story(problem, M, K, RATE)


def test_each_window_has_a_moment_before_one_for_each_pass_and_one_after(story) -> None:
    expected = [(u, k, False) for u, length in enumerate((4, 4, 3)) for k in range(length + 1)]
    assert [(m.update, m.micro_batch, m.moved) for m in story if not m.moved] == expected
    assert [(m.update, m.window_length) for m in story if m.moved] == [(0, 4), (1, 4), (2, 3)]


def test_the_shares_are_the_micro_batches_gradients_over_the_windows_count(problem, story) -> None:
    x, y = problem.x.numpy(), problem.y.numpy()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0)).numpy()
    for moment in story:
        if moment.moved or moment.micro_batch != moment.window_length:
            continue
        w, first = moment.weights[-1], moment.update * M * K
        rows = order[first : first + M * moment.window_length].reshape(-1, M)
        shares = [2 * x[r].T @ (x[r] @ w - y[r]) / rows.size for r in rows]
        assert np.abs(moment.shares - shares).max() < EXACT
        assert np.abs(moment.big_batch - np.sum(shares, axis=0)).max() < EXACT
        assert moment.loss == pytest.approx(np.mean((x[rows] @ w - y[rows]) ** 2), rel=EXACT)
        assert np.array_equal(moment.samples, x[rows[-1]])


def test_the_weights_move_once_per_window_and_as_descend_moves_them(problem, story) -> None:
    run = accumulated(problem, M, K, learning_rate=RATE, record=True)
    assert np.array_equal(story[-1].weights, run.trajectory)
    for moment in story:
        assert len(moment.weights) == moment.update + 1 + moment.moved


def test_the_buffer_is_empty_before_a_window_and_after_the_update(story) -> None:
    assert all(len(m.shares) == 0 for m in story if m.moved or m.micro_batch == 0)
