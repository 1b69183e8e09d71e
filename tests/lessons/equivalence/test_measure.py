"""The microscope: errors beside a slow loop over tokens, bounds that hold, wrong weights that exceed them."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from accum_lib.check.case import token_batch, token_model
from accum_lib.lessons.equivalence.measure import FORMATS, REDUCTIONS, STEPS, microscope


def by_hand(k: int, reduction: str) -> float:
    """The relative error in float64 of K ragged micro-batches' mean gradients, token by token."""
    counts = np.random.default_rng(0).integers(1, 13, 128)[:k]
    model = token_model().double()
    grads, sums = [], 0.0
    for i, n in enumerate(counts):
        inputs, labels = token_batch(int(n), ignored=1, seed=i)
        total = 0.0
        for row, label in zip(inputs[:n].double(), labels[:n], strict=True):
            loss = cross_entropy(model(row[None]), label[None])
            parts = torch.autograd.grad(loss, list(model.parameters()))
            total = total + torch.cat([p.flatten() for p in parts])
        sums = sums + total
        grads.append(total / int(n))
    right = sums / int(counts.sum())
    divisor = k if reduction == "mean of means" else 1
    return float((sum(grads) / divisor - right).norm() / right.norm())


@pytest.mark.parametrize("reduction", ["mean of means", "not divided"])
def test_the_error_of_wrong_weights_is_that_of_a_loop_over_tokens(reduction) -> None:
    found = microscope("float64", reduction, True, [1, 2, 5])
    assert found.errors == pytest.approx([by_hand(k, reduction) for k in (1, 2, 5)], rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("ragged", [True, False])
def test_right_weights_stay_within_what_rounding_makes(name, ragged) -> None:
    found = microscope(name, "right", ragged)
    assert (found.errors <= found.bounds).all()
    assert (found.bounds < found.unit * 1e3).all(), "a bound that anything passes would prove nothing"


def test_wrong_weights_exceed_it_except_where_they_are_right() -> None:
    ragged, even = (microscope("float64", "mean of means", kind) for kind in (True, False))
    assert ragged.errors[0] <= ragged.bounds[0], "K = 1 has one weight, 1"
    assert (ragged.errors[1:] > 1e6 * ragged.bounds[1:]).all()
    assert (even.errors <= even.bounds).all(), "micro-batches that count alike hide it"
    undivided = microscope("float64", "not divided", False)
    assert undivided.errors == pytest.approx(np.array(STEPS) - 1, abs=1e-9)


def test_a_coarse_buffer_drifts_and_a_fine_one_does_not() -> None:
    coarse, fine = (
        microscope(name, "right", True).errors for name in ("float32, bfloat16 buffer", "float32")
    )
    assert coarse[-1] > 3 * coarse[0]
    assert fine[-1] < 3 * fine[0]


@pytest.mark.parametrize(("name", "reduction"), [("float8", "right"), ("float32", "median")])
def test_what_it_does_not_know_is_refused_by_name(name, reduction) -> None:
    with pytest.raises(ValueError, match=r"float8|median"):
        microscope(name, reduction, True)
    assert "right" in REDUCTIONS
