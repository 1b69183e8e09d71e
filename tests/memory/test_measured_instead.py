"""Whatever cannot be predicted can be measured: "Measure it instead" is advice that can be followed."""

import threading

import pytest
import torch
from torch import Tensor, nn

from accum_lib.lessons.memory.measure import measure_apart
from accum_lib.losses import classification_loss_sum
from accum_lib.memory.prediction import predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace import UntraceableError
from accum_lib.memory.workloads import Workload, of_model

HOW = Settings(implementation="for-loop")
WIDTH = 64


def batch(m: int) -> tuple[Tensor, Tensor]:
    return torch.ones(m, 20, 8), torch.zeros(m, dtype=torch.long)


class Keeps(nn.Module):
    """Keeps what its layer returned last, in a list in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = {"last": [self.layer(x)]}
        return self.head(self.seen["last"][0].mean(1))


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(8, WIDTH), nn.Flatten(), nn.Linear(20 * WIDTH, 10))


def kept() -> nn.Module:
    model = Keeps()
    model(batch(2)[0])
    return model


def weight_norm() -> nn.Module:
    model = plain()
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model[0])
    return model


def spectral_norm() -> nn.Module:
    model = plain()
    nn.utils.parametrizations.spectral_norm(model[0])
    return model


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return plain()


def local_class() -> nn.Module:
    class Local(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.head = nn.GRU(8, WIDTH, batch_first=True), nn.Linear(WIDTH, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gru(x)[0][:, -1])

    return Local()


def locked() -> nn.Module:
    model = plain()
    model[0].lock, model[0].numbers = threading.Lock(), iter(range(3))
    model[0].owner = {"log": (i for i in range(3))}
    return model


def anyones(model: nn.Module) -> Workload:
    return of_model(model, lambda m: batch(m), lambda model, b: classification_loss_sum(model, b))


@pytest.mark.parametrize("make", [kept, weight_norm, spectral_norm, on_meta, local_class, locked])
def test_a_model_of_any_kind_is_predicted_and_measured(make) -> None:
    workload = anyones(make())
    measured = measure_apart(workload, 16, 2, HOW)
    assert predict(workload, HOW, "cpu").peak_bytes(16, 2) == pytest.approx(measured, rel=0.01)


def test_what_the_error_says_to_measure_can_be_measured() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = plain()

        def forward(self, x: Tensor) -> Tensor:
            y = self.body(x)
            return y * 2 if y.sum() > 0 else y

    workload = anyones(Branches())
    with pytest.raises(UntraceableError, match="measure it instead"):
        predict(workload, HOW, "cpu")
    alike = anyones(plain())
    assert measure_apart(workload, 16, 2, HOW) == pytest.approx(measure_apart(alike, 16, 2, HOW), rel=0.02)


def test_a_measured_model_has_the_values_of_the_original_and_leaves_it_alone() -> None:
    model = plain()
    twin = of_model(model, batch, classification_loss_sum).make_model()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.data_ptr() != b.data_ptr()
        assert b.is_leaf
        assert b.requires_grad


def test_tied_weights_stay_tied_and_frozen_ones_frozen() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    twin = of_model(model, batch, classification_loss_sum).make_model()
    assert twin[1].weight is twin[0].weight
    assert not twin[0].bias.requires_grad
