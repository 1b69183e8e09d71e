"""Micro-batches of every kind go through the checker as what they are, and are joined by hand."""

from collections import UserDict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence
from transformers import BatchEncoding

from accum_lib.check import Case, check_case, join_batches
from accum_lib.losses import count_samples
from accum_lib.vectors import map_tensors, tensors_of

Pair = namedtuple("Pair", "inputs labels")


@dataclass
class Data:
    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Frozen:
    inputs: Tensor
    labels: Tensor


class Plain:
    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels, self.source = inputs, labels, "a name"

    def to(self, device: str) -> "Plain":
        return Plain(self.inputs.to(device), self.labels.to(device))


class Nested(Data):
    """A dictionary in a tuple in an object."""

    @classmethod
    def of(cls, inputs: Tensor, labels: Tensor) -> "Nested":
        return cls(({"x": inputs}, ["names", "of", "rows"]), labels)  # type: ignore[arg-type]


KINDS = {
    "named tuple": Pair,
    "dataclass": Data,
    "frozen with slots": Frozen,
    "plain object": Plain,
    "namespace": lambda x, y: SimpleNamespace(inputs=x, labels=y),
    "encoding": lambda x, y: BatchEncoding({"inputs": x, "labels": y}),
    "nested": Nested.of,
    "read only": lambda x, y: MappingProxyType({"inputs": x, "labels": y}),
    "list": lambda x, y: [x, y],
    "user dict": lambda x, y: UserDict({"inputs": x, "labels": y, "names": ["a"] * len(y)}),
}


def parts(batch: Any) -> tuple[Tensor, Tensor]:
    if isinstance(batch, list):
        return batch[0], batch[1]
    if isinstance(batch, dict | MappingProxyType | UserDict):
        return batch["inputs"], batch["labels"]
    return (batch.inputs[0]["x"] if isinstance(batch, Nested) else batch.inputs), batch.labels


def loss_sum(model: nn.Module, batch: Any) -> Tensor:
    inputs, labels = parts(batch)
    return F.cross_entropy(model(inputs), labels, reduction="sum")


def made(kind: str) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    rows = [
        (torch.randn(n, 6, generator=generator), torch.randint(4, (n,), generator=generator))
        for n in (3, 5, 2)
    ]
    return [KINDS[kind](*row) for row in rows]


def loop_for(wrong: bool, kinds: set[type]):
    def loop(model, optimizer, batches, accumulation_steps):
        for i in range(0, len(batches), accumulation_steps):
            window = [b.to("cpu") if isinstance(b, Plain | BatchEncoding) else b for b in batches[i : i + 2]]
            kinds.update(type(b) for b in window)
            total = sum(len(parts(b)[1]) for b in window)
            for batch in window:
                divisor = len(window) * len(parts(batch)[1]) if wrong else total
                (loss_sum(model, batch) / divisor).backward()
            optimizer.step()
            optimizer.zero_grad()

    return loop


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_is_checked_on_batches_of_any_kind(kind) -> None:
    batches, kinds = made(kind), set()
    case = Case(kind, lambda: nn.Linear(6, 4), batches, 2, loss_sum, lambda b: len(parts(b)[1]))
    assert check_case(loop_for(False, kinds), case).ok
    assert kinds <= {type(batches[0]), dict}
    assert kinds == {type(batches[0])} or kind == "read only"
    assert check_case(loop_for(True, kinds), case).codes == ("mean_of_means",)


@pytest.mark.parametrize("kind", KINDS)
def test_joining_keeps_the_kind_and_every_row(kind) -> None:
    batches = made(kind)
    joined = join_batches(batches)
    for found, expected in zip(parts(joined), zip(*map(parts, batches), strict=True), strict=True):
        assert torch.equal(found, torch.cat(expected))
    assert type(joined) is type(batches[0]) or kind == "read only"


def test_rows_that_are_too_short_are_filled_by_name_and_habit() -> None:
    one = (torch.ones(1, 2), torch.ones(1, 2, dtype=torch.long))
    two = (torch.ones(1, 3), torch.ones(1, 3, dtype=torch.long))
    for kind in (Pair, Data, lambda x, y: (x, y)):
        joined = tensors_of(join_batches([kind(*one), kind(*two)]))
        assert [t.tolist() for t in joined] == [[[1, 1, 0], [1, 1, 1]], [[1, 1, -100], [1, 1, 1]]]


def test_what_cannot_be_joined_is_told_in_a_sentence() -> None:
    x = torch.ones(1, 2)
    assert join_batches([(x, 0.5), (x, 0.5)])[1] == 0.5
    assert join_batches([{"x": x, "names": ["a"]}, {"x": x, "names": ["b"]}])["names"] == ["a", "b"]
    for one, two, message in (
        ((x, 3), (x, 4), "type int: give a join function"),
        ({"x": x}, {"x": x, "y": x}, "hold different things"),
        (SimpleNamespace(x=x, n=None), SimpleNamespace(x=x, n=1), "type NoneType"),
    ):
        with pytest.raises(TypeError, match=message):
            join_batches([one, two])


def test_tensors_are_changed_wherever_they_are_and_nothing_else() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)])
    doubled = map_tensors(lambda t: t.double() if t.is_floating_point() else t, packed)
    assert isinstance(doubled, PackedSequence)
    assert doubled.data.dtype == torch.float64
    plain = Plain(torch.ones(2), torch.ones(2))
    changed = map_tensors(torch.neg, plain)
    assert (changed.source, changed.inputs.sum(), plain.inputs.sum()) == ("a name", -2, 2)
    assert tensors_of(("text", 3, None, nn.Linear(2, 2))) == []


def test_the_ready_made_counts_take_labels_by_name() -> None:
    assert [count_samples(kind(torch.ones(3, 2), torch.ones(3))) for kind in (Pair, Data, Plain)] == [3, 3, 3]
    with pytest.raises(TypeError, match="a batch of type int has no labels that are known"):
        count_samples(3)
