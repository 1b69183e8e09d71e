"""The three descents against hand counts, closed forms and a second implementation in NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from accum_lib.descent import accumulated, descend, full_batch, mini_batch
from accum_lib.problems.base import micro_batches
from accum_lib.problems.digits import Digits, mlp
from accum_lib.problems.regression import START, Regression
from accum_lib.problems.roberta import PAD, Roberta, make_roberta

EXACT = 1e-12


def relative_error(value: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(value - reference) / np.linalg.norm(reference))


# --- What a Run records


@pytest.mark.parametrize(
    ("n", "m", "k", "epochs", "examples", "passes"),
    [
        (1000, 100, 2, 1, [200, 400, 600, 800, 1000], 10),  # the worked example
        (10, 3, 2, 1, [6, 10], 4),  # micro-batches of 3, 3, 3, 1
        (10, 3, 2, 2, [6, 10, 16, 20], 8),  # no window spans two epochs
        (10, 4, 5, 2, [10, 20], 6),  # an epoch shorter than K
        (3, 1, 1, 1, [1, 2, 3], 3),
        (5, 5, 1, 3, [5, 10, 15], 3),  # full batch
    ],
)
def test_a_run_counts_what_happened(n, m, k, epochs, examples, passes) -> None:
    run = descend(Regression(n), micro_batch_size=m, accumulation_steps=k, epochs=epochs, record=True)
    assert run.examples_seen.tolist() == examples
    assert run.updates == len(examples) == len(run.losses)
    assert run.forward_passes == run.backward_passes == passes
    assert run.trajectory.shape == (run.updates + 1, 2)
    assert run.gradients.shape == (run.updates, 2)
    assert run.effective_batch_size == m * k
    assert not run.diverged


def test_it_may_stop_in_the_middle_of_an_epoch() -> None:
    run = accumulated(Regression(100), 10, 2, max_updates=3, epochs=9)
    assert run.examples_seen.tolist() == [20, 40, 60]
    assert (run.forward_passes, run.trajectory, run.gradients) == (6, None, None)


def test_a_descent_that_diverges_stops_before_the_update() -> None:
    """The limit is below the second loss, so one update is made and two windows are run."""
    problem = Regression(100)
    first = full_batch(problem, learning_rate=5.0)
    run = full_batch(problem, learning_rate=5.0, epochs=50, loss_limit=first.losses[0] + 1, record=True)
    assert run.diverged
    assert (run.updates, len(run.gradients), run.forward_passes) == (1, 1, 2)


def test_the_names_of_the_three_descents() -> None:
    problem = Regression(8)
    runs = full_batch(problem), mini_batch(problem, 4), accumulated(problem, 2, 3)
    settings = [(run.name, run.micro_batch_size, run.accumulation_steps) for run in runs]
    assert settings == [("full batch", 8, 1), ("mini-batch", 4, 1), ("accumulated", 2, 3)]


# --- Regression, against the same descent written in NumPy


def numpy_descent(problem: Regression, batch: int, rate: float, epochs: int, seed: int) -> np.ndarray:
    """Mini-batch descent by the closed-form gradient; the order is all that it shares with the library."""
    x, y, w = problem.x.numpy(), problem.y.numpy(), np.array(START)
    order, path = torch.Generator().manual_seed(seed), [np.array(START)]
    for _ in range(epochs):
        shuffled = torch.randperm(len(y), generator=order).numpy()
        for start in range(0, len(y), batch):
            rows = shuffled[start : start + batch]
            w = w - rate * 2 * x[rows].T @ (x[rows] @ w - y[rows]) / len(rows)
            path.append(w)
    return np.array(path)


@pytest.mark.parametrize(("m", "k"), [(24, 1), (12, 2), (8, 3), (6, 4), (1, 24)])
def test_the_same_effective_batch_gives_the_same_path_however_it_is_cut(m, k) -> None:
    """N = 100 and B = 24 leave a trailing window of 4 in each of the three epochs."""
    problem = Regression(100)
    run = accumulated(problem, m, k, learning_rate=0.05, epochs=3, seed=7, record=True)
    expected = numpy_descent(problem, batch=24, rate=0.05, epochs=3, seed=7)
    assert run.trajectory.shape == expected.shape == (16, 2)
    assert np.abs(run.trajectory - expected).max() < EXACT
    assert len(np.unique(run.trajectory, axis=0)) == 16, "every update moved"


def test_a_full_batch_uses_the_closed_form_gradient() -> None:
    problem = Regression(50)
    x, y, w = problem.x.numpy(), problem.y.numpy(), np.array(START)
    run = full_batch(problem, record=True)
    assert relative_error(run.gradients[0], 2 * x.T @ (x @ w - y) / 50) < EXACT
    assert run.losses[0] == pytest.approx(np.mean((x @ w - y) ** 2), rel=EXACT)


def test_the_reported_loss_is_the_mean_over_the_window_before_its_update() -> None:
    problem = Regression(10)
    run = accumulated(problem, 3, 2, learning_rate=0.01, record=True)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0)).numpy()
    x, y = problem.x.numpy(), problem.y.numpy()
    parts = zip(np.split(order, [6]), run.trajectory[:2], strict=True)  # windows of 6 and of 3 + 1 samples
    expected = [np.mean((x[rows] @ w - y[rows]) ** 2) for rows, w in parts]
    assert run.losses == pytest.approx(expected, rel=EXACT)


def test_the_sum_is_k_times_the_mean() -> None:
    """Three micro-batches of 5 in the first window; the trailing one has 1, where sum and mean agree."""
    problem, settings = Regression(20), dict(learning_rate=0.01, record=True)
    mean = accumulated(problem, 5, 3, **settings)
    summed = accumulated(problem, 5, 3, gradient="sum", **settings)
    assert relative_error(summed.gradients[0], 3 * mean.gradients[0]) < EXACT
    thrice = accumulated(problem, 5, 3, learning_rate=0.03, max_updates=1, record=True)
    assert np.abs(summed.trajectory[1] - thrice.trajectory[1]).max() < EXACT
    tail = accumulated(problem, 5, 1, gradient="sum", **settings), accumulated(problem, 5, 1, **settings)
    assert np.array_equal(tail[0].trajectory, tail[1].trajectory)


def test_the_loss_surface_is_the_mean_squared_error_at_each_weight() -> None:
    problem = Regression(30)
    grid = np.random.default_rng(0).normal(size=(3, 4, 2))
    expected = [[np.mean((problem.x.numpy() @ w - problem.y.numpy()) ** 2) for w in row] for row in grid]
    assert np.allclose(problem.loss_at(grid), expected, rtol=1e-12)


def test_at_the_minimum_the_gradient_is_zero_and_all_else_is_higher() -> None:
    problem = Regression(30)
    x, y, least = problem.x.numpy(), problem.y.numpy(), problem.minimum()
    assert np.abs(x.T @ (x @ least - y)).max() < 1e-10
    around = least + 0.01 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    assert (problem.loss_at(around) > problem.loss_at(least)).all()


def test_a_long_descent_arrives_at_the_minimum() -> None:
    problem = Regression(30)
    run = full_batch(problem, epochs=500, record=True)
    assert np.abs(run.trajectory[-1] - problem.minimum()).max() < 1e-6


# --- Settings and randomness


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(micro_batch_size=0), "between 1 and the data set's 10 samples; got 0"),
        (dict(micro_batch_size=11), "between 1 and the data set's 10 samples; got 11"),
        (dict(micro_batch_size=5, accumulation_steps=0), "accumulation_steps"),
        (dict(micro_batch_size=5, epochs=0), "epochs"),
        (dict(micro_batch_size=5, max_updates=0), "max_updates"),
        (dict(micro_batch_size=5, learning_rate=0.0), "learning_rate"),
        (dict(micro_batch_size=5, learning_rate=float("nan")), "learning_rate"),
        (dict(micro_batch_size=5, gradient="median"), "'mean' or 'sum'; got 'median'"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        descend(Regression(10), **settings)


def test_a_loss_that_overflows_is_an_error() -> None:
    with pytest.raises(ValueError, match="loss of micro-batch 0 is"):
        full_batch(Regression(10), learning_rate=1e30, epochs=20)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Regression(0), "num_samples"),
        (lambda: Digits("rnn"), "'mlp' or 'cnn'"),
        (lambda: Digits(num_samples=0), "between 1 and 1797"),
        (lambda: Roberta(max_tokens=2), "between 3 and 512"),
        (lambda: Roberta(max_tokens=129), "at most 128"),
        (lambda: Roberta(num_samples=0), "num_samples"),
        (lambda: make_roberta("huge"), "size must be one of"),
    ],
)
def test_a_problem_that_cannot_be_made_says_why(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_seed_decides_everything() -> None:
    problem = Digits(num_samples=60)
    paths = [accumulated(problem, 5, 3, seed=seed, record=True).trajectory for seed in (1, 1, 2)]
    assert np.array_equal(paths[0], paths[1])
    assert not np.array_equal(paths[0][0], paths[2][0]), "another seed draws other weights"


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1]
    accumulated(Digits("cnn", num_samples=20), 5, 2)
    descend(Roberta(num_samples=4, max_tokens=16), micro_batch_size=2)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_an_epoch_has_every_sample_once_in_an_order_that_m_does_not_change() -> None:
    problem = Regression(10)
    orders = []
    for m in (1, 3, 10):
        batches = list(micro_batches(problem, m, torch.Generator().manual_seed(4)))
        orders.append(torch.cat([y for _, y in batches]).tolist())
    assert orders[0] == orders[1] == orders[2]
    assert sorted(orders[0]) == sorted(problem.y.tolist())
    assert orders[0] != problem.y.tolist()
    in_order = torch.cat([y for _, y in micro_batches(problem, 3)])
    assert torch.equal(in_order, problem.y)


# --- Digits


def first_gradients(problem, *settings: tuple[int, int]) -> list[np.ndarray]:
    """The first update's gradient for each (M, K)."""
    return [accumulated(problem, m, k, max_updates=1, record=True).gradients[0] for m, k in settings]


