"""Losses as sums and counts: in half precision, with several denominators, and a count that does not fit."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import accumulate
from accum_lib.check import Case, check_case, core_loop
from accum_lib.losses import (
    check_count,
    classification_loss_sum,
    count_next_tokens,
    count_samples,
    count_tokens,
    in_precision,
    joint_loss,
    sum_of_mean,
)
from accum_lib.ranks import Ranks


class Two(nn.Module):
    """Scores of tokens (rows, tokens, 5), and of rows (rows, 2)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.tokens, self.order = nn.Embedding(9, 6), nn.Linear(6, 5), nn.Linear(6, 2)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(ids).tanh()
        return self.tokens(hidden), self.order(hidden[:, 0])


def batch_of(rows: int, tokens: int, hidden: int, ordered: int, seed: int) -> dict[str, Tensor]:
    """``hidden`` tokens to be guessed in each row, and the order of ``ordered`` rows."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (rows, tokens), generator=generator)
    labels[:, hidden:] = -100
    order = torch.randint(2, (rows,), generator=generator)
    order[ordered:] = -100
    return {"ids": torch.randint(9, (rows, tokens), generator=generator), "order": order, "labels": labels}


def sums(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    tokens, order = model(batch["ids"])
    return (F.cross_entropy(tokens.flatten(0, 1), batch["labels"].flatten(), reduction="sum"),
            F.cross_entropy(order, batch["order"], reduction="sum"))  # fmt: skip


def count_order(batch: dict[str, Tensor]) -> int:
    return int((batch["order"] != -100).sum())


WINDOWS = {
    "uneven": [batch_of(2, 4, 3, 2, 0), batch_of(3, 4, 1, 1, 1), batch_of(1, 4, 4, 1, 2)],
    "one loss counts nothing in one": [
        batch_of(2, 4, 0, 2, 0),
        batch_of(3, 4, 2, 0, 1),
        batch_of(1, 4, 4, 1, 2),
    ],
    "nothing counts in one": [batch_of(2, 4, 3, 2, 0), batch_of(3, 4, 0, 0, 1), batch_of(1, 4, 4, 1, 2)],
}


@pytest.mark.parametrize("name", WINDOWS)
def test_two_losses_with_a_denominator_each_are_one_big_batch(name) -> None:
    """The reference is PyTorch's own mean of both over all rows at once, in float64."""
    window, model, big = WINDOWS[name], Two().double(), Two().double()
    loss_sum, count = joint_loss(window, sums, [count_tokens, count_order])
    result = accumulate(model, window, loss_sum, count)
    whole = {key: torch.cat([batch[key] for batch in window]) for key in window[0]}
    tokens, order = big(whole["ids"])
    mean = F.cross_entropy(tokens.flatten(0, 1), whole["labels"].flatten()) + F.cross_entropy(
        order, whole["order"]
    )
    mean.backward()
    assert result.loss == pytest.approx(mean.item(), rel=1e-12)
    for p, q in zip(model.parameters(), big.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-12, atol=1e-15)


def test_one_count_for_two_losses_is_off() -> None:
    """The negative twin: both sums over one of the counts, or over both together."""
    window, model = WINDOWS["uneven"], Two().double()
    right = accumulate(model, window, *joint_loss(window, sums, [count_tokens, count_order])).loss
    for count in (count_tokens, count_order):
        assert abs(accumulate(model, window, lambda m, b: sum(sums(m, b)), count).loss - right) > 0.1


def test_the_losses_of_one_window_are_not_divided_by_the_counts_of_another() -> None:
    window, other = WINDOWS["uneven"], WINDOWS["nothing counts in one"]
    joint = joint_loss(window, sums, [count_tokens, count_order])
    for wrong in (other, window[:2], [*window, *window]):
        model = Two().double()
        with pytest.raises(ValueError, match="call joint_loss for each window"):
            accumulate(model, wrong, *joint)
        assert all(p.grad is None for p in model.parameters())
    with pytest.raises(TypeError):
        accumulate(Two().double(), [*window, None], *joint)  # an error in the middle of the counting
    copies = [{key: value.clone() for key, value in batch.items()} for batch in window]
    for same in (window, copies):  # moved to a device, say; and once more, as LBFGS does
        accumulate(Two().double(), same, *joint)


def test_a_loss_that_counts_nothing_in_a_window_is_told() -> None:
    with pytest.raises(
        ValueError, match=r"loss 1 counts 0 in the window's 2 micro-batches.*leave this window out"
    ):
        joint_loss([batch_of(2, 4, 3, 0, 0)] * 2, sums, [count_tokens, count_order])


