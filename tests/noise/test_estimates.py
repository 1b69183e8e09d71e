"""The noise scale from norms: unbiased over every window, and intervals that hold what they should."""

import itertools

import numpy as np
import pytest
import torch

from accum_lib.noise import example_gradients, from_gradients, from_two_sizes, from_window, from_windows
from accum_lib.noise.estimates import ratio_interval
from accum_lib.problems.digits import Digits

EXACT = 1e-9
RAGGED = (1, 3, 2)


@pytest.fixture(scope="module")
def seven() -> torch.Tensor:
    """The gradients of seven digits: every window of six of them can be written down."""
    problem = Digits("mlp", torch.float64, 7)
    return example_gradients(problem, problem.make_model())


def norms(
    gradients: torch.Tensor, rows: tuple[int, ...], counts: tuple[int, ...]
) -> tuple[list[float], float]:
    """Squared norms of what each micro-batch adds to ``.grad``, and of the whole, by hand."""
    parts = torch.tensor(rows).split(list(counts))
    shares = [gradients[part].sum(0) / len(rows) for part in parts]
    return [float(s.square().sum()) for s in shares], float(sum(shares).square().sum())


def plain_mean(counts, shares, whole, population) -> tuple[float, float]:
    """McCandlish's A.2 and A.3 with a plain mean over micro-batches and their mean count: wrong if ragged."""
    big, small = sum(counts), float(np.mean(counts))
    squares = np.mean([s * (big / c) ** 2 for s, c in zip(shares, counts, strict=True)])
    trace = (squares - whole) / (1 / small - 1 / big)
    return trace, whole - trace / big * (1 - big / population)


def over_every_window(gradients: torch.Tensor, estimate, counts=RAGGED) -> np.ndarray:
    """The estimate's mean over all windows that can be drawn without replacement."""
    windows = itertools.permutations(range(len(gradients)), sum(counts))
    return np.mean([estimate(counts, *norms(gradients, w, counts), len(gradients)) for w in windows], axis=0)


def test_one_windows_estimates_are_unbiased_whatever_the_counts(seven) -> None:
    people = from_gradients(seven)
    for counts in (RAGGED, (2, 2), (1, 4)):
        trace, squared_norm = over_every_window(seven, from_window, counts)
        assert trace == pytest.approx(people.trace, rel=EXACT)
        assert squared_norm == pytest.approx(people.squared_norm, rel=EXACT)


def test_a_plain_mean_over_ragged_micro_batches_is_not(seven) -> None:
    people = from_gradients(seven)
    assert over_every_window(seven, plain_mean, (2, 2))[0] == pytest.approx(people.trace, rel=EXACT)
    assert abs(over_every_window(seven, plain_mean)[0] / people.trace - 1) > 0.05


def test_taking_a_finite_data_set_for_endless_is_noticed(seven) -> None:
    def endless(counts, shares, whole, population):
        return from_window(counts, shares, whole, None)

    people = from_gradients(seven)
    assert abs(over_every_window(seven, endless)[1] / people.squared_norm - 1) > 0.05


def test_windows_are_weighted_by_what_they_count() -> None:
    found = from_windows(np.array([[3.0, 1.0], [9.0, 2.0]]), np.array([1.0, 3.0]))
    assert (found.trace, found.squared_norm) == pytest.approx((7.5, 1.75))
    assert found.noise_scale == pytest.approx(7.5 / 1.75)
    assert found.low < found.noise_scale < found.high
    alone = from_windows(np.array([[3.0, 1.0]]), np.array([1.0]))
    assert (alone.low, alone.high) == (0, np.inf), "one window says nothing about how windows differ"


def test_the_interval_of_equal_windows_is_that_of_their_sample_covariance() -> None:
    """As for any mean of n: its covariance is the sample's over n, with n - 1 degrees of freedom."""
    n, generator = 6, np.random.default_rng(0)
    windows = generator.normal([2.0, 3.0], [0.5, 0.1], size=(n, 2))  # traces, squared norms
    found = from_windows(windows, np.full(n, 8.0))
    low, high = ratio_interval(windows.mean(axis=0), np.cov(windows.T) / n, n - 1, 0.95)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.observations == n
    assert 0 < low < found.noise_scale < high < np.inf


@pytest.mark.parametrize("weakness", [0.1, 0.6])
def test_fiellers_interval_covers_a_ratio_even_if_its_denominator_is_hardly_known(weakness) -> None:
    """2,000 experiments of 20 observations each, correlated as trace and squared norm are."""
    dice, hits = np.random.default_rng(1), []
    spread = np.array([[1.0, -0.3], [-0.3, weakness]])
    for _ in range(2000):
        seen = dice.multivariate_normal([4.0, 0.6], spread, size=20)
        low, high = ratio_interval(seen.mean(0), np.cov(seen.T) / 20, 19, 0.9)
        hits.append(low <= 4.0 / 0.6 <= high)
    assert 0.88 < np.mean(hits) < 0.92


def test_two_sizes_cover_the_exact_value() -> None:
    """Batches of 1 and of 4 from 40 digits; 300 experiments."""
    problem = Digits("mlp", torch.float64, 40)
    gradients = example_gradients(problem, problem.make_model())
    people, dice, found = from_gradients(gradients), np.random.default_rng(2), []

    def squares(size: int) -> np.ndarray:
        batches = [gradients[dice.permutation(40)[:size]].mean(0) for _ in range(60)]
        return np.array([float(b.square().sum()) for b in batches])

    for _ in range(300):
        found.append(from_two_sizes(squares(1), 1, squares(4), 4, population=40))
    assert np.mean([f.trace for f in found]) == pytest.approx(people.trace, rel=0.03)
    assert np.mean([f.squared_norm for f in found]) == pytest.approx(people.squared_norm, rel=0.1)
    hits = np.mean([f.low <= people.noise_scale <= f.high for f in found])
    assert 0.92 < hits < 0.98
    assert all(f.confidence == 0.95 and f.observations == 120 for f in found)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="two micro-batches or more; got 1 and 1"):
        from_window([4], [1.0], 1.0)
    with pytest.raises(ValueError, match=r"counts 8.* more than the population of 6"):
        from_window([4, 4], [1.0, 1.0], 1.0, population=6)
    with pytest.raises(ValueError, match="small_size must be above 0 and below big_size; got 4 and 4"):
        from_two_sizes(np.ones(3), 4, np.ones(3), 4)
    with pytest.raises(ValueError, match="two norms or more of each size; got 1 and 3"):
        from_two_sizes(np.ones(1), 2, np.ones(3), 4)
    with pytest.raises(ValueError, match=r"confidence must be between 0 and 1.*got 95"):
        from_windows(np.ones((3, 2)), np.ones(3), confidence=95)
