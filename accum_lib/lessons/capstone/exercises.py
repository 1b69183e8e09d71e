"""Exercises of notebook 10: repair a script, choose M and K for a card, see what a budget of time buys."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from accum_lib.accumulate import windows
from accum_lib.check import check_case
from accum_lib.check.loop import Loop
from accum_lib.lessons.kit.feedback import BLANK, Feedback, is_blank, not_yet, right, runs
from accum_lib.lessons.memory.explorer import roberta_base
from accum_lib.lessons.roberta.problem import case_of
from accum_lib.lessons.when_it_breaks.exercises import grade_schedule_and_log
from accum_lib.machine import GIB
from accum_lib.memory.cards import find_card
from accum_lib.memory.planner import MARGIN, largest_micro_batch, reserved_bytes
from accum_lib.memory.prediction import Prediction, predict
from accum_lib.words import _

CARD, TOKENS, BATCH = "RTX 4060", 512, 256


@runs
def check_script(script: Loop) -> Feedback:
    """Exercise 1: the script, repaired. Tried on RoBERTa's hidden tokens, with a clip that bites."""
    case = replace(case_of("mlm"), max_grad_norm=0.1)
    report = check_case(script, case)
    if not report.ok:
        rest = len(report.diagnoses) - 1
        more = _(" And {rest} more.", rest=rest) if rest else ""
        return not_yet(_("{hint}.{more}", hint=report.diagnoses[0].message, more=more))
    return grade_schedule_and_log(report, case)


@runs
def check_plan(choice: Sequence[int]) -> Feedback:
    """Exercise 2: ``(M, K)`` for RoBERTa-base, 512 tokens, AdamW in float32, B = 256, on a card of 8 GB."""
    if is_blank(choice) or any(map(is_blank, choice)):
        return not_yet(_("give two numbers: (M, K)."))
    m, k = choice
    if not all(isinstance(each, int) and each >= 1 for each in (m, k)):
        return not_yet(_("M and K are whole numbers, 1 or more; you say {m} and {k}.", m=m, k=k))
    if not m * (k - 1) < BATCH <= m * k:
        return not_yet(
            _("{k} micro-batches of at most {m} do not make windows of {batch}.", k=k, m=m, batch=BATCH)
        )
    found, largest, limit = _largest()
    if m > largest:
        return not_yet(
            _(
                "an update with M = {m} takes {needs:.1f} GiB of the card, and {limit:.1f} GiB are there, "
                "with a margin of a tenth.",
                m=m,
                needs=reserved_bytes(found, m, k) / GIB,
                limit=limit / GIB,
            )
        )
    if k > math.ceil(BATCH / largest):
        return not_yet(
            _(
                "it fits, but with room to spare: a larger M makes fewer passes. What is the largest that "
                "fits? Notebook 04 has a planner, and so has the command line."
            )
        )
    return right(
        _(
            "M = {m} takes {needs:.1f} of {limit:.1f} GiB, so K = {k} reaches B = {batch}. No smaller K "
            "does: M = {largest} is the largest that fits.",
            m=m,
            k=k,
            needs=reserved_bytes(found, m, k) / GIB,
            limit=limit / GIB,
            batch=BATCH,
            largest=largest,
        )
    )


@cache
def _largest() -> tuple[Prediction, int, float]:
    """The prediction, the largest M that fits the card with the planner's margin, and the bytes there are."""
    card = find_card(CARD)
    found, limit = predict(roberta_base(TOKENS), hopper=False), card.limit_bytes(MARGIN)
    return found, largest_micro_batch(found, limit, limit), limit


@runs
def check_epochs(epochs: Callable[[int, int, int, float, float, float], int]) -> Feedback:
    """Exercise 3: ``epochs(num_samples, micro_batch_size, accumulation_steps, pass_seconds, update_seconds,
    budget_seconds)``: how many whole epochs a budget of time buys. Compared with a count by hand.
    """
    if is_blank(epochs(100, 4, 5, 1.0, 1.0, 1000.0)):
        return not_yet(_(BLANK))
    for case in ((100, 4, 5, 1.0, 1.0, 95.0), (90, 4, 8, 1.0, 2.0, 289.0), (3668, 13, 20, 0.5, 0.25, 3600.0)):
        n, m, k, each_pass, each_update, budget = case
        micro_batches = range(0, n, m)
        passes, updates = len(micro_batches), len(list(windows(micro_batches, k)))
        seconds = passes * each_pass + updates * each_update
        given, expected = epochs(*case), int(budget // seconds)
        if given != expected:
            return not_yet(
                _(
                    "{n} examples with M = {m} and K = {k}, {each_pass:g} s a pass, {each_update:g} s an "
                    "update, {budget:g} s in all: you say {given:g}. One epoch is {passes} passes and "
                    "{updates} updates, counted by hand. {hint}",
                    n=n,
                    m=m,
                    k=k,
                    each_pass=each_pass,
                    each_update=each_update,
                    budget=budget,
                    given=given,
                    passes=passes,
                    updates=updates,
                    hint=_epochs_hint(given, budget, passes * each_pass, passes * each_update),
                )
            )
    return right(_("An hour is {epochs} epochs of 3,668 examples at half a second a pass.", epochs=expected))


def _epochs_hint(given: float, budget: float, of_passes: float, if_each_updates: float) -> str:
    if given != int(given):
        return _("Only whole epochs count: round down.")
    if given == budget // (of_passes + if_each_updates):
        return _("An update is made once for each window, not for each pass.")
    if given == budget // of_passes:
        return _("The updates take time, too.")
    return _("Is the last, smaller micro-batch in, and the last, shorter window?")
