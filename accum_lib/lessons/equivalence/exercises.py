"""Exercises of notebook 02: write a loop, predict weights, choose data in which no fault can hide."""

from collections.abc import Callable, Sequence
from functools import cache

from accum_lib.check import check, check_case
from accum_lib.check.case import token_case
from accum_lib.check.faults import FAULTS, loops
from accum_lib.check.loop import Loop
from accum_lib.lessons.kit.feedback import BLANK, Feedback, is_blank, not_yet, right, runs
from accum_lib.words import _, clauses, listed

HIDING = ("no_division", "mean_of_means", "tail_divided_by_k", "dropped_tail", "leaked_tail")


@runs
def check_loop(loop: Loop) -> Feedback:
    """Exercise 1: a training loop for one epoch."""
    return grade_loop(loop)


def grade_loop(loop: Loop) -> Feedback:
    """A training loop for one epoch, graded by the checker on its standard cases."""
    reports = check(loop)
    if all(not r.updates for r in reports):
        return not_yet(_("no update was made: call optimizer.step() at the end of each window."))
    for report in reports:
        if not report.ok:
            return not_yet(
                _("on '{case}': {message}.", case=report.case, message=report.diagnoses[0].message)
            )
    worst = max(r.relative_error for r in reports)
    updates = sum(len(r.updates) for r in reports)
    return right(
        _(
            "All {updates} updates are one big batch's, the trailing windows too; worst error {worst:.0e}.",
            updates=updates,
            worst=worst,
        )
    )


@runs
def check_mean_of_means_weight(weight: Callable[[int, list[int]], float]) -> Feedback:
    """Exercise 2: ``weight(index, counts)`` in a mean of means, 1 being right. Compared with a real loop."""
    if is_blank(weight(0, [1, 3])):
        return not_yet(_(BLANK))
    for counts in ([5, 1, 6], [1, 3]):
        for index, measured in enumerate(_measured(tuple(counts))):
            given = weight(index, counts)
            if not abs(given - measured) <= 1e-9:  # true of a NaN, too
                return not_yet(
                    _(
                        "with counts {counts}, micro-batch {index} weighs {measured:.3f} in a real run; you "
                        "say {given:.3f}. {hint}",
                        counts=counts,
                        index=index,
                        measured=measured,
                        given=given,
                        hint=_weight_hint(given, index, counts),
                    )
                )
    return right(
        _("It gets 1/K of the update, and should get its count's share of all: so short ones weigh more.")
    )


@cache
def _measured(counts: tuple[int, ...]) -> list[float]:
    """The weights in a real window that a mean of means makes one update of."""
    case = token_case(counts, len(counts), "exercise")
    return check_case(loops.mean_of_means, case).updates[0].weights.tolist()


def _weight_hint(given: float, index: int, counts: list[int]) -> str:
    gets, should = 1 / len(counts), counts[index] / sum(counts)
    near = [
        (
            gets,
            _("That is the share of the update that it gets. Compare it with the share that it should get."),
        ),
        (should, _("That is the share that it should get. Compare it with the share that it gets.")),
        (should / gets, _("Upside down: a short micro-batch weighs too much, not too little.")),
        (1.0, _("That would be right for micro-batches that all count the same.")),
    ]
    fallback = _("Which share of the update does it get, and which should it get?")
    return next((hint for value, hint in near if abs(given - value) < 1e-9), fallback)


@runs
def check_data(answer: tuple[Sequence[int], int]) -> Feedback:
    """Exercise 3: ``(counts, K)``, the smallest data in which none of five faults can hide."""
    if is_blank(answer):
        return not_yet(_("give the counts and K: ([4, 4, 4, 4], 2), say."))
    counts, steps = answer
    if not counts or any(n != int(n) or n < 0 for n in counts) or int(steps) != steps or steps < 1:
        return not_yet(_("counts are whole numbers, 0 or more, and K is 1 or more."))
    case = token_case(tuple(int(n) for n in counts), int(steps), "exercise")
    every = {f.code: f for f in FAULTS}
    hidden = [every[code].title for code in HIDING if check_case(every[code].wrong, case).ok]
    if hidden:
        return not_yet(
            _(
                "{hidden} of {all} loops still pass for right: {titles}.",
                hidden=len(hidden),
                all=len(HIDING),
                titles=clauses(hidden),
            )
        )
    if len(counts) > 2:
        return not_yet(
            _(
                "all five are caught, with {number} micro-batches. It can be done with fewer: is a full "
                "window needed?",
                number=len(counts),
            )
        )
    return right(
        _(
            "Counts of {counts} with K = {steps}: one window, shorter than K, of two that count unlike. That "
            "is all a test needs.",
            counts=listed([str(n) for n in counts]),
            steps=steps,
        )
    )