def test_the_mlp_has_2410_parameters() -> None:
    assert sum(p.numel() for p in mlp().parameters()) == 64 * 32 + 32 + 32 * 10 + 10 == 2410


def test_the_digits_are_1797_images_of_8_by_8() -> None:
    problem = Digits()
    assert problem.images.shape == (1797, 1, 8, 8)
    assert (problem.images.min(), problem.images.max()) == (0, 1)
    assert problem.labels.unique().tolist() == list(range(10))


def test_an_mlp_cannot_tell_accumulation_from_a_big_batch() -> None:
    whole, cut = first_gradients(Digits("mlp", torch.float64, 64), (32, 1), (8, 4))
    assert relative_error(cut, whole) < EXACT


def test_batch_norm_can() -> None:
    """Its mean and variance are those of 8 images, not of 32: not a matter of rounding."""
    whole, cut = first_gradients(Digits("cnn", torch.float64, 64), (32, 1), (8, 4))
    assert relative_error(cut, whole) > 0.05


def test_the_cnn_without_batch_norm_in_training_cannot() -> None:
    """With the normalisation's statistics held fixed the difference is gone: BatchNorm was the reason."""

    class Fixed(Digits):
        def make_model(self, seed: int = 0) -> nn.Module:
            return super().make_model(seed).eval()

    whole, cut = first_gradients(Fixed("cnn", torch.float64, 64), (32, 1), (8, 4))
    assert relative_error(cut, whole) < EXACT


