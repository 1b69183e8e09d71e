"""Exercises of notebook 06: a loss as a sum and a count, and a warm-up that counts updates."""

from collections.abc import Callable
from typing import Any

import torch

from accum_lib.check import check_case, core_loop
from accum_lib.check.case import Case
from accum_lib.lessons.kit.feedback import BLANK, Feedback, is_blank, not_yet, right, runs
from accum_lib.lessons.roberta.problem import case_of
from accum_lib.words import _, sentences

CLOSE = 1e-9


@runs
def check_mlm_loss(loss_sum: Callable[..., Any], count: Callable[..., Any]) -> Feedback:
    """Exercise 1: the loss of masked language modelling as a sum and a count."""
    case = case_of("mlm").in_precision(torch.float64)
    batch = min(case.batches, key=lambda b: float(b["attention_mask"].float().mean()))  # with padding
    model = case.make_model().double()
    given, number = loss_sum(model, dict(batch)), count(dict(batch))
    if is_blank(given) or is_blank(number):
        return not_yet(_(BLANK))
    true, tokens = float(case.loss_sum(model, batch).detach()), case.count(batch)
    value = float(given.detach() if hasattr(given, "detach") else given)
    if abs(value / true - 1) > CLOSE:
        return not_yet(_loss_hint(value, true, tokens, batch))
    if number != tokens:
        return not_yet(_count_hint(float(number), tokens, batch))
    return _whole_loop(case, loss_sum, count)


def _loss_hint(value: float, true: float, tokens: float, batch: Any) -> str:
    if abs(value * tokens / true - 1) < CLOSE:
        return _('your loss is a mean: take reduction="sum", and leave the division to accumulate.')
    return _(
        "your loss of a micro-batch is {value:.4f}, and the sum over hidden tokens is {true:.4f}: are "
        "labels of -100 left out, and all others in?",
        value=value,
        true=true,
    )


def _count_hint(number: float, tokens: float, batch: Any) -> str:
    labels = batch["labels"]
    hints = {
        float(len(labels)): _("that is how many texts there are; the loss adds up over hidden tokens."),
        float(labels.numel()): _("that counts padding and all tokens that are not to be guessed."),
        float(batch["attention_mask"].sum()): _("that counts all tokens, hidden or not."),
    }
    hint = hints.get(number, _("count the labels that are not -100."))
    return _(
        "you count {number:g} where {tokens:g} tokens are hidden: {hint}",
        number=number,
        tokens=tokens,
        hint=hint,
    )


def _whole_loop(case: Case, loss_sum: Any, count: Any) -> Feedback:
    report = check_case(core_loop(loss_sum, count), case)
    if report.ok:
        return right(
            _("With these, every window has the gradient of one big batch: the checker finds no fault.")
        )
    return not_yet(
        _("the first micro-batch is right, others are not: {message}", message=report.diagnoses[0].message)
    )


@runs
def check_warmup_updates(warmup_updates: Callable[[int, int, int, int, float], int]) -> Feedback:
    """Exercise 2: ``warmup_updates(num_samples, micro_batch_size, accumulation_steps, epochs, part)``."""
    if is_blank(warmup_updates(64, 8, 4, 1, 0.5)):
        return not_yet(_(BLANK))
    for n, m, k, epochs, part in ((640, 8, 4, 5, 0.1), (650, 8, 4, 20, 0.5), (1916, 16, 4, 3, 0.06)):
        given, true = warmup_updates(n, m, k, epochs, part), int(part * epochs * -(-n // (m * k)))
        if given == true:
            continue
        asked = _(
            "N = {n}, M = {m}, K = {k}, {epochs} epochs, part {part}: you say {given}, it is {true}.",
            n=n,
            m=m,
            k=k,
            epochs=epochs,
            part=part,
            given=given,
            true=true,
        )
        wrong = {
            int(part * epochs * -(-n // m)): _("You count micro-batches; a scheduler ticks once per update."),
            int(part * epochs * (n // (m * k))): _(
                "The last window of an epoch is short, and it is an update."
            ),
            int(part * (epochs * n // (m * k))): _("No window spans two epochs: round up in each of them."),
            int(part * -(-n // (m * k))): _("You count one epoch."),
        }
        return not_yet(sentences(asked, wrong.get(given, _("How many updates has an epoch?"))))
    return right(_("Warm-up and decay count updates, so K does not change the schedule at fixed B."))
