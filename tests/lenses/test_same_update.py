"""The one number that says whether an update is the same: right where it is, and never on nothing."""

import pytest
import torch
from torch import nn

from accum_lib.lenses.same_update import relative_difference
from accum_lib.problems import Digits


def test_the_mlp_is_the_same_and_batch_norm_is_not() -> None:
    assert relative_difference(Digits("mlp", torch.float64, 64), 16, 4) < 1e-12
    assert relative_difference(Digits("cnn", torch.float64, 64), 16, 4) > 0.01


def test_a_wrong_count_is_seen() -> None:
    class Miscounted(Digits):
        def count(self, batch):
            return super().count(batch) + (float(batch[0].sum()) == float(self.images[:4].sum()))

    assert relative_difference(Miscounted("mlp", torch.float64, 64), 4, 2) > 0.01


def test_nothing_compared_is_an_error() -> None:
    class Constant(Digits):
        def loss_sum(self, model: nn.Module, batch):
            return 0 * super().loss_sum(model, batch)

    with pytest.raises(ValueError, match="nothing was compared"):
        relative_difference(Constant("mlp", torch.float64, 64), 4, 2)


def test_a_window_larger_than_the_data_is_named() -> None:
    with pytest.raises(ValueError, match="M·K = 80 samples is more than the 64"):
        relative_difference(Digits("mlp", num_samples=64), 20, 4)
