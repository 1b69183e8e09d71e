"""The law tr(Sigma)/B * (1 - B/N): every mini-batch there is, and measured ones. Wrong laws must not pass."""

import itertools

import numpy as np
import pytest
import torch
from reference import CLASSES, FEATURES, relative_error

from accum_lib.lessons.variance.measure import (
    accumulated_means,
    bootstrap,
    describe_batches,
    draw,
    means,
    plane,
)
from accum_lib.noise import example_gradients, from_gradients, law, population
from accum_lib.noise.records import Population
from accum_lib.problems.digits import Digits
from accum_lib.problems.roberta import Roberta

EXACT = 1e-12


def without_the_finite_factor(p: Population, b: int) -> float:
    return p.trace / b


def with_the_biased_variance(p: Population, b: int) -> float:
    return p.trace * (p.num_samples - 1) / p.num_samples / b * (1 - b / p.num_samples)


WRONG_LAWS = [without_the_finite_factor, with_the_biased_variance]


@pytest.fixture(scope="module")
def tiny():
    """Six digits: all of their 2 to the 6th mini-batches can be written down."""
    problem = Digits("mlp", torch.float64, 6)
    return problem, problem.make_model(), example_gradients(problem, problem.make_model())


@pytest.fixture(scope="module")
def digits():
    problem = Digits("mlp", torch.float64, 64)
    model = problem.make_model()
    return problem, model, example_gradients(problem, model)


def every_batch(gradients: torch.Tensor, size: int, replacement: bool) -> float:
    """E|g - G|^2, from the definition: over all mini-batches of that size."""
    n = len(gradients)
    batches = (
        itertools.product(range(n), repeat=size) if replacement else itertools.combinations(range(n), size)
    )
    full = gradients.mean(0)
    return float(np.mean([float((gradients[list(b)].mean(0) - full).square().sum()) for b in batches]))


@pytest.mark.parametrize(("replacement", "sizes"), [(False, range(1, 7)), (True, range(1, 5))])
def test_it_is_exact_over_all_mini_batches_there_are(tiny, replacement, sizes) -> None:
    _, _, gradients = tiny
    people = from_gradients(gradients)
    for size in sizes:
        expected = every_batch(gradients, size, replacement)
        assert law(people, size, replacement) == pytest.approx(expected, rel=EXACT, abs=EXACT)


@pytest.mark.parametrize("wrong", WRONG_LAWS)
def test_a_wrong_law_is_not(tiny, wrong) -> None:
    _, _, gradients = tiny
    people = from_gradients(gradients)
    for size in (1, 3, 5):
        assert wrong(people, size) != pytest.approx(every_batch(gradients, size, False), rel=0.1)


GRID = (1, 2, 4, 8, 16, 32, 48, 60)
SIMULTANEOUS = 1 - 0.05 / len(GRID)  # all intervals together hold in 95 of 100 experiments


@pytest.fixture(scope="module")
def measured(digits):
    """Variances of gradients that ``accumulate`` made, in micro-batches of four, at every B on the grid."""
    problem, model, gradients = digits
    found = {}
    for size in GRID:
        rows = draw(64, size, 400, seed=size)
        batches = accumulated_means(problem, model, rows, micro_batch_size=4)
        found[size] = describe_batches(
            batches, gradients.mean(0), plane(gradients), rows, "shuffled", confidence=SIMULTANEOUS
        )
    return found


def agrees(found, predicted) -> list[bool]:
    return [found[b].low <= predicted(b) <= found[b].high for b in GRID]


def test_measured_variance_agrees_within_its_bootstrap_interval_at_every_b(digits, measured, capsys) -> None:
    people = population(digits[0], digits[1])
    with capsys.disabled():
        print("\nvariance of accumulated mini-batch gradients of 64 digits, beside the law")
        for b in GRID:
            m = measured[b]
            print(f"  B = {b:2}: {m.variance:.4g} in [{m.low:.4g}, {m.high:.4g}],"
                  f" law {law(people, b):.4g}")  # fmt: skip
    assert all(agrees(measured, lambda b: law(people, b)))
    assert max(measured[b].high / measured[b].low for b in GRID) < 1.6, "an interval that holds anything"


def test_leaving_the_finite_factor_out_is_noticed(digits, measured) -> None:
    people = from_gradients(digits[2])
    verdicts = agrees(measured, lambda b: without_the_finite_factor(people, b))
    assert not any(verdicts[GRID.index(16) :])


