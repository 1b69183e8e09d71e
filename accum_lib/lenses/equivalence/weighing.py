"""Faults in the division: the weights that were found, beside those that known mistakes give.

A loop that divides wrongly gives each micro-batch's loss **sum** another coefficient than one over its
window's count. Each known mistake has a formula for that coefficient; the first one that fits all the weights
which were found is named.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from accum_lib.lenses.equivalence.case import Case, labels_of, tensors
from accum_lib.lenses.equivalence.evidence import ALIKE, Evidence, support
from accum_lib.losses import IGNORE_INDEX
from accum_lib.records.equivalence import Diagnosis, Report, UpdateCheck

Window = tuple[int, ...]


@dataclass(frozen=True)
class Weighing:
    """A way to weigh micro-batches: the fault's name, its words, each loss sum's coefficient."""

    code: str
    words: str
    coefficient: Callable[[Window, int], float]


def weighing(report: Report, evidence: Evidence, known: set[str]) -> list[Diagnosis]:
    """Name what the weights show. ``known`` are faults in the moments, which can make weights meaningless."""
    if known & {"not_finite", "not_moved", "clipped_per_micro_batch", "not_cleared"}:
        return []
    k, ways = report.accumulation_steps, _ways(report, evidence.case)
    full = [u for u in report.updates if len(u.expected) in (0, k)]
    tails = [u for u in report.updates if 0 < len(u.expected) < k]
    found, way = _explain(full, "on full windows", ways, report, evidence)
    if "off_by_one" not in known:
        if way is not None and way.code:
            ways = [way, *ways]  # what is wrong on full windows is likely the same in the trailing one
        found += _explain(tails, "in the trailing window", ways, report, evidence)[0]
    return list({d.code: d for d in reversed(found)}.values())[::-1]  # each fault once, the first words


def _explain(
    updates: list[UpdateCheck], place: str, ways: list[Weighing], report: Report, evidence: Evidence
) -> tuple[list[Diagnosis], Weighing | None]:
    """What the weights of these updates show, and the way of weighing that fits them."""
    seen = [(evidence.window_of(i), i, u.weights[i]) for u in updates for i in _own(u)]
    if not seen:
        return [], None
    way = next((w for w in ways if _fits(w, seen, report)), None)
    if way is None:
        return _no_known_way(updates, np.array([w for *_, w in seen]), report), None
    if not way.code:
        return [], way
    found = [Diagnosis(way.code, f"{way.words} {_measured(updates, place)}")]
    if way.code == "mean_of_means" and all(len(w) < report.accumulation_steps for w, *_ in seen):
        found += _short_window(seen, report)
    return found, way


def _own(update: UpdateCheck) -> list[int]:
    """The micro-batches that count and belong to the update's window; what has leaked in is another fault."""
    inside = [i for i in support(update) if i in update.expected]
    return inside or support(update)


def _fits(way: Weighing, seen: list[tuple[Window, int, float]], report: Report) -> bool:
    expected = [way.coefficient(w, i) * report.counts[list(w)].sum() for w, i, _ in seen]
    return all(abs(f - e) <= ALIKE * abs(e) for (*_, f), e in zip(seen, expected, strict=True))


def _short_window(seen: list[tuple[Window, int, float]], report: Report) -> list[Diagnosis]:
    """A mean of means over K where there are fewer than K: the shares add up to r/K and not to 1."""
    window = seen[0][0]
    share = sum(f * report.counts[i] for w, i, f in seen[: len(window)]) / report.counts[list(window)].sum()
    if share > 1 - ALIKE:
        return []
    words = f"the trailing window of {len(window)} is divided by K = {report.accumulation_steps}"
    return [Diagnosis("tail_divided_by_k", f"{words}: its shares add up to {share:.3g} and not to 1")]


