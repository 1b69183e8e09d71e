"""Losses as sums and counts: in half precision, with several denominators, and a count that does not fit."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import accumulate
from accum_lib.check import Case, check_case, core_loop
from accum_lib.losses import (
    check_count,
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