def test_the_biased_variance_is_noticed(tiny) -> None:
    """It differs by 1/N, so it takes a small N and many draws."""
    _, _, gradients = tiny
    people, full, directions = from_gradients(gradients), gradients.mean(0), torch.eye(2, 2410).double()
    for size in (1, 2, 3, 4):
        rows = draw(6, size, 4000, seed=size)
        found = describe_batches(means(gradients, rows), full, directions, rows, "shuffled", confidence=0.99)
        assert found.low <= law(people, size) <= found.high
        assert not found.low <= with_the_biased_variance(people, size) <= found.high


def test_a_batch_of_everything_has_no_variance(digits) -> None:
    _, _, gradients = digits
    rows = draw(64, 64, 5)
    assert law(from_gradients(gradients), 64) == 0
    assert relative_error(means(gradients, rows), gradients.mean(0).expand(5, -1)) < EXACT


# --- The population


def test_streamed_sums_give_what_the_definition_gives(digits) -> None:
    problem, model, gradients = digits
    rows = torch.arange(5, 50)
    streamed = population(problem, model, rows)
    covariance = np.cov(gradients[rows].numpy().T)  # divides by N - 1
    assert streamed.trace == pytest.approx(np.trace(covariance), rel=1e-9)
    full = torch.autograd.grad(
        problem.loss_sum(model, problem.batch(rows)) / len(rows), list(model.parameters())
    )
    assert streamed.squared_norm == pytest.approx(sum(float(g.square().sum()) for g in full), rel=1e-9)
    assert streamed.noise_scale == streamed.trace / streamed.squared_norm
    assert from_gradients(gradients[rows]).trace == pytest.approx(streamed.trace, rel=1e-9)


