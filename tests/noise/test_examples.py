"""Gradients of single examples: vectorised, in a loop, and written out by hand."""

import pytest
import torch
from reference import relative_error
from torch import nn

from accum_lib.noise import example_gradients, gradient_chunks
from accum_lib.noise import examples as module
from accum_lib.problems.digits import Digits
from accum_lib.problems.regression import Regression
from accum_lib.problems.roberta import Roberta

ROUNDING = 1e-12


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits("mlp", torch.float64, 40)


@pytest.mark.parametrize("method", ["func", "loop", "auto"])
def test_a_regressions_gradients_are_those_of_the_textbook(method) -> None:
    problem = Regression(30)
    model = problem.make_model()
    residual = model(problem.x).squeeze(-1) - problem.y
    expected = (2 * residual[:, None] * problem.x).detach()
    assert relative_error(example_gradients(problem, model, method=method), expected) < ROUNDING


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_vectorised_and_in_a_loop_they_are_the_same(kind) -> None:
    problem = Digits(kind, torch.float64, 40)
    model = problem.make_model().eval()
    loop, func = (example_gradients(problem, model, method=method) for method in ("loop", "func"))
    assert loop.shape == (40, sum(p.numel() for p in model.parameters()))
    assert relative_error(func, loop) < ROUNDING


def test_the_order_of_the_examples_is_what_was_asked_for(digits) -> None:
    model, rows = digits.make_model(), torch.tensor([7, 0, 31])
    chosen = example_gradients(digits, model, rows)
    assert relative_error(chosen, example_gradients(digits, model, method="func")[rows]) < ROUNDING
    assert relative_error(chosen.flip(0), chosen) > 0.1, "the examples differ, so their order shows"


def test_a_model_that_cannot_be_vectorised_goes_through_the_loop() -> None:
    problem = Roberta(num_samples=6, max_tokens=24)
    model = problem.make_model().double()
    with pytest.raises(RuntimeError, match="vmap"):
        example_gradients(problem, model, method="func")
    rows = example_gradients(problem, model)
    batch = problem.batch(torch.arange(6))
    whole = torch.autograd.grad(problem.loss_sum(model, batch), list(model.parameters()))
    assert relative_error(rows.sum(0), torch.cat([g.flatten() for g in whole])) < 1e-9, "padding adds nothing"


def test_batches_that_are_mappings_are_vectorised_too(digits) -> None:
    class Named(Digits):
        def batch(self, indices):
            return dict(zip(("images", "labels"), super().batch(indices), strict=True))

        def loss_sum(self, model, batch):
            return super().loss_sum(model, (batch["images"], batch["labels"]))

    problem = Named("mlp", torch.float64, 40)
    assert torch.equal(
        example_gradients(problem, problem.make_model(), method="func"),
        example_gradients(digits, digits.make_model(), method="func"),
    )


def test_a_batch_whose_first_axis_is_not_its_examples_goes_through_the_loop(digits) -> None:
    """Vectorised it would run, and take the pixels' rows of two images for examples."""

    class Packed(Digits):
        def batch(self, indices):
            images, labels = super().batch(indices)
            return images.reshape(-1, 64), labels

    class Turned(Digits):
        def batch(self, indices):
            images, labels = super().batch(indices)
            return images.flatten(1).T.contiguous(), labels

        def loss_sum(self, model, batch):
            return super().loss_sum(model, (batch[0].T, batch[1]))

    expected = example_gradients(digits, digits.make_model(), method="loop")
    for kind in (Packed, Turned):
        problem = kind("mlp", torch.float64, 40)
        assert relative_error(example_gradients(problem, problem.make_model()), expected) < ROUNDING


def test_frozen_parameters_are_left_out_and_unused_ones_are_zero() -> None:
    class Partly(Regression):
        def make_model(self, seed=0):
            model = super().make_model(seed)
            model.unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
            model.frozen = nn.Parameter(torch.ones(5, dtype=torch.float64), requires_grad=False)
            return model

    problem = Partly(9)
    model = problem.make_model()
    for method in ("func", "loop"):
        rows = example_gradients(problem, model, method=method)
        assert rows.shape == (9, 5), "two weights and three unused"
        assert int((rows.abs().sum(0) == 0).sum()) == 3
        assert rows.abs().sum() > 0


def test_the_model_is_left_as_it_was(digits) -> None:
    model = digits.make_model()
    before = [p.clone() for p in model.parameters()]
    for method in ("func", "loop"):
        example_gradients(digits, model, method=method)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert model.training


def test_no_more_is_held_at_once_than_fits(digits, monkeypatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 7 * 2410 * 8)
    chunks = list(gradient_chunks(digits, digits.make_model()))
    assert [len(c) for c in chunks] == [7, 7, 7, 7, 7, 5]


def test_layers_under_which_an_example_has_no_gradient_of_its_own_are_refused() -> None:
    problem = Digits("cnn", torch.float64, 8)
    model = problem.make_model()
    with pytest.raises(ValueError, match=r"1 is a BatchNorm in training mode.*model\.eval\(\)"):
        example_gradients(problem, model)
    assert len(example_gradients(problem, model.eval())) == 8
    dropping = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).double()
    with pytest.raises(ValueError, match=r"1 drops out with p = 0\.5"):
        example_gradients(problem, dropping)
    assert len(example_gradients(problem, dropping.eval())) == 8


def test_bad_settings_are_named(digits) -> None:
    with pytest.raises(ValueError, match=r"method must be one of.*'magic'"):
        example_gradients(digits, digits.make_model(), method="magic")
    with pytest.raises(ValueError, match="all are frozen"):
        example_gradients(digits, digits.make_model().requires_grad_(False))
