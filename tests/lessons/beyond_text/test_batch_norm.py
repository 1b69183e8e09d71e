"""Normalisations under accumulation, beside BatchNorm written out by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from accum_lib.lessons.beyond_text import measure as lens
from accum_lib.problems.digits import Digits, FrozenBatchNorm


@pytest.fixture(scope="module", autouse=True)
def short():
    """Two windows and three sizes suffice here."""
    before = lens.SIZES, lens.WINDOWS
    lens.SIZES, lens.WINDOWS = (4, 16, 64), 2
    yield
    lens.SIZES, lens.WINDOWS = before


@pytest.mark.parametrize("norm", ["group", "frozen"])
def test_what_does_not_look_at_the_batch_is_exact(norm) -> None:
    assert lens.norm_errors(norm).gradient_errors.max() < 1e-13


def test_batch_norm_differs_the_more_the_smaller_m_is() -> None:
    errors = lens.norm_errors("batch").gradient_errors
    assert errors[0] > errors[1] > 0.01
    assert errors[2] < 1e-13


def normalised(x, layer):
    """BatchNorm in training mode, from its definition."""
    mean = x.mean((0, 2, 3), keepdim=True)
    spread = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    shape = (1, -1, 1, 1)
    return (x - mean) / (spread + layer.eps).sqrt() * layer.weight.view(shape) + layer.bias.view(shape)


def test_the_gradients_error_is_that_of_batch_norm_by_hand() -> None:
    problem = Digits("cnn", torch.float64)
    model = problem.make_model()
    first, norm1, _, second, norm2, _, _, last = model

    def loss(indices):
        images, labels = problem.batch(indices)
        hidden = normalised(second(normalised(first(images), norm1).relu()), norm2).relu()
        return F.cross_entropy(last(hidden.flatten(1)), labels, reduction="sum") / 64

    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    errors = []
    for window in (order[:64], order[64:128]):
        cut, whole = (
            torch.cat([g.flatten() for g in torch.autograd.grad(total, list(model.parameters()))])
            for total in (sum(loss(i) for i in window.split(4)), loss(window))
        )
        errors.append(float((cut - whole).norm() / whole.norm()))
    assert lens.norm_errors("batch").gradient_errors[0] == pytest.approx(np.mean(errors), rel=1e-9)


def test_running_means_by_hand_with_and_without_correction() -> None:
    problem = Digits("cnn", torch.float64)
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))[:128].split(64)
    first = problem.make_model()[0]
    for corrected in (False, True):
        p = 1 - 0.9 ** (1 / 16) if corrected else 0.1
        start = first(problem.images).mean((0, 2, 3))
        cut, whole = start, start
        for window in order:
            for indices in window.split(4):
                cut = (1 - p) * cut + p * first(problem.images[indices]).mean((0, 2, 3))
            whole = 0.9 * whole + 0.1 * first(problem.images[window]).mean((0, 2, 3))
        layer = _after(problem, order, p)
        assert torch.allclose(layer.running_mean, cut)
        assert not torch.allclose(layer.running_mean, whole, rtol=1e-9)


def _after(problem, order, momentum):
    model = lens.calibrated(problem, momentum)
    with torch.no_grad():
        for window in order:
            for indices in window.split(4):
                model(problem.images[indices])
    return model[1]


def test_a_corrected_momentum_brings_the_running_statistics_closer_and_nothing_else() -> None:
    plain, corrected = lens.norm_errors("batch"), lens.norm_errors("batch", corrected=True)
    assert (corrected.mean_errors[:2] < plain.mean_errors[:2] / 3).all()
    assert (corrected.variance_errors[:2] < plain.variance_errors[:2] / 3).all()
    assert corrected.gradient_errors == pytest.approx(plain.gradient_errors)


def test_a_momentum_divided_by_k_is_told_from_the_right_one() -> None:
    assert (1 - lens.momentum_for(0.1, 16)) ** 16 == pytest.approx(0.9, rel=1e-12)
    assert pytest.approx(0.9, rel=1e-3) != (1 - 0.1 / 16) ** 16


def test_calibration_measures_all_data_also_for_frozen_layers() -> None:
    problem = Digits("cnn", torch.float64, norm="frozen")
    model = lens.calibrated(problem)
    seen = model[0](problem.images)
    assert isinstance(model[1], FrozenBatchNorm)
    assert not model[1].training
    assert torch.allclose(model[1].running_mean, seen.mean((0, 2, 3)))


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="norm must be one of batch, group, frozen; got 'layer'"):
        lens.norm_errors("layer")
