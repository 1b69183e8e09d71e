"""Exercises of notebook 05: loops to repair."""

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from accum_lib.check import check_case
from accum_lib.check.case import COUNTS, Case, token_case
from accum_lib.check.loop import Loop, wishes_of
from accum_lib.check.report import Report
from accum_lib.lessons.equivalence.exercises import grade_loop
from accum_lib.lessons.kit.feedback import Feedback, not_yet, right, runs
from accum_lib.words import _


@runs
def check_plain_repair(loop: Loop) -> Feedback:
    """Exercise 1: a loop as in many tutorials, graded by the checker like any other."""
    return grade_loop(loop)


@runs
def check_clipped_repair(loop: Loop) -> Feedback:
    """Exercise 2: a loop that clips too early; the whole window is to be clipped to ``max_grad_norm``."""
    if "max_grad_norm" not in wishes_of(loop).values():
        return not_yet(
            _("keep the parameter max_grad_norm: the norm that a window's gradient is clipped to.")
        )
    cases = [token_case(COUNTS, 3, _("ragged labels"), max_grad_norm=norm) for norm in (0.1, 100.0)]
    clipped, seldom = (check_case(loop, case) for case in cases)
    if clipped.ok and seldom.ok:
        return right(_("The whole window's gradient is clipped, once, just before the update."))
    if clipped.ok and max(update.scale for update in seldom.updates) < 1:  # too short: clipped to less
        return not_yet(_("right for max_grad_norm = 0.1, and wrong for 100: which norm do you clip to?"))
    if not seldom.ok:  # with a norm of 100 nothing is clipped, so the fault is not in the clipping
        return not_yet(
            _("even where nothing needs clipping, {message}.", message=seldom.diagnoses[0].message)
        )
    if clipped.codes not in (("unexplained",), ("not_clipped",)):
        return not_yet(_("{hint}.", hint=clipped.diagnoses[0].message))
    longer = clipped.updates[0].scale
    if clipped.updates[0].unexplained < clipped.tolerance:
        if _clips_too_late(loop, cases[0]):
            return not_yet(
                _(
                    "it clips after optimizer.step(), when the weights have moved already: clip between the "
                    "last backward pass and the step."
                )
            )
        return not_yet(
            _(
                "right until it is to be clipped, then {longer:.0f} times too long: is it clipped at all?",
                longer=longer,
            )
        )
    return not_yet(
        _("right until it is clipped, then it points elsewhere: clip all parameters together, once.")
    )


@runs
def check_logged_repair(loop: Loop) -> Feedback:
    """Exercise 3: right gradients, but a scheduler that ticks too often and a log of the last loss."""
    if "scheduler" not in wishes_of(loop).values():
        return not_yet(_("keep the parameter scheduler, and tick it once for each update."))
    case = token_case(COUNTS, 3, _("ragged labels"))
    report = check_case(loop, case)
    return _hint(report) or grade_schedule_and_log(report, case)


def grade_schedule_and_log(report: Report, case: Case) -> Feedback:
    """One tick after each update, and one loss: what is left to get wrong when all gradients are right."""
    if report.ticks != len(report.updates):
        return not_yet(
            _(
                "{updates} updates, {ticks} ticks: every update has one.",
                updates=len(report.updates),
                ticks=report.ticks,
            )
        )
    if any("losses" in note for note in report.notes):
        return not_yet(
            _(
                "return the losses, one for each update ({windows} an epoch here).",
                windows=len(case.windows()),
            )
        )
    if report.updates[0].learning_rate < 0.999 * case.learning_rate:
        return not_yet(
            _(
                "scheduler.step() comes before optimizer.step(), so the first learning rate is never used: "
                "tick after the update."
            )
        )
    return right(_("Gradients, schedule and log are one big batch's."))


def _clips_too_late(loop: Loop, case: Case) -> bool:
    """Whether the gradients of every update are shortened to the norm, but only once it has been made."""
    used: list[list[torch.Tensor]] = []

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        used.append([p.grad for p in parameters if p.grad is not None])

    hook = register_optimizer_step_post_hook(keep)
    try:
        check_case(loop, case)
    finally:
        hook.remove()
    assert case.max_grad_norm is not None
    lengths = [float(torch.nn.utils.get_total_norm(gradients)) for gradients in used]
    return bool(lengths) and all(0 < length < 1.001 * case.max_grad_norm for length in lengths)


def _hint(report: Report) -> Feedback | None:
    return None if report.ok else not_yet(_("{hint}.", hint=report.diagnoses[0].message))
