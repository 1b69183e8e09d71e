"""From numbers to named faults. Each rule looks at what was measured; none knows how the loop is written.

Three kinds of evidence: **when** updates happened and what lay in the buffer (``timing``), **how much** each
micro-batch weighed in the gradient that was used (``weighing``), and what the model and the rest of the
training did (``surroundings``). Where several faults meet, each is named.
"""

from dataclasses import replace

from accum_lib.check.diagnosis.evidence import Evidence
from accum_lib.check.diagnosis.parts import parts
from accum_lib.check.diagnosis.places import placed
from accum_lib.check.diagnosis.surroundings import model_limits, only_the_model, surroundings
from accum_lib.check.diagnosis.timing import timing
from accum_lib.check.diagnosis.weighing import weighing
from accum_lib.check.loop import two_optimizers
from accum_lib.check.report import Diagnosis, Report
from accum_lib.words import _, listed


def diagnose(report: Report, evidence: Evidence) -> Report:
    """The report with its diagnoses; a loop that is equal can still have faults in its surroundings."""
    if report.ended is not None:
        words = _(
            "the loop ended the process itself ({how}), after {updates} of {due} updates: what follows was "
            "not checked. Let it raise an error, or return",
            how=report.ended,
            updates=len(report.updates),
            due=report.expected_updates,
        )
        return replace(report, diagnoses=(placed(Diagnosis("ended_itself", words), evidence),))
    if not report.equal and (which := _by_turns(evidence)):
        turns = Diagnosis("two_optimizers", two_optimizers(which))
        return replace(report, diagnoses=(placed(turns, evidence),))
    found = surroundings(report, evidence)
    if not report.equal:
        found += model_limits(report, evidence)
        if not only_the_model(report):
            when = timing(report, evidence)
            found += when + (parts(report, evidence) or weighing(report, evidence, {d.code for d in when}))
    elif evidence.clip is not None:  # it hides lengths, but not that they differ in what a window divides by
        found += [d for d in weighing(report, evidence, set()) if d.code == "tail_divided_by_k"]
    if not report.equal and not found:
        found = [Diagnosis("unexplained", _unexplained(report))]
    return replace(report, diagnoses=tuple(placed(d, evidence) for d in found))


def _by_turns(evidence: Evidence) -> str:
    """Which parts of the model the updates move, if they move different ones at different times."""
    held = {frozenset(update.held): sorted(update.held)[0] for update in evidence.recorder.updates}
    apart = len(held) > 1 and not frozenset.intersection(*held)
    return listed([_("one for {first} and so on", first=first) for first in held.values()]) if apart else ""


def _unexplained(report: Report) -> str:
    if not report.updates:
        return _("no optimizer update was seen: does the loop call a torch.optim optimizer on this model?")
    worst = max(report.updates, key=lambda u: u.relative_error)
    if not worst.relative_error > report.tolerance:
        return _(
            "the gradients are right, but there are {updates} updates where {due} are due, or some of them "
            "moved nothing",
            updates=len(report.updates),
            due=report.expected_updates,
        )
    return _(
        "the gradient is off by {relative_error:.1e}, where rounding makes {tolerance:.0e}; the "
        "micro-batches' weights explain all but {unexplained:.1e} of it. No known fault does that",
        relative_error=worst.relative_error,
        tolerance=report.tolerance,
        unexplained=worst.unexplained,
    )