def test_the_digits_are_learnt() -> None:
    run = accumulated(Digits(), 16, 2, epochs=3, learning_rate=0.5)
    assert run.losses[-10:].mean() < 0.4 < 2 < run.losses[0]


# --- RoBERTa, tiny


class DoubleRoberta(Roberta):
    def make_model(self, seed: int = 0) -> nn.Module:
        return super().make_model(seed).double()


@pytest.fixture(scope="module")
def roberta() -> DoubleRoberta:
    return DoubleRoberta(num_samples=32, max_tokens=64)


def test_padding_to_another_length_does_not_change_roberta_s_gradient(roberta) -> None:
    whole, cut, single = first_gradients(roberta, (8, 1), (2, 4), (1, 8))
    assert relative_error(cut, whole) < EXACT
    assert relative_error(single, whole) < EXACT


def test_the_texts_are_ragged_and_the_padding_is_masked(roberta) -> None:
    lengths = [len(tokens) for tokens in roberta.tokens]
    batch = roberta.batch(torch.arange(32))
    assert len(set(lengths)) > 4
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert torch.equal(batch["input_ids"] == PAD, batch["attention_mask"] == 0)
    assert batch["input_ids"].shape == (32, max(lengths))


def test_a_short_batch_is_padded_only_to_its_own_longest(roberta) -> None:
    shortest = min(range(32), key=lambda i: len(roberta.tokens[i]))
    assert roberta.batch(torch.tensor([shortest]))["input_ids"].shape == (1, len(roberta.tokens[shortest]))


def test_both_packages_are_there_in_about_equal_parts() -> None:
    share = Roberta(num_samples=100, max_tokens=16).labels.double().mean()
    assert 0.4 < share < 0.6
