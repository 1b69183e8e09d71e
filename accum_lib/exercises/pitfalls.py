"""Exercises 2 and 3 of notebook 05, loops to repair; the first is graded by ``check_loop``, like any loop."""

from accum_lib.exercises.feedback import Feedback, not_yet, right, runs
from accum_lib.lenses.equivalence import check_case
from accum_lib.lenses.equivalence.calling import Loop, wishes_of
from accum_lib.lenses.equivalence.standard import COUNTS, token_case
from accum_lib.records.equivalence import Report
from accum_lib.words import _


@runs
def check_clipped_repair(loop: Loop) -> Feedback:
    """Exercise 2: a loop that clips too early; the whole window is to be clipped to ``max_grad_norm``."""
    if "max_grad_norm" not in wishes_of(loop).values():
        return not_yet(
            _("keep the parameter max_grad_norm: the norm that a window's gradient is clipped to.")
        )
    report = check_case(loop, token_case(COUNTS, 3, _("ragged labels, clipped"), max_grad_norm=0.1))
    if (hint := _hint(report)) is not None:
        return hint
    unclipped = check_case(loop, token_case(COUNTS, 3, "ragged labels, seldom clipped", max_grad_norm=100.0))
    return _hint(unclipped) or right(
        _("The whole window's gradient is clipped, once, just before the update.")
    )


@runs
def check_logged_repair(loop: Loop) -> Feedback:
    """Exercise 3: right gradients, but a scheduler that ticks too often and a log of the last loss."""
    if "scheduler" not in wishes_of(loop).values():
        return not_yet(_("keep the parameter scheduler, and tick it once for each update."))
    case = token_case(COUNTS, 3, _("ragged labels"))
    report = check_case(loop, case)
    if (hint := _hint(report)) is not None:
        return hint
    if not report.losses_compared:
        return not_yet(
            _(
                "return the losses, one for each update ({updates} an epoch here).",
                updates=len(case.windows()),
            )
        )
    return right(_("Gradients, schedule and log are one big batch's."))


def _hint(report: Report) -> Feedback | None:
    return None if report.ok else not_yet(f"{report.diagnoses[0].message}.")
