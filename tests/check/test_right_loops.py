"""No right loop is accused: many kinds of loop, on three models, on ragged data with a trailing window."""

from functools import partial

import pytest
import right_loops
import torch
from right_loops import RIGHT, summed
from torch import nn

from accum_lib.check import Case, check_case, explain
from accum_lib.losses import count_tokens

COUNTS, K, WIDTH = (5, 1, 0, 7, 2), 2, 6


class Frozen(nn.Module):
    """A network whose BatchNorm and dropout stay in evaluation mode when it trains."""

    def __init__(self) -> None:
        super().__init__()
        hidden = [nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5)]
        self.net = nn.Sequential(*hidden, nn.Linear(8, 4))

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        self.net[1].eval()
        self.net[3].eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


class Tied(nn.Module):
    """A transformer layer between an embedding and the same embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
        self.out = nn.Linear(8, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.layer(self.embed(ids)))


class Recurrent(nn.Module):
    """Convolutions over time, then a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(WIDTH, 5, 3, padding=1)
        self.gru, self.out = nn.GRU(5, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.gru(self.conv(x.transpose(1, 2)).transpose(1, 2))[0])


MODELS = {"batch norm held": (Frozen, 4), "shared weights": (Tied, 11), "recurrent": (Recurrent, 4)}


def seeded(make: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make()


def case_of(name: str) -> Case:
    make, classes = MODELS[name]
    generator, batches = torch.Generator().manual_seed(1), []
    for count in COUNTS:
        ids = torch.randint(classes, (2, 5), generator=generator)
        inputs = ids if make is Tied else torch.randn(2, 5, WIDTH, generator=generator)
        labels = torch.randint(classes, (2, 5), generator=generator)
        labels.view(-1)[torch.randperm(10, generator=generator)[count:]] = -100
        batches.append((inputs, labels))
    return Case(
        name=name,
        make_model=partial(seeded, make),
        batches=batches,
        accumulation_steps=K,
        loss_sum=lambda model, batch: summed(model(batch[0]), batch[1]),
        count=count_tokens,
    )


@pytest.mark.parametrize(
    "name", ["batch norm held", "shared weights", pytest.param("recurrent", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("loop", RIGHT, ids=lambda loop: loop.__name__)
def test_a_right_loop_is_equal(loop, name: str) -> None:
    report = check_case(loop, case_of(name))
    assert report.ok, explain(report)


@pytest.mark.parametrize("loop", RIGHT, ids=lambda loop: loop.__name__)
def test_the_same_loop_with_another_divisor_is_not(loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(right_loops, "counted", len)
    report = check_case(loop, case_of("batch norm held"))
    assert not report.ok
    assert report.codes, "and it is named"


def test_there_are_forty_kinds() -> None:
    assert len({loop.__name__ for loop in RIGHT}) == len(RIGHT) >= 40
