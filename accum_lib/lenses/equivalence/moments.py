"""Faults in when the optimizer moves, and in what lies in the gradient buffer at which moment."""

from collections.abc import Iterator
from itertools import pairwise

from accum_lib.lenses.equivalence.evidence import (
    ALIKE,
    SIGNIFICANT,
    Evidence,
    counted,
    holds_something,
    norm,
    support,
)
from accum_lib.lenses.equivalence.recorder import Vectors
from accum_lib.lenses.equivalence.reference import flat
from accum_lib.records.equivalence import Diagnosis, Report


def moments(report: Report, evidence: Evidence) -> list[Diagnosis]:
    """Faults in the order of things: every rule is asked, since several may meet."""
    rules = (_not_finite, _stuck, _per_micro_batch, _off_by_one, _tail_lost, _not_cleared, _cleared, _clipped)
    return [d for rule in rules if (d := rule(report, evidence))]


def _not_finite(report: Report, evidence: Evidence) -> Diagnosis | None:
    for number, update in enumerate(evidence.recorder.updates):
        if all(bool(g.isfinite().all()) for g in update.gradient.values()):
            continue
        empty = [i for i in report.updates[number].expected if report.counts[i] == 0]
        cause = f"micro-batch {empty[0]} counts nothing, and a mean over nothing is NaN" if empty else "why?"
        return Diagnosis("not_finite", f"the gradient of update {number} is not finite: {cause}")
    return None


def _stuck(report: Report, _: Evidence) -> Diagnosis | None:
    if report.updates and not any(u.moved for u in report.updates):
        return Diagnosis("not_moved", "the optimizer was called, but no parameter has moved")
    return None


def _per_micro_batch(report: Report, _: Evidence) -> Diagnosis | None:
    """More updates than windows, each after a single pass."""
    single = {u.passes for u in report.updates} == {1}
    if report.accumulation_steps > 1 and single and len(report.updates) > report.expected_updates:
        return Diagnosis(
            "stepped_per_micro_batch",
            f"the optimizer moves after every micro-batch: {len(report.updates)} updates where "
            f"{report.expected_updates} are due. Nothing is accumulated",
        )
    return None


def _off_by_one(report: Report, _: Evidence) -> Diagnosis | None:
    """One micro-batch, then K at a time: ``i % K == 0`` instead of ``(i + 1) % K == 0``."""
    first = report.updates[:2]
    if len(first) > 1 and len(first[0].expected) > 1 and first[0].passes == 1 < first[1].passes:
        return Diagnosis(
            "off_by_one",
            f"the first update comes after 1 micro-batch and not after {report.accumulation_steps}, and "
            "every later one is late: the condition is i % K == 0 where (i + 1) % K == 0 is meant",
        )
    return None


def _tail_lost(report: Report, evidence: Evidence) -> Diagnosis | None:
    """Fewer updates than windows: the trailing one was dropped, or left lying for the next epoch."""
    windows, k = evidence.case.windows(), report.accumulation_steps
    if len(windows[-1]) == k or len(report.updates) >= report.expected_updates:
        return None
    only = f"an epoch of {len(windows[-1])} is shorter than K = {k}: " if len(windows) == 1 else ""
    names = ", ".join(str(i) for i in windows[-1])
    if _leaks(report, evidence):
        return Diagnosis(
            "leaked_tail",
            f"{only}the trailing window (micro-batches {names}) makes no update of its own: its gradient "
            "stays in the buffer, and the next epoch's first update uses it",
        )
    return Diagnosis(
        "dropped_tail", f"{only}the trailing window (micro-batches {names}) makes no update: it is lost"
    )


def _leaks(report: Report, evidence: Evidence) -> bool:
    """A later epoch's first pass found something in the buffer; or, at the end, something is left."""
    passes = evidence.recorder.passes
    starts = [passes[j] for j in evidence.recorder.epoch_starts[1:] if j < len(passes)]
    if starts:
        return any(holds_something(p.before) for p in starts)
    return report.leftover > SIGNIFICANT