def test_several_processes_add_up_their_denominators() -> None:
    """Two processes in turn, each with its own part; what they would exchange is known here beforehand."""
    window = WINDOWS["uneven"]
    totals = [float(sum(map(c, window))) for c in (count_tokens, count_order)] + [3.0]

    class Known(Ranks):
        def __init__(self) -> None:
            self.answers = iter(totals)

        def add(self, value: float) -> float:
            return next(self.answers)

    found = []
    for part in (window[:1], window[1:]):
        loss_sum, _count = joint_loss(part, sums, [count_tokens, count_order], ranks=Known())
        model = Two().double()
        sum(loss_sum(model, batch) / 3 for batch in part).backward()
        found.append([p.grad for p in model.parameters()])
    alone = Two().double()
    accumulate(alone, window, *joint_loss(window, sums, [count_tokens, count_order]))
    for p, one, other in zip(alone.parameters(), *found, strict=True):
        assert torch.allclose(p.grad, one + other, rtol=1e-12, atol=1e-15)


# --- Half precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("counts", [(40_000, 120_000), (3, 5), (2**30, 3 * 2**30)])
def test_the_sum_of_a_mean_in_16_bits_neither_overflows_nor_loses_digits(dtype, counts) -> None:
    """By hand, in float64, from the means themselves; a mean times 40,000 is beyond float16."""
    model, means = nn.Linear(1, 1, bias=False).to(dtype), (2.5, 1.25)
    nn.init.ones_(model.weight)
    loss_sum = sum_of_mean(lambda m, i: (m.weight * means[i]).sum(), counts.__getitem__)
    result = accumulate(model, [0, 1], loss_sum, counts.__getitem__)
    expected = sum(c * m for c, m in zip(counts, means, strict=True)) / sum(counts)
    assert result.loss == pytest.approx(expected, rel=1e-6)
    assert float(model.weight.grad) == pytest.approx(expected, rel=2 * torch.finfo(dtype).eps)


def test_a_sum_in_float64_stays_in_float64() -> None:
    model = nn.Linear(1, 1).double()
    loss = sum_of_mean(lambda m, b: m.weight.sum() / 3, lambda b: 7)(model, None)
    assert loss.dtype == torch.float64
    assert float(loss) == float(model.weight.sum() / 3 * 7)


# --- A count that does not fit


def mean_of(mean):
    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return mean(model(batch["ids"])[0], batch["labels"])

    return loss


