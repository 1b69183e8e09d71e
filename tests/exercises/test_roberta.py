"""Exercises of notebook 06: the solution is right, likely mistakes get a hint that helps."""

import pytest
from torch.nn.functional import cross_entropy

from accum_lib.exercises import check_mlm_loss, check_warmup_updates


def logits_and_labels(model, batch):
    found = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return found.flatten(0, 1), batch["labels"].flatten()


def total(model, batch):
    return cross_entropy(*logits_and_labels(model, batch), reduction="sum")


def mean(model, batch):
    return cross_entropy(*logits_and_labels(model, batch))


def hidden(batch):
    return (batch["labels"] != -100).sum()


def test_a_sum_over_hidden_tokens_is_right() -> None:
    assert check_mlm_loss(total, hidden).correct


@pytest.mark.parametrize(
    ("loss_sum", "count", "hint"),
    [
        (lambda model, batch: ..., lambda batch: ..., "nothing yet"),
        (mean, hidden, "is a mean"),
        (lambda model, batch: 2 * total(model, batch), hidden, "are labels of -100 left out"),
        (total, lambda batch: len(batch["labels"]), "how many texts"),
        (total, lambda batch: batch["labels"].numel(), "counts padding"),
        (total, lambda batch: int(batch["attention_mask"].sum()), "all tokens, hidden or not"),
        (total, lambda batch: 1, "labels that are not -100"),
        (lambda model, batch: model(batch).no_such_thing, hidden, "raised"),
    ],
)
def test_what_is_wrong_with_a_loss_is_said(loss_sum, count, hint) -> None:
    found = check_mlm_loss(loss_sum, count)
    assert not found.correct
    assert hint in found.message


def right(n, m, k, epochs, part):
    return int(part * epochs * -(-n // (m * k)))


def test_a_part_of_all_updates_is_right() -> None:
    assert check_warmup_updates(right).correct


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *_: ..., "nothing yet"),
        (lambda n, m, k, e, p: int(p * e * -(-n // m)), "micro-batches"),
        (lambda n, m, k, e, p: int(p * e * (n // (m * k))), "is short"),
        (lambda n, m, k, e, p: int(p * -(-n // (m * k))), "one epoch"),
        (lambda n, m, k, e, p: 7, "How many updates"),
        (lambda n: 1, "raised"),
    ],
)
def test_what_is_wrong_with_a_warm_up_is_said(answer, hint) -> None:
    found = check_warmup_updates(answer)
    assert not found.correct
    assert hint in found.message
