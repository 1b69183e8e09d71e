"""Loops as they are in public code: each fault is named, and none that is not there, under a clip too."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_ as clip

from accum_lib.check import check_case, standard_cases
from accum_lib.check.case import token_case
from accum_lib.check.faults.loops import loss_sum, right, totals

RAGGED, EVEN, SHORT, EMPTY = standard_cases()
DIVISIBLE = token_case((4,) * 6, 3, "even, K divides N")


def mean(model, x, y):
    return F.cross_entropy(model(x), y)


def last(i, batches, k):
    return (i + 1) % k == 0 or i + 1 == len(batches)


def every_k(loss, after=lambda m, o: None, steps=last):
    """The usual loop: a loss of each micro-batch, and at the end of each window something, then a step."""

    def loop(model, optimizer, batches, accumulation_steps):
        optimizer.zero_grad()
        total = totals(batches, accumulation_steps)
        for i, (x, y) in enumerate(batches):
            loss(model, x, y, total[i], accumulation_steps).backward()
            if steps(i, batches, accumulation_steps):
                after(model, optimizer)
                optimizer.step()
                optimizer.zero_grad()

    return loop


def exact(model, x, y, total, k):
    return loss_sum(model(x), y) / total


def mean_over_k(model, x, y, total, k):
    return mean(model, x, y) / k


def at(norm):
    return lambda model, optimizer: clip(model.parameters(), norm)


def no_tail(i, batches, k):
    return (i + 1) % k == 0


def divides_the_buffer(model, optimizer, batches, accumulation_steps):
    for i, (x, y) in enumerate(batches):
        (loss_sum(model(x), y) / accumulation_steps).backward()
        for p in model.parameters():
            p.grad /= max(int((y != -100).sum()), 1)
        if last(i, batches, accumulation_steps):
            optimizer.step()
            optimizer.zero_grad()


def counts_through_epochs(model, optimizer, batches, accumulation_steps, epochs):
    n, most, k = 0, epochs * len(batches), accumulation_steps
    for _ in range(epochs):
        for x, y in batches:
            (mean(model, x, y) / (k if n < most // k * k else most % k)).backward()
            n += 1
            if n % k == 0 or n == most:
                optimizer.step()
                optimizer.zero_grad()


def first_of_each(model, optimizer, batches, accumulation_steps):
    for i, (x, y) in enumerate(batches):
        if i % accumulation_steps == 0:
            optimizer.zero_grad()
        mean(model, x, y).backward()
        if i % accumulation_steps == 0 or i == len(batches) - 1:
            optimizer.step()


def steps_before_backward(model, optimizer, batches, accumulation_steps):
    for i, (x, y) in enumerate(batches):
        optimizer.zero_grad()
        loss = mean(model, x, y)
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
        loss.backward()
        optimizer.step()


def one_more_step(model, optimizer, batches, accumulation_steps):
    every_k(exact, steps=no_tail)(model, optimizer, batches, accumulation_steps)
    optimizer.step()
    optimizer.zero_grad()


def sums_then_divides_then_clips(norm):
    def loop(model, optimizer, batches, accumulation_steps):
        counted = 0
        for i, (x, y) in enumerate(batches):
            loss_sum(model(x), y).backward()
            counted += int((y != -100).sum())
            if last(i, batches, accumulation_steps):
                for p in model.parameters():
                    p.grad /= counted
                clip(model.parameters(), norm)
                optimizer.step()
                optimizer.zero_grad()
                counted = 0

    return loop


def clips_each(model, optimizer, batches, accumulation_steps):
    total = totals(batches, accumulation_steps)
    for i, (x, y) in enumerate(batches):
        (loss_sum(model(x), y) / total[i]).backward()
        clip(model.parameters(), 0.1)
        if last(i, batches, accumulation_steps):
            optimizer.step()
            optimizer.zero_grad()


def returns(*numbers):
    def loop(model, optimizer, batches, accumulation_steps):
        right(model, optimizer, batches, accumulation_steps)
        return numbers

    return loop


def fixed(k, inner=right):
    return lambda model, optimizer, batches, accumulation_steps: inner(model, optimizer, batches, k)


def times_rows(model, x, y, total, k):
    return mean(model, x, y) * len(x)


def over_its_tokens(model, x, y, total, k):
    return mean(model, x, y) / int((y != -100).sum())


def asked(case, norm=1.0):
    return replace(case, max_grad_norm=norm)


TAIL, MEANS = "tail_divided_by_k", "mean_of_means"
LOOPS = {
    "clips, and drops the tail": (every_k(exact, at(1.0), no_tail), [asked(RAGGED), asked(EVEN)],
                                  ["dropped_tail"]),
    "clips a mean of means": (every_k(mean_over_k, at(1.0)), [asked(RAGGED), asked(SHORT)], [MEANS, TAIL]),
    "clips, and divides a short window by K": (every_k(mean_over_k, at(1.0)), [asked(EVEN)], [TAIL]),
    "clips some means of means only": (every_k(mean_over_k, at(2.0)), [asked(RAGGED, 2.0)], [MEANS, TAIL]),
    "clips a sum of means": (every_k(lambda m, x, y, t, k: mean(m, x, y), at(3.0)), [asked(RAGGED, 3.0)],
                             ["no_division"]),
    "was asked to clip, and does not": (every_k(exact), [asked(RAGGED), asked(EVEN)], ["not_clipped"]),
    "clips unasked": (every_k(exact, at(2.5)), [RAGGED, EVEN, EMPTY], ["clipped"]),
    "clips unasked, every update": (every_k(exact, at(0.5)), [RAGGED, EVEN], ["clipped"]),
    "clips unasked, and divides by K": (every_k(mean_over_k, at(2.0)), [RAGGED], ["clipped", MEANS, TAIL]),
    "clips after each pass": (clips_each, [RAGGED, EVEN], ["clipped_per_micro_batch"]),
    "divides the buffer after each pass": (divides_the_buffer, [RAGGED, EVEN], ["divided_again"]),
    "counts through epochs": (counts_through_epochs, [RAGGED], ["leaked_tail", MEANS]),
    "uses the first of each K": (first_of_each, [EVEN, RAGGED], ["unused_micro_batches"]),
    "steps before backward": (steps_before_backward, [RAGGED], ["empty_update", "stepped_per_micro_batch"]),
    "multiplies by rows": (every_k(times_rows), [RAGGED, EVEN], ["weighted_by_samples", "no_division"]),
    "divides means by tokens": (every_k(over_its_tokens), [RAGGED], ["divided_twice"]),
    "clips what K is fixed in": (fixed(3, every_k(mean_over_k, at(1.0))), [asked(EVEN)], [TAIL]),
    # right ones
    "one more step on nothing": (one_more_step, [DIVISIBLE], []),
    "sums, divides, clips": (sums_then_divides_then_clips(1.0), [asked(RAGGED), asked(EVEN)], []),
    "clips as asked": (every_k(exact, at(2.5)), [asked(c, 2.5) for c in (RAGGED, EVEN, SHORT, EMPTY)], []),
    "returns a loss and an accuracy": (returns(0.5, 0.9), [RAGGED, EVEN, EMPTY], []),
    "returns three numbers": (returns(0.5, 0.9, 0.8), [RAGGED, EVEN, EMPTY], []),
    "K is fixed": (fixed(3), [RAGGED, EVEN], []),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_each_fault_is_named_and_no_other(name) -> None:
    loop, cases, codes = LOOPS[name]
    for case in cases:
        report = check_case(loop, case)
        assert sorted(report.codes) == sorted(codes), case.name
        assert report.ok == (not codes)


@pytest.mark.parametrize("k", [2, 3, 4, 8])
@pytest.mark.parametrize("norm", [0.3, 1.0, 2.0])
def test_a_clip_changes_nothing_in_what_is_named(k, norm) -> None:
    """Beside the same loop without one: where the clip bites it hides lengths, and makes no other fault."""
    case = token_case((5, 1, 7, 2, 4, 3, 6, 8, 2, 5, 3), k, f"K = {k}")
    for loss, steps in ((mean_over_k, last), (exact, no_tail), (exact, last)):
        plain = check_case(every_k(loss, steps=steps), case)
        clipped = check_case(every_k(loss, at(norm), steps), asked(case, norm))
        assert clipped.ok == plain.ok
        assert set(clipped.codes) <= set(plain.codes)
        assert set(plain.codes) - set(clipped.codes) <= {TAIL}, "a length that the clip has made right"


def test_a_clip_is_announced_with_its_norm_and_the_advice() -> None:
    report = check_case(every_k(exact, at(2.5)), RAGGED)
    assert report.diagnoses[0].message.startswith(
        "the gradients of 1 of 6 updates are shortened to a norm of 2.5"
    )
    assert report.diagnoses[0].message.endswith("give the case max_grad_norm=2.5")


@pytest.mark.parametrize(
    ("by", "codes", "said"),
    [
        (lambda x, window, k: sum(len(batch[0]) for batch in window), ("wrong_denominator",), ";"),
        (lambda x, window, k: k * len(x), ("wrong_denominator", MEANS), ", and a mean of means;"),
        (lambda x, window, k: len(window) * len(x), ("wrong_denominator", MEANS), ", and a mean of means;"),
        (lambda x, window, k: len(x), ("wrong_denominator", "no_division"), ", and not by K;"),
    ],
)
def test_what_it_is_divided_by_is_said(by, codes, said) -> None:
    def loop(model, optimizer, batches, accumulation_steps):
        for start in range(0, len(batches), accumulation_steps):
            window = batches[start : start + accumulation_steps]
            for x, y in window:
                (loss_sum(model(x), y) / by(x, window, accumulation_steps)).backward()
            optimizer.step()
            optimizer.zero_grad()

    report = check_case(loop, RAGGED)
    assert set(codes) <= set(report.codes)
    words = f"divided by the number of samples, not by what counts{said}"
    assert all(words in found.message for found in report.diagnoses if found.code in codes)


def test_a_fixed_k_is_reported_and_what_depends_on_k_is_not_taken_for_it() -> None:
    report = check_case(fixed(3), EVEN)
    assert (
        "K is fixed in the loop: it was given 2, makes windows of 3, and is checked with that"
        in report.remarks
    )
    assert report.accumulation_steps == 3

    rounded = every_k(lambda m, x, y, total, k: loss_sum(m(x).float(), y) / total)
    again = check_case(fixed(3, rounded), EVEN)
    assert again.ok, "its own rounding is no fault, whatever K is"
    assert any("rounds to float32" in remark for remark in again.remarks)

    def one_too_many(model, optimizer, batches, accumulation_steps):
        right(model, optimizer, batches, accumulation_steps + 1)

    assert check_case(one_too_many, EVEN).codes == ("off_by_one",)


def test_an_empty_step_that_moves_the_weights_is_an_update() -> None:
    """With momentum it does; then it is counted, and the loop is not equal."""

    def loop(model, optimizer, batches, accumulation_steps):
        other = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        right(model, other, batches, accumulation_steps)
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        other.step()

    report = check_case(loop, DIVISIBLE)
    assert not report.ok
    assert len(report.updates) == report.expected_updates + 2