def _no_known_way(updates: list[UpdateCheck], weights: np.ndarray, report: Report) -> list[Diagnosis]:
    """One factor for all micro-batches, or a sum that is coarse; else nothing that is known."""
    rough = min(u.unexplained for u in updates) > max(report.tolerance, 1e-9)
    if rough and np.abs(weights - 1).max() < 0.1:
        error = max(u.relative_error for u in updates)
        words = (
            f"every micro-batch weighs what it should, but the sum is coarse: it is off by {error:.1e}, as "
        )
        words += f"numbers with about {-np.log2(error):.0f} bits are. The buffer's precision is too low"
        return [Diagnosis("low_precision_buffer", words)]
    if np.ptp(weights) <= ALIKE * abs(weights[0]):
        words = (
            f"every micro-batch weighs {weights[0]:.4g} times what it should: the divisor is not the count"
        )
        return [Diagnosis("wrong_scale", words)]
    return []


def _measured(updates: list[UpdateCheck], place: str) -> str:
    shown = max(updates, key=lambda u: max((abs(u.weights[i] - 1) for i in _own(u)), default=0.0))
    weights = ", ".join(f"{shown.weights[i]:.3g}" for i in _own(shown))
    return (
        f"{place} the gradient is {shown.scale:.2f} times as long as it should be; weights {weights}, not 1"
    )


def _ways(report: Report, case: Case) -> list[Weighing]:
    """The right way first, then known mistakes, from the simplest on."""
    n, k = report.counts, report.accumulation_steps
    rows = np.array([float(len(tensors(b)[0])) for b in case.batches])

    def total(w: Window) -> float:
        return float(n[list(w)].sum())

    means = "a mean of means: micro-batches weigh alike, however much each of them counts;"
    ways = [
        Weighing("", "", lambda w, i: 1 / total(w)),
        Weighing("tail_divided_by_k", f"a shorter window is divided as if it had K = {k} micro-batches;",
                 lambda w, i: len(w) / (k * total(w))),
        Weighing("no_division", "nothing divides by K: the micro-batches' means are added up;",
                 lambda w, i: 1 / n[i]),
        Weighing("mean_of_means", means, lambda w, i: 1 / (len(w) * n[i])),
        Weighing("mean_of_means", means, lambda w, i: 1 / (k * n[i])),
        Weighing("divided_twice", "the window's mean is divided by K once more;",
                 lambda w, i: 1 / (k * total(w))),
        Weighing("divided_twice", "the micro-batches' means are divided by K twice;",
                 lambda w, i: 1 / (k * k * n[i])),
        Weighing("sum_not_mean", "losses are summed, and never divided by what counts;", lambda w, i: 1.0),
        Weighing("sum_not_mean", "losses are summed, and divided by K instead of what counts;",
                 lambda w, i: 1 / k),
        Weighing("weighted_by_samples", "micro-batches weigh by their samples, not by what counts;",
                 lambda w, i: rows[i] / (n[i] * rows[list(w)].sum())),
    ]  # fmt: skip
    for name, other in _other_counts(case).items():
        if not np.allclose(other, n):
            ways += _by_other_count(name, other, k)
    return ways


def _by_other_count(name: str, count: np.ndarray, k: int) -> list[Weighing]:
    words = f"divided by the number of {name}, not by what counts"
    return [
        Weighing("wrong_denominator", f"{words};", lambda w, i: 1 / float(count[list(w)].sum())),
        Weighing("wrong_denominator", f"{words}, and a mean of means;", lambda w, i: 1 / (k * count[i])),
        Weighing("wrong_denominator", f"{words}, and a mean of means;", lambda w, i: 1 / (len(w) * count[i])),
        Weighing("wrong_denominator", f"{words}, and not by K;", lambda w, i: 1 / count[i]),
    ]


def _other_counts(case: Case) -> dict[str, np.ndarray]:
    """What else of a micro-batch could be mistaken for its count."""
    counts = {"samples": np.array([float(len(tensors(b)[0])) for b in case.batches])}
    labels = [t for b in case.batches if (t := labels_of(b)) is not None and not t.is_floating_point()]
    if len(labels) == len(case.batches):
        counts["labels that are not ignored"] = np.array([float((t != IGNORE_INDEX).sum()) for t in labels])
        counts["label positions, ignored ones too"] = np.array([float(t.numel()) for t in labels])
    return {name: np.maximum(values, 1e-9) for name, values in counts.items()}