def over_tokens(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def shifted(logits: Tensor, labels: Tensor) -> Tensor:
    return over_tokens(logits[:, :-1], labels[:, 1:])


def over_positions(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / labels.numel()


def over_rows(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / len(labels)


def capped(logits: Tensor, labels: Tensor) -> Tensor:
    """As in question answering: a position beyond the length is moved to the end, and ignored there."""
    return F.cross_entropy(logits.transpose(1, 2), labels.clamp(0, 4), ignore_index=4)


FITS = {
    "tokens": (over_tokens, count_tokens),
    "shifted": (shifted, count_next_tokens),
    "rows": (over_rows, count_samples),
    "positions": (over_positions, lambda b: b["labels"].numel()),
}
MISSES = {
    "shifted, counted unshifted": (shifted, count_tokens),
    "tokens, counted as rows": (over_tokens, count_samples),
    "positions, counted as tokens": (over_positions, count_tokens),
    "ignored positions are counted": (capped, lambda b: b["labels"].numel()),
    "two losses": (None, count_tokens),
}


@pytest.mark.parametrize("name", FITS)
def test_a_count_that_fits_passes(name) -> None:
    mean, count = FITS[name]
    model = nn.Sequential(Two()).train()[0]
    check_count(model, mean_of(mean), count, WINDOWS["uneven"])
    assert model.training


@pytest.mark.parametrize("name", MISSES)
def test_a_count_that_does_not_fit_is_told_with_the_numbers(name) -> None:
    mean, count = MISSES[name]

    def both(model, batch):
        return sum(
            one / c(batch) for one, c in zip(sums(model, batch), (count_tokens, count_order), strict=True)
        )

    loss = both if mean is None else mean_of(mean)
    with pytest.raises(
        ValueError, match=r"the count is not what the mean loss is divided by: micro-batches \d"
    ):
        check_count(Two(), loss, count, WINDOWS["uneven"])


def test_a_trial_that_can_show_nothing_is_refused() -> None:
    for batches in ([], WINDOWS["uneven"][:1], WINDOWS["uneven"][:1] * 3):
        with pytest.raises(ValueError, match="micro-batches show nothing of the count"):
            check_count(Two(), mean_of(over_tokens), count_tokens, batches)


@pytest.mark.parametrize(
    ("mean", "count", "code"),
    [
        (over_tokens, count_tokens, ()),
        (over_tokens, count_samples, ("wrong_count",)),
        (over_positions, count_tokens, ("wrong_count",)),
        (over_rows, count_tokens, ("wrong_count",)),
    ],
)
def test_the_checker_names_a_case_whose_count_does_not_fit(mean, count, code) -> None:
    loss_sum = sum_of_mean(mean_of(mean), count)
    case = Case("own", Two, WINDOWS["uneven"], 2, loss_sum, count)
    report = check_case(core_loop(loss_sum, count), case)
    assert report.codes == code, report.diagnoses


def test_a_precision_is_that_of_the_forward_pass_and_none_changes_nothing() -> None:
    def dtype(model: nn.Module, batch: Tensor) -> torch.dtype:
        return model(batch).dtype

    assert in_precision(dtype, None, "cpu") is dtype
    assert in_precision(dtype, torch.bfloat16, "cpu")(nn.Linear(2, 2), torch.ones(1, 2)) == torch.bfloat16


# --- What a count and a sum take, and what they refuse


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_classifier_in_16_bits_sums_its_losses_in_32(dtype) -> None:
    """In float16 this sum would be infinite; in bfloat16 it would have two digits."""
    generator = torch.Generator().manual_seed(0)
    logits = (20 * torch.randn(6000, 3, generator=generator)).to(dtype)
    labels = torch.randint(0, 3, (6000,), generator=generator)
    expected = float(F.cross_entropy(logits.double(), labels, reduction="sum"))
    found = classification_loss_sum(nn.Identity(), (logits, labels))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    narrow = F.cross_entropy(logits, labels, reduction="sum")
    assert float(narrow) != pytest.approx(expected, rel=1e-4)


def test_classes_that_the_loss_ignores_are_not_counted_as_samples() -> None:
    model, inputs = nn.Linear(4, 3), torch.randn(6, 4)
    batch = inputs, torch.tensor([0, 1, 2, -100, -100, 1])
    with pytest.raises(ValueError, match=r"some of the 6 labels are -100, .*use count_tokens"):
        accumulate(model, [batch], classification_loss_sum, count_samples)
    found = accumulate(model, [batch], classification_loss_sum, count_tokens).loss
    assert found == pytest.approx(float(F.cross_entropy(model(inputs), batch[1])))
    assert count_samples((inputs, torch.full((6,), -100.0))) == 6, "a regression's target"
    assert count_samples((inputs, torch.full((6, 2), -100))) == 6, "tokens: a sample each row"


@pytest.mark.parametrize("parts", [1, 3])
def test_labels_that_are_not_the_second_of_two_are_not_guessed(parts) -> None:
    """Of (tokens, mask, labels), the mask was counted."""
    batch = (torch.zeros(2, 3), torch.ones(2, 3), torch.full((2, 3), -100))[:parts]
    with pytest.raises(ValueError, match=f"a batch of {parts} parts: which of them are the labels"):
        count_tokens(batch)


def test_the_next_tokens_of_one_sequence_are_counted_too() -> None:
    labels = torch.tensor([5, 7, -100, 2])
    assert count_next_tokens({"labels": labels}) == count_next_tokens({"labels": labels[None]}) == 2


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda model, batch: {"loss": 1.0}, "a tensor; got dict. Of a model's output, take .loss"),
        (lambda model, batch: torch.ones(3), r"a scalar; got shape \(3,\): use reduction='mean'"),
    ],
)
def test_what_is_no_mean_is_said_with_the_fix(returned, message) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        sum_of_mean(returned, lambda batch: 1)(nn.Linear(1, 1), None)
    with pytest.raises((TypeError, ValueError), match=message):
        check_count(nn.Linear(1, 1), returned, lambda batch: 1, [1, 2])


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_count_of_several_that_is_none_is_refused(bad) -> None:
    """Added up with the others, it would change their mean, or make it 0, without a word."""
    with pytest.raises(ValueError, match=f"a count of micro-batch 1 must be 0 or more and finite; got {bad}"):
        joint_loss([1.0, bad, 4.0], lambda model, batch: [], [float])


@pytest.mark.parametrize(
    ("window", "sums", "message"),
    [
        (iter([1.0]), [], "must be a list, since it is read several times; got list_iterator"),
        ([1.0], [torch.ones(())], "must return 2 sums, one for each count; got 1"),
        ([1.0], torch.ones(()), "must return 2 sums, one for each count; got a Tensor"),
    ],
)
def test_what_several_losses_cannot_be_made_of_is_said(window, sums, message) -> None:
    def made_and_run() -> None:
        loss_sum, _ = joint_loss(window, lambda model, batch: sums, [float, float])
        loss_sum(nn.Linear(1, 1), 1.0)

    with pytest.raises((TypeError, ValueError), match=message):
        made_and_run()
