"""The explorer's data: it draws the mini-batches measured, and its laws and guesses are what they say."""

import numpy as np
import pytest
import torch

from accum_lib.lessons.variance.measure import SAMPLINGS, VarianceLab, accumulated_means, draw
from accum_lib.noise import law
from accum_lib.problems.digits import Digits


@pytest.fixture(scope="module")
def lab() -> VarianceLab:
    return VarianceLab(num_samples=64, draws=200)


def test_a_cloud_is_what_accumulation_gives(lab) -> None:
    problem = Digits("mlp", torch.float64, 64)
    rows = draw(64, 16, 200, "shuffled", seed=16 * len(SAMPLINGS))
    model = problem.make_model()
    real = accumulated_means(problem, model, rows[:5], micro_batch_size=4)
    full = accumulated_means(problem, model, torch.arange(64)[None], micro_batch_size=64)[0]
    found = lab.batches(16)
    assert found.squared_errors[:5] == pytest.approx((real - full).square().sum(1).numpy(), rel=1e-9)
    assert found.points[:5, 0] == pytest.approx((real @ full / full.square().sum()).numpy(), rel=1e-9)
    assert (found.entries - lab.full_entry).mean() == pytest.approx(0, abs=4 * found.entries.std() / 200**0.5)


def test_the_curve_is_in_lengths_of_the_full_gradient(lab) -> None:
    curve = lab.curve("shuffled")
    assert curve.batch_sizes.tolist() == [1, 2, 4, 8, 16, 32, 64]
    expected = [law(lab.population, b) / lab.population.squared_norm for b in curve.law_sizes]
    assert np.allclose(curve.law, expected)
    assert curve.law[0] == pytest.approx(lab.population.noise_scale * 63 / 64)
    at_8 = lab.batches(8).variance / lab.population.squared_norm
    assert curve.measured[3] == pytest.approx(at_8)


def test_the_guess_that_is_right_is_found_and_a_wrong_measurement_finds_another() -> None:
    guesses = VarianceLab(draws=100).guesses()
    assert guesses.nearest == 3
    assert guesses.curves[:, 0].tolist() == [1, 1, 1, 1]
    for i, curve in enumerate(guesses.curves):
        assert type(guesses)(32, 512, guesses.steps, guesses.curves, curve).nearest == i
