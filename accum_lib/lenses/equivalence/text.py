"""A report in words and numbers."""

import numpy as np

from accum_lib.records.equivalence import Report, UpdateCheck


def explain(report: Report) -> str:
    """The report as text: the verdict, what was compared, a line for each update, and the diagnoses."""
    lines = [f"{_verdict(report)}: {report.case}", _compared(report), *_table(report)]
    lines += [f"* {d.code}: {d.message}." for d in report.diagnoses]
    if report.notes:
        lines.append(f"  (not observed: {'; '.join(report.notes)})")
    return "\n".join(lines)


def _verdict(report: Report) -> str:
    if report.ok:
        return "EQUAL to one big batch"
    return "equal updates, but something else is amiss" if report.equal else "NOT EQUAL to one big batch"


def _compared(report: Report) -> str:
    ticks = "" if report.ticks is None else f", {report.ticks} scheduler ticks"
    return (
        f"  K = {report.accumulation_steps}, {len(report.counts)} micro-batches counting "
        f"{', '.join(f'{c:g}' for c in report.counts)}; {report.epochs} epochs in {report.dtype}\n"
        f"  {len(report.updates)} updates (expected {report.expected_updates}), {report.tensors_compared} "
        f"tensors compared, {report.clears} times an empty buffer{ticks}, left over {report.leftover:.1g}\n"
        f"  largest relative error {report.relative_error:.1e}; rounding makes at most {report.tolerance:.1e}"
    )


def _table(report: Report) -> list[str]:
    head = "  epoch  window           error    scale  worst parameter       weights (1 is right)"
    return [head, *(_row(u) for u in report.updates)] if report.updates else []


def _row(u: UpdateCheck) -> str:
    window = ",".join(str(i) for i in u.expected) if u.expected else "none"
    inside = [f"{u.weights[i]:.3f}" if np.isfinite(u.weights[i]) else "-" for i in u.expected]
    outside = [
        f"{u.weights[i]:.3f} of {i}"
        for i in range(len(u.weights))
        if i not in u.expected and abs(np.nan_to_num(u.weights[i])) > 1e-6
    ]
    extra = f"  and {', '.join(outside)}" if outside else ""
    worst = u.worst_parameter[-20:]
    return (
        f"  {u.epoch:<5}  {window:<15}  {u.relative_error:7.1e}  {u.scale:5.2f}  {worst:<20}  "
        f"{' '.join(inside)}{extra}"
    )