def _not_cleared(_: Report, evidence: Evidence) -> Diagnosis | None:
    """Every pass after an update found that update's gradient still in the buffer."""
    updates, passes = evidence.recorder.updates, evidence.recorder.passes
    kept = [norm(passes[u.passes].before) for u in updates if u.passes < len(passes)]
    if kept and min(kept) > 0:
        return Diagnosis(
            "not_cleared",
            "the buffer is not cleared after an update: the next backward pass finds a gradient of norm "
            f"{kept[0]:.3g} in it, and adds to that",
        )
    return None


def _cleared(_: Report, evidence: Evidence) -> Diagnosis | None:
    """Within a window a pass found the buffer empty, and micro-batches before it count for nothing."""
    for update, inside in evidence.inner_passes():
        lost = set(counted(update)) - set(support(update))
        if lost and any(_emptied(evidence, *pair) for pair in pairwise(inside)):
            return Diagnosis(
                "cleared_mid_window",
                f"the buffer is cleared within the window: of micro-batches {_names(update.expected)} only "
                f"{_names(support(update))} still count at the update",
            )
    return None


def _clipped(report: Report, evidence: Evidence) -> Diagnosis | None:
    """Within a window the buffer gets shorter, or micro-batches add gradients of one and the same length."""
    shorter = [length for _, inside in evidence.inner_passes() for length in _shortened(evidence, inside)]
    if shorter:
        return Diagnosis(
            "clipped_per_micro_batch",
            "between two backward passes of one window the buffer is shortened, at least once to a norm of "
            f"{min(shorter):.3g}: it is clipped after each micro-batch, and not once per update",
        )
    length = _common_length(report, evidence)
    if length is not None:
        return Diagnosis(
            "clipped_per_micro_batch",
            f"micro-batches whose gradients differ in length all add one of norm {length:.3g}: each is "
            "clipped by itself, and not the window's gradient once",
        )
    return None


def _emptied(evidence: Evidence, earlier: int, later: int) -> bool:
    """Something lay in the buffer after the earlier pass, and nothing before the later one."""
    passes = evidence.recorder.passes
    left = _sum(passes[earlier].before, passes[earlier].added)
    return holds_something(left) and not holds_something(passes[later].before)


def _shortened(evidence: Evidence, inside: list[int]) -> Iterator[float]:
    passes, names = evidence.recorder.passes, evidence.recorder.tensors()
    for earlier, later in pairwise(inside):
        left = flat(_sum(passes[earlier].before, passes[earlier].added), names)
        found = flat(passes[later].before, names)
        if 0 < float(found.norm()) < (1 - ALIKE) * float(left.norm()):
            yield float(found.norm())


def _common_length(report: Report, evidence: Evidence) -> float | None:
    """The longest contribution's norm, if others share it whose own gradients are longer or shorter."""
    contributed, own = [], []
    for check, update in zip(report.updates, evidence.recorder.updates, strict=True):
        evidence.reference.load(update)
        for i in support(check):
            length = norm(evidence.reference.of_micro_batch(i))
            total = report.counts[list(evidence.window_of(i))].sum()
            contributed.append(abs(check.weights[i]) * length / total)
            own.append(length / report.counts[i])
    longest = max(contributed, default=0.0)
    alike = [o for c, o in zip(contributed, own, strict=True) if c > (1 - ALIKE) * longest]
    return longest if len(alike) > 1 and max(alike) > 1.01 * min(alike) else None


def _sum(one: Vectors, other: Vectors) -> Vectors:
    both = {n: v + other[n] for n, v in one.items() if n in other}
    return {**one, **other, **both}


def _names(numbers: tuple[int, ...] | list[int]) -> str:
    return ", ".join(str(i) for i in numbers) or "none"
