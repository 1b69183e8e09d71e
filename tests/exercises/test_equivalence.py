"""Exercises of notebooks 02 and 05: solutions pass; blanks and likely mistakes get a hint."""

import re

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from accum_lib import windows
from accum_lib.exercises import (
    check_clipped_repair,
    check_data,
    check_logged_repair,
    check_loop,
    check_mean_of_means_weight,
)
from accum_lib.pitfalls import loops


def solution(model, optimizer, batches, accumulation_steps, max_grad_norm=None, scheduler=None):
    """Everything right: counts, clipping once, one tick for each update, the window's mean loss logged."""
    log = []
    for window in windows(batches, accumulation_steps):
        total = sum(int((labels != -100).sum()) for _, labels in window)
        losses = []
        for inputs, labels in window:
            loss = torch.nn.functional.cross_entropy(model(inputs), labels, reduction="sum") / total
            loss.backward()
            losses.append(float(loss.detach()))
        if max_grad_norm is not None:
            clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        if scheduler is not None:
            scheduler.step()
        log.append(sum(losses))
    return log


def clipped(model, optimizer, batches, accumulation_steps, max_grad_norm):
    solution(model, optimizer, batches, accumulation_steps, max_grad_norm)


def always_clipped_to_a_tenth(model, optimizer, batches, accumulation_steps, max_grad_norm):
    solution(model, optimizer, batches, accumulation_steps, 0.1)


def logged(model, optimizer, batches, accumulation_steps, scheduler):
    return solution(model, optimizer, batches, accumulation_steps, scheduler=scheduler)


def not_logged(model, optimizer, batches, accumulation_steps, scheduler):
    solution(model, optimizer, batches, accumulation_steps, scheduler=scheduler)


def does_nothing(model, optimizer, batches, accumulation_steps):
    pass


CASES = [
    (check_loop, solution, [
        (does_nothing, "no update was made"),
        (loops.mean_of_means, "a mean of means"),
        (loops.no_division, "nothing divides by K"),
        (lambda model: None, "Not yet"),
    ]),
    (check_loop, solution, [(loops.off_by_one, "wrong places"), (loops.dropped_tail, "trailing window")]),
    (check_clipped_repair, clipped, [
        (loops.right, "keep the parameter max_grad_norm"),
        (always_clipped_to_a_tenth, "Not yet"),
    ]),
    (check_logged_repair, logged, [
        (loops.right, "keep the parameter scheduler"),
        (loops.scheduler_per_micro_batch, "ticks per micro-batch"),
        (not_logged, "return the losses"),
    ]),
    (check_mean_of_means_weight, lambda i, n: sum(n) / (len(n) * n[i]), [
        (lambda i, n: ..., "returns nothing yet"),
        (lambda i, n: 1 / len(n), "you say 0.5"),
        (lambda i, n: len(n) * n[i] / sum(n), "you say 0.500"),
        (lambda i, n: n[i] / 0, "raised ZeroDivisionError"),
    ]),
    (check_data, ([1, 2, 1], 2), [
        (..., "give the counts"),
        (([4, 4, 4, 4], 2), "4 of 5 loops still pass"),
        (([4, 4, 4], 2), "1 of 5 loops still pass for right: A mean of means"),
        (([1, 2, 3, 4, 5], 2), "with fewer"),
        (([1, 2.5, 1], 2), "whole numbers"),
        (([], 2), "whole numbers"),
        (([1, 2, 1], 0), "K is 1 or more"),
        (7, "raised TypeError"),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("check", "solved", "_"), CASES, ids=lambda c: getattr(c, "__name__", ""))
def test_the_solution_passes(check, solved, _) -> None:
    feedback = check(solved)
    assert feedback.correct, feedback


WRONG = [(check, wrong, hint) for check, _, mistakes in CASES for wrong, hint in mistakes]


@pytest.mark.parametrize(("check", "wrong", "hint"), WRONG)
def test_a_mistake_gets_a_hint(check, wrong, hint) -> None:
    feedback = check(wrong)
    assert not feedback.correct
    assert re.search(hint, repr(feedback)), feedback