class Ragged:
    """Sequences of one to nine tokens, each token with a label: a mean over tokens, not over sequences."""

    def __init__(self, num_samples: int = 9) -> None:
        self.num_samples = num_samples
        dice = torch.Generator().manual_seed(3)
        self.lengths = torch.randint(1, 10, (num_samples,), generator=dice).tolist()
        self.inputs = [torch.randn(n, FEATURES, generator=dice).double() for n in self.lengths]
        self.labels = [torch.randint(CLASSES, (n,), generator=dice) for n in self.lengths]

    def make_model(self, seed: int = 0) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torch.nn.Linear(FEATURES, CLASSES).double()

    def batch(self, indices):
        chosen = indices.tolist()
        return torch.cat([self.inputs[i] for i in chosen]), torch.cat([self.labels[i] for i in chosen])

    def loss_sum(self, model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum")

    def count(self, batch) -> int:
        return len(batch[1])


def test_over_tokens_the_law_is_right_to_the_first_order() -> None:
    """All mini-batches of B sequences: the error falls as B grows, and a count of sequences is far off."""
    problem = Ragged(14)
    model = problem.make_model()
    people = population(problem, model)
    sums, tokens = example_gradients(problem, model), torch.tensor(problem.lengths).double()
    full = sums.sum(0) / tokens.sum()
    assert people.num_samples * people.mean_count == pytest.approx(58)
    assert people.squared_norm == pytest.approx(float(full.square().sum()), rel=1e-9)
    errors = []
    for size in (2, 4, 7):
        exact = np.mean([
            float((sums[list(b)].sum(0) / tokens[list(b)].sum() - full).square().sum())
            for b in itertools.combinations(range(14), size)
        ])  # fmt: skip
        errors.append(abs(law(people, size) / exact - 1))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.08
    equal_weights = from_gradients(sums / tokens[:, None])
    assert abs(law(equal_weights, 7) / exact - 1) > 0.15


def test_roberta_has_a_population_too() -> None:
    problem = Roberta(num_samples=8, max_tokens=24)
    model = problem.make_model().double()
    assert population(problem, model).trace == pytest.approx(
        from_gradients(example_gradients(problem, model, method="loop")).trace, rel=1e-9
    )


def test_bad_populations_are_named(digits) -> None:
    problem, model, gradients = digits
    with pytest.raises(ValueError, match="two examples or more; got 1"):
        population(problem, model, torch.arange(1))
    with pytest.raises(ValueError, match="two examples or more; got 1"):
        from_gradients(gradients[:1])
    for size in (0, 65):
        with pytest.raises(ValueError, match=f"at most the 64 examples; got {size}"):
            law(from_gradients(gradients), size)

    class Ignored(Digits):
        def count(self, batch):
            return 0

    with pytest.raises(ValueError, match="count 0 in total"):
        population(Ignored("mlp", torch.float64, 8), model)


# --- Sampling


@pytest.mark.parametrize("sampling", ["shuffled", "not shuffled", "sorted by class"])
def test_without_replacement_no_example_comes_twice(sampling) -> None:
    rows = draw(20, 13, 50, sampling, labels=torch.arange(20) % 3)
    assert rows.shape == (50, 13)
    assert all(len(set(row.tolist())) == 13 for row in rows)


@pytest.mark.parametrize("sampling", ["shuffled", "with replacement", "not shuffled", "sorted by class"])
def test_every_example_is_as_likely_as_any_other(sampling) -> None:
    rows = draw(8, 3, 40_000, sampling, labels=torch.arange(8) % 2)
    assert np.abs(np.bincount(rows.flatten(), minlength=8) / rows.numel() - 1 / 8).max() < 0.005


def test_neighbours_are_neighbours_and_classes_stay_together() -> None:
    labels = torch.arange(100) % 10
    for row in draw(100, 4, 30, "not shuffled"):
        assert torch.equal(row, (row[0] + torch.arange(4)) % 100)
    of_one_class = [
        len(set(labels[row].tolist())) == 1 for row in draw(100, 4, 300, "sorted by class", 1, labels)
    ]
    assert 0.6 < np.mean(of_one_class) < 0.8, "7 of 10 places begin a run of four in one class"


def test_sorted_by_class_the_variance_falls_more_slowly_than_the_law(digits) -> None:
    problem, _, gradients = digits
    rows = draw(64, 6, 400, "sorted by class", labels=problem.labels)
    found = describe_batches(
        means(gradients, rows), gradients.mean(0), plane(gradients), rows, "sorted by class"
    )
    assert found.low > 2 * law(from_gradients(gradients), 6)


def test_means_are_what_accumulation_gives(digits) -> None:
    problem, model, gradients = digits
    rows = draw(64, 10, 6, seed=2)
    accumulated = accumulated_means(problem, model, rows, micro_batch_size=4)  # windows of 4, 4 and 2
    assert relative_error(accumulated, means(gradients, rows)) < EXACT
    one_by_one = torch.stack([gradients[row].mean(0) for row in rows])
    assert relative_error(means(gradients, rows), one_by_one) < EXACT
    repeated = torch.tensor([[3, 3, 5]])
    assert relative_error(means(gradients, repeated)[0], (2 * gradients[3] + gradients[5]) / 3) < EXACT


def test_what_is_measured_is_what_it_says(digits) -> None:
    _, _, gradients = digits
    full, directions = gradients.mean(0), plane(gradients)
    rows = draw(64, 5, 200, seed=4)
    batches = means(gradients, rows)
    found = describe_batches(batches, full, directions, rows, "shuffled")
    assert found.variance == pytest.approx(np.mean([(b - full).square().sum() for b in batches]))
    similar = torch.nn.functional.cosine_similarity(batches, full.expand_as(batches))
    assert np.allclose(found.cosines, similar, rtol=EXACT)
    assert found.bias < 2 * found.bias_noise, "a mini-batch gradient is right on average"
    along = float(batches[7] @ full / full.square().sum())
    assert found.points[7, 0] == pytest.approx(along)
    half = describe_batches(means(gradients[:32], rows % 32), full, directions, rows, "only the first half")
    assert half.bias > 2.5 * half.bias_noise, "examples that are never drawn are missed"


def test_the_planes_directions_are_what_they_are_called(digits) -> None:
    _, _, gradients = digits
    along, across = plane(gradients)
    full = gradients.mean(0)
    assert relative_error(along * full.norm(), full) < EXACT
    assert float(along @ across) == pytest.approx(0, abs=1e-9)
    rest = gradients - full - torch.outer((gradients - full) @ along, along)
    expected = torch.linalg.eigvalsh(rest @ rest.T)[-1]
    assert float((rest @ across).square().sum()) == pytest.approx(float(expected), rel=1e-9)


def test_the_bootstrap_covers_a_mean_as_often_as_it_says() -> None:
    dice = np.random.default_rng(0)
    hits = [low <= 1 <= high for low, high in (bootstrap(dice.exponential(size=80), 0.9) for _ in range(500))]
    assert 0.85 < np.mean(hits) < 0.93


def test_bad_draws_are_named() -> None:
    with pytest.raises(ValueError, match=r"sampling must be one of.*'lucky'"):
        draw(10, 2, 3, "lucky")
    with pytest.raises(ValueError, match="between 1 and the 10 examples; got 11"):
        draw(10, 11, 3)
    with pytest.raises(ValueError, match="give the labels"):
        draw(10, 2, 3, "sorted by class")
    assert draw(10, 11, 3, "with replacement").shape == (3, 11)
