"""Windows by tokens: the plain window's gradient, in the fewest passes that the budget allows."""

import random
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import flatten, gradient, relative_error
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import accumulate, windows
from accum_lib.losses import IGNORE_INDEX, count_tokens
from accum_lib.packing import packed, windows_by_tokens

ROUNDING = 1e-12  # float64; a mean of means is off by more than a thousandth
no_deadline = settings(deadline=None)  # the first case imports
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=14)


class Reader(nn.Module):
    """Labels each token, from the token itself and the mean of its text; padding (token 0) is not read."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.label = nn.Embedding(9, 4, padding_idx=0), nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (rows, longest) to logits (rows, longest, 3)."""
        read, there = self.embed(ids), (ids != 0).unsqueeze(-1)
        mean = read.sum(1, keepdim=True) / there.sum(1, keepdim=True)
        return self.label(torch.cat([read, mean.expand_as(read)], dim=-1))


def made(lengths: list[int]) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """A model in float64, and an example of each length of which one token or more count."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(lengths))
        model = Reader().double()
        examples = [(torch.randint(1, 9, (n,)), torch.randint(3, (n,))) for n in lengths]
    dice = random.Random(sum(lengths))
    for _, labels in examples:
        labels[dice.randint(1, len(labels)) :] = IGNORE_INDEX
    return model, examples


def pad(examples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    ids, labels = zip(*examples, strict=True)
    together = nn.utils.rnn.pad_sequence
    return together(ids, batch_first=True), together(labels, batch_first=True, padding_value=IGNORE_INDEX)


def loss_sum(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]).mT, batch[1], reduction="sum")


def gradients(model: nn.Module, made_windows) -> list[Tensor]:
    found = []
    for window in made_windows:
        accumulate(model, window, loss_sum, count_tokens)
        found.append(gradient(model))
        model.zero_grad()
    return found


def one_by_one(model: nn.Module, window: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The mean over all of its tokens that count, one example after the other."""
    losses = [F.cross_entropy(model(ids[None])[0], labels, reduction="none") for ids, labels in window]
    counted = torch.cat(losses)[torch.cat([labels for _, labels in window]) != IGNORE_INDEX]
    return flatten(torch.autograd.grad(counted.mean(), list(model.parameters())))


def read_by_tokens(examples, b: int, budget: int):
    return windows_by_tokens(examples, b, budget, length=lambda e: len(e[0]), collate=pad)


@no_deadline
@given(LENGTHS, st.integers(1, 6), st.integers(0, 40), st.integers(1, 4))
def test_the_gradient_is_that_of_the_plain_window(lengths, b, more, m) -> None:
    model, examples = made(lengths)
    found = gradients(model, read_by_tokens(examples, b, max(lengths) + more))
    plain = list(windows(examples, b))
    cut = ([pad(window[i : i + m]) for i in range(0, len(window), m)] for window in plain)
    for one, of_plain, window in zip(found, gradients(model, cut), plain, strict=True):
        assert relative_error(one, of_plain) < ROUNDING
        assert relative_error(one, one_by_one(model, window)) < ROUNDING


def test_a_mean_of_means_over_such_passes_is_seen() -> None:
    """The negative twin: passes by tokens hold unlike numbers of examples."""
    model, examples = made([12, 5, 4, 3, 2, 2, 1])
    (window,) = read_by_tokens(examples, 7, 12)
    assert len({len(ids) for ids, _ in window}) > 1
    (sum(loss_sum(model, batch) / count_tokens(batch) for batch in window) / len(window)).backward()
    assert relative_error(gradient(model), one_by_one(model, examples)) > 1e-3


def costs(lengths: list[int], groups) -> list[int]:
    return [len(group) * max(lengths[i] for i in group) for group in groups]


@no_deadline
@given(LENGTHS, st.integers(0, 30))
def test_each_example_is_in_one_pass_within_the_budget_longest_first(lengths, more) -> None:
    budget = max(lengths) + more
    groups = packed(lengths, budget)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert max(costs(lengths, groups)) <= budget
    read = [lengths[i] for group in groups for i in group]
    assert read == sorted(lengths, reverse=True)


@no_deadline
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 20))
def test_no_other_cut_has_fewer_passes_or_less_padding(lengths, more) -> None:
    """Nor, with as many, less padding: against all ways to put the examples into passes."""
    budget = max(lengths) + more
    found = packed(lengths, budget)
    for where in product(range(len(found)), repeat=len(lengths)):
        groups = [[i for i, at in enumerate(where) if at == number] for number in set(where)]
        if max(costs(lengths, groups)) <= budget:
            assert len(groups) == len(found)
            assert sum(costs(lengths, groups)) >= sum(costs(lengths, found))


def test_without_particulars_an_example_is_what_len_measures() -> None:
    texts = ["aa", "bbbb", "c", "dd", "e"]
    assert list(windows_by_tokens(texts, 4, 4)) == [[["bbbb"], ["aa", "dd"], ["c"]], [["e"]]]
    assert packed([9, 1, 1], 4) == [[0], [1, 2]]  # of held-out texts, one may be longer
    assert packed([2, 2, 1], 9, most=2) == [[0, 1], [2]]


@pytest.mark.parametrize(
    ("b", "budget", "kind", "message"),
    [
        (2, 0, ValueError, "the token budget must be 1 or more; got 0"),
        (2, 1.5, TypeError, r"the token budget must be a whole number, such as 1024; got 1\.5"),
        (0, 4, ValueError, "the effective batch size B must be 1 or more; got 0"),
        (True, 4, TypeError, "B must be a whole number"),
        (
            2,
            3,
            ValueError,
            "example 2 has 4 tokens, more than the budget of 3 for one pass: raise the budget",
        ),
        (3, 4, ValueError, "example 3 has 0 tokens: leave it out, or check length"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(b, budget, kind, message) -> None:
    with pytest.raises(kind, match=message):
        list(windows_by_tokens(["a", "bb", "cccc", ""], b, budget))


def test_sizes_are_checked_before_the_first_window_and_no_data_are_refused() -> None:
    with pytest.raises(ValueError, match="the token budget"):
        windows_by_tokens([], 2, -1)
    with pytest.raises(ValueError, match="the data are empty"):
        list(windows_by_tokens([], 2, 4))
