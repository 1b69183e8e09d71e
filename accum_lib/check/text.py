"""A report in words and numbers."""

import numpy as np

from accum_lib.check.report import Report, UpdateCheck
from accum_lib.words import _, clauses, listed


def explain(report: Report) -> str:
    """The report as text: the verdict, what was compared, a line for each update, and the diagnoses."""
    lines = [
        _("{verdict}: {case}", verdict=_verdict(report), case=report.case),
        _compared(report),
        *_table(report),
    ]
    lines += [_("* {code}: {message}.", code=d.code, message=d.message) for d in report.diagnoses]
    if report.notes:
        lines.append(_("  (not observed: {notes})", notes=clauses(report.notes)))
    return "\n".join(lines)


def _verdict(report: Report) -> str:
    if report.ok:
        return _("EQUAL to one big batch")
    if report.equal:
        return _("equal updates, but something else is amiss")
    return _("NOT EQUAL to one big batch")


def _compared(report: Report) -> str:
    ticks = "" if report.ticks is None else _(", {ticks} scheduler ticks", ticks=report.ticks)
    return _(
        "  K = {k}, {number} micro-batches counting {counts}; {epochs} epochs in {dtype}\n"
        "  {updates} updates (expected {due}), {tensors} "
        "tensors compared, {clears} times an empty buffer{ticks}, left over {leftover:.1g}\n"
        "  largest relative error {error:.1e}; rounding makes at most {tolerance:.1e}",
        k=report.accumulation_steps,
        number=len(report.counts),
        counts=listed([f"{c:g}" for c in report.counts]),
        epochs=report.epochs,
        dtype=report.dtype,
        updates=len(report.updates),
        due=report.expected_updates,
        tensors=report.tensors_compared,
        clears=report.clears,
        ticks=ticks,
        leftover=report.leftover,
        error=report.relative_error,
        tolerance=report.tolerance,
    )


def _table(report: Report) -> list[str]:
    head = _("  epoch  window           error    scale  worst parameter       weights (1 is right)")
    return [head, *(_row(u) for u in report.updates)] if report.updates else []


def _row(u: UpdateCheck) -> str:
    window = ",".join(str(i) for i in u.expected) if u.expected else _("none")
    inside = [f"{u.weights[i]:.3f}" if np.isfinite(u.weights[i]) else "-" for i in u.expected]
    outside = [
        _("{weight:.3f} of {number}", weight=u.weights[i], number=i)
        for i in range(len(u.weights))
        if i not in u.expected and abs(np.nan_to_num(u.weights[i])) > 1e-6
    ]
    extra = _("  and {others}", others=listed(outside)) if outside else ""
    worst = u.worst_parameter[-20:]
    return (
        f"  {u.epoch:<5}  {window:<15}  {u.relative_error:7.1e}  {u.scale:5.2f}  {worst:<20}  "
        f"{' '.join(inside)}{extra}"
    )
