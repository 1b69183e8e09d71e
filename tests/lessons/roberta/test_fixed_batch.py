"""One B cut several ways: equal where it must be, not where it must not, and the lens can tell."""

import numpy as np
import pytest
import torch

from accum_lib.accumulate import apply_update
from accum_lib.lessons.kit.still import png
from accum_lib.lessons.roberta import measure as lens
from accum_lib.lessons.roberta.figure import picture
from accum_lib.problems.base import micro_batches
from accum_lib.problems.digits import Digits
from accum_lib.problems.roberta import Roberta

SETTINGS = {"batch_size": 8, "steps": (1, 2, 8), "updates": 4}


def test_the_curves_are_those_of_big_batches_by_hand() -> None:
    problem = Digits("mlp", torch.float64, 48)
    found = lens.fixed_batch(problem, **SETTINGS)
    model = problem.make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=problem.default_learning_rate)
    order, losses = torch.Generator().manual_seed(0), []
    for batch, _ in zip(micro_batches(problem, 8, order), range(4), strict=False):
        loss = problem.loss_sum(model, batch) / 8
        loss.backward()
        losses.append(loss.item())
        apply_update(model, optimizer)
    assert found.losses == pytest.approx(np.array([losses] * 3), rel=1e-12)
    assert found.distances == pytest.approx(np.zeros(3), abs=1e-12)
    assert found.distance_again == 0
    assert not found.batch_norm


def test_a_sum_in_place_of_a_mean_is_seen(monkeypatch) -> None:
    """The comparison can fail: K times too large a gradient takes other ways."""
    right = lens.descend
    monkeypatch.setattr(lens, "descend", lambda *a, **s: right(*a, **s, gradient="sum"))
    found = lens.fixed_batch(Digits("mlp", torch.float64, 48), **SETTINGS)
    assert found.distances[0] == 0
    assert (found.distances[1:] > 0.1).all()


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_dropout_makes_them_differ_as_much_as_other_masks_do(dropout) -> None:
    problem = Roberta(num_samples=48, max_tokens=12, dropout=dropout)
    found = lens.fixed_batch(problem, **SETTINGS)
    if dropout:
        assert found.distances[1] > 0.1
        assert 0.2 < found.distances[1] / found.distance_again < 5
    else:
        assert found.distances.max() < 1e-4
        assert found.distance_again == 0


def test_the_random_state_outside_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    lens.fixed_batch(Roberta(num_samples=16, max_tokens=12, dropout=0.1), 8, (1, 2), 1)
    assert torch.rand(1) == expected


def test_what_makes_no_sense_is_refused() -> None:
    problem = Digits("mlp", torch.float64, 48)
    with pytest.raises(ValueError, match=r"first K must be 1.*\(2, 4\)"):
        lens.fixed_batch(problem, 8, (2, 4))
    with pytest.raises(ValueError, match=r"divide B = 8; \[3\]"):
        lens.fixed_batch(problem, 8, (1, 3))


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (Digits("mlp", num_samples=48), "never further than"),
        (Digits("cnn", num_samples=48), "BatchNorm sees M examples"),
        (Roberta(num_samples=48, max_tokens=12, dropout=0.1), "Dropout draws other masks"),
    ],
)
def test_its_picture_says_what_is_seen_and_why(problem, says) -> None:
    runs = lens.fixed_batch(problem, **SETTINGS)
    assert "the one big batch itself" in picture(runs, 1).summary
    drawn = picture(runs, 8)
    assert says in drawn.summary
    assert png(drawn).startswith(b"\x89PNG")
