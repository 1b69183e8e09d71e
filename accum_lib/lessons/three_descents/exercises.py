"""Exercises of notebook 01. Each check runs the reader's answer, and gives a hint instead of the solution."""

from collections.abc import Callable

import torch

from accum_lib.accumulate import WindowResult, accumulate
from accum_lib.lessons.kit.feedback import BLANK, Feedback, is_blank, not_yet, right, runs
from accum_lib.problems.regression import Regression
from accum_lib.words import _


@runs
def check_updates_per_epoch(updates_per_epoch: Callable[[int, int, int], int]) -> Feedback:
    """Exercise 1: ``updates_per_epoch(num_samples, micro_batch_size, accumulation_steps)``.

    Compared with windows that are counted by hand: one is short, one has a smaller last micro-batch, one
    is longer than the epoch.
    """
    worked, ragged = ((1000, 100, 2), 5), ((1000, 100, 3), 4)
    uneven, longer = ((10, 4, 2), 2), ((10, 4, 8), 1)
    given = {case: updates_per_epoch(*case) for case, _expected in (worked, ragged, uneven, longer)}
    if is_blank(given[worked[0]]):
        return not_yet(_(BLANK))
    if given[worked[0]] != worked[1]:
        return not_yet(
            _(
                "for N = 1000, M = 100, K = 2 you say {given}. There are 10 micro-batches, and each update "
                "uses 2 of them.",
                given=given[worked[0]],
            )
        )
    if given[ragged[0]] == 3:
        return not_yet(
            _(
                "K = 2 is right. With K = 3, ten micro-batches leave one over: the trailing window. Does it "
                "update?"
            )
        )
    for case, expected in (ragged, uneven, longer):
        if given[case] != expected:
            n, m, k = case
            return not_yet(
                _(
                    "for N = {n}, M = {m}, K = {k} you say {given}; counting by hand gives {expected}. How "
                    "many micro-batches are there, the last and smaller one included?",
                    n=n,
                    m=m,
                    k=k,
                    given=given[case],
                    expected=expected,
                )
            )
    return right(_("A shorter trailing window is still one update, so both divisions round up."))


@runs
def check_weight(weight: Callable[[int, list[int]], float]) -> Feedback:
    """Exercise 2: ``weight(index, counts)``, the weight of a micro-batch's **mean** loss in its window.

    The reader's weights drive a real window with micro-batches of 5, 3 and 1 samples; the gradient is
    compared with that of one big batch of 9.
    """
    counts = [5, 3, 1]
    if is_blank(weight(0, counts)):
        return not_yet(_(BLANK))
    problem = Regression(num_samples=sum(counts))
    model = problem.make_model()
    window = [problem.batch(rows) for rows in torch.arange(sum(counts)).split(counts)]
    expected = _gradient(model, problem, [problem.batch(torch.arange(sum(counts)))])
    means = [_gradient(model, problem, [batch]) for batch in window]
    given = sum(
        (weight(i, counts) * mean for i, mean in enumerate(means)), torch.zeros(2, dtype=torch.float64)
    )
    error = float((given - expected).norm() / expected.norm())
    if error < 1e-12:
        return right(_("Your window's gradient is one big batch's: relative error {error:.0e}.", error=error))
    if all(weight(i, counts) == 1 for i in range(3)):
        return not_yet(_("weights of 1 add the three means up: the gradient is about three times too large."))
    if all(abs(weight(i, counts) - 1 / 3) < 1e-9 for i in range(3)):
        return not_yet(
            _(
                "1/K is a mean of means: the relative error is {error:.2f}. The micro-batch with one sample "
                "counts as much as the one with five. Should it?",
                error=error,
            )
        )
    total = sum(weight(i, counts) for i in range(3))
    hint = (
        ""
        if abs(total - 1) < 1e-9
        else _(" Your weights add up to {total:.3g}; those of a mean add up to 1.", total=total)
    )
    return not_yet(
        _("the relative error against one big batch is {error:.2f}.{hint}", error=error, hint=hint)
    )


@runs
def check_same_step(learning_rate: Callable[[float, int], float]) -> Feedback:
    """Exercise 3: ``learning_rate(mean_rate, accumulation_steps)`` that makes *sum* step as *mean* does."""
    if is_blank(learning_rate(0.1, 4)):
        return not_yet(_(BLANK))
    for rate, steps in ((0.1, 2), (0.3, 5)):
        given = learning_rate(rate, steps)
        if abs(given - rate / steps) < 1e-12:
            continue
        if abs(given - rate * steps) < 1e-12:
            return not_yet(
                _("that makes the long step longer still. The sum is K times as long as the mean.")
            )
        if abs(given - rate) < 1e-12:
            return not_yet(
                _(
                    "with the same rate, summing {steps} gradients makes a step {steps} times as long.",
                    steps=steps,
                )
            )
        if abs(given - rate / steps**0.5) < 1e-12:
            return not_yet(
                _("√K belongs to the noise of a step. Here it is the step's length that is K-fold.")
            )
        return not_yet(
            _(
                "for a mean's rate of {rate} and K = {steps} you say {given:.4g}, so the step would be "
                "{ratio:.3g} times as long.",
                rate=rate,
                steps=steps,
                given=given,
                ratio=given * steps / rate,
            )
        )
    return right(
        _("Sum with a rate K times smaller is mean; but a trailing window of r < K then steps r/K as far.")
    )


def _gradient(model: torch.nn.Module, problem: Regression, window: list) -> torch.Tensor:
    result: WindowResult = accumulate(model, window, problem.loss_sum, problem.count)
    assert result.micro_batches == len(window)
    (parameter,) = model.parameters()
    assert parameter.grad is not None
    return parameter.grad.flatten().clone()
