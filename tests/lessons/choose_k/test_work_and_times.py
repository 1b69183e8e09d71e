"""The formulas against an optimisation that knows nothing of them; the fit against known coefficients."""

import numpy as np
import pytest

from accum_lib.lessons.choose_k.costs import PAIRS, examples_factor, fit_times, measure_times, updates_factor
from accum_lib.memory.settings import Settings
from accum_lib.memory.workloads import mlp_workload

NOISE, GRADIENT = 40.0, 1.0  # tr(Sigma) / |G|^2, and |G|^2


def best_step(batch: float, rng: np.random.Generator, draws: int = 40_000) -> float:
    """The largest mean fall of a quadratic loss in one update with noisy gradients, over many rates tried.

    ``L(w) = |w|^2 / 2`` in 8 directions, so that G = w; noise of variance tr(Sigma) / B is added to it.
    """
    w = np.full(8, np.sqrt(GRADIENT / 8))
    gradients = w + rng.normal(0, np.sqrt(NOISE * GRADIENT / 8 / batch), (draws, 8))
    along, squared = (gradients @ w).mean(), np.square(gradients).sum(1).mean()
    ends = [0.5 * (w @ w - 2 * r * along + r * r * squared) for r in np.geomspace(1e-5, 1.2, 2000)]
    return 0.5 * w @ w - min(ends)


def agrees(updates, examples, batch: float) -> bool:
    """Updates are 1 / fall: what they are with an endless batch, and how many examples they take."""
    rng = np.random.default_rng(0)
    fall = best_step(batch, rng)
    endless = best_step(1e9, rng)
    tiny = best_step(0.01, rng) / 0.01  # the most fall for an example that there is
    right_updates = np.isclose(updates(NOISE, batch), endless / fall, rtol=0.03)
    right_examples = np.isclose(examples(NOISE, batch), tiny * batch / fall, rtol=0.03)
    return bool(right_updates and right_examples)


@pytest.mark.parametrize("batch", [4, 40, 400])
def test_updates_and_examples_are_what_the_best_rate_gives(batch) -> None:
    assert agrees(updates_factor, examples_factor, batch)


def test_the_comparison_notices_a_formula_that_is_upside_down() -> None:
    assert not agrees(lambda noise, b: 1 + b / noise, examples_factor, 4)
    assert not agrees(updates_factor, lambda noise, b: 1 + noise / b, 400)
    assert not agrees(examples_factor, updates_factor, 4)
    assert not agrees(lambda noise, b: noise / b, examples_factor, 40)


def test_updates_and_examples_are_one_count() -> None:
    """E = S B, in units of E_min = S_min B_noise."""
    for b in (1, 7, 300):
        assert examples_factor(NOISE, b) == pytest.approx(updates_factor(NOISE, b) * b / NOISE)


@pytest.mark.parametrize("batch", [0, -4, np.array([8.0, 0.0])])
@pytest.mark.parametrize("factor", [updates_factor, examples_factor])
def test_an_update_of_nothing_is_refused(factor, batch) -> None:
    with pytest.raises(ValueError, match="M and K of 1 or more; got B = "):
        factor(NOISE, batch)


def made(coefficients: tuple[float, float, float], noise: float = 0.0) -> np.ndarray:
    a, b, c = coefficients
    dice = np.random.default_rng(1)
    return np.array([(k * (a + b * m) + c) * (1 + noise * dice.normal()) for m, k in PAIRS])


@pytest.mark.parametrize("known", [(1e-3, 2e-4, 5e-4), (3e-3, 0.0, 1e-4), (1e-4, 1e-3, 0.0)])
def test_the_fit_finds_known_coefficients(known) -> None:
    m, k = np.array(PAIRS).T
    found = fit_times(m, k, made(known), "made")
    assert (found.pass_seconds, found.example_seconds, found.update_seconds) == pytest.approx(known, abs=1e-9)
    assert found.worst < 1e-6
    assert found.seconds(8, 3) == pytest.approx(3 * (known[0] + 8 * known[1]) + known[2])


def test_noise_moves_the_fit_a_little_and_is_admitted() -> None:
    m, k = np.array(PAIRS).T
    found = fit_times(m, k, made((1e-3, 2e-4, 5e-4), 0.02), "made")
    assert (found.pass_seconds, found.example_seconds) == pytest.approx((1e-3, 2e-4), rel=0.1)
    assert 0.001 < found.worst < 0.1


def test_a_swap_of_m_and_k_would_be_noticed() -> None:
    m, k = np.array(PAIRS).T
    swapped = fit_times(k, m, made((1e-3, 2e-4, 5e-4)), "made")
    assert swapped.worst > 0.2


def test_pairs_that_cannot_tell_the_coefficients_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="several M and several K"):
        fit_times(np.array([4, 4, 4]), np.array([1, 2, 4]), np.ones(3), "made")
    with pytest.raises(ValueError, match="above 0 seconds; got 0"):
        fit_times(np.array([1, 2, 4, 4]), np.array([1, 1, 1, 2]), np.array([1, 1, 0, 1]), "made")


def test_what_is_measured_here_is_measured_and_says_where() -> None:
    found = measure_times(
        mlp_workload(hidden=16), Settings("sgd", "for-loop"), ((1, 1), (8, 1), (4, 4), (8, 2)), 2
    )
    assert found.device == "cpu"
    assert (found.measured > 0).all()
    assert len(found.measured) == 4
