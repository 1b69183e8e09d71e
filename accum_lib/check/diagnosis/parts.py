"""Faults that weights of whole micro-batches do not explain, and weights of their parts do.

The parts are the sequences of a micro-batch, or the main and the auxiliary loss. What no weights explain may
be rounding.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from accum_lib.check.case import labels_of, rows_of
from accum_lib.check.diagnosis.clipping import ALIKE, SIGNIFICANT
from accum_lib.check.diagnosis.evidence import COARSE, Evidence, support
from accum_lib.check.recorder import RecordedUpdate, Vectors
from accum_lib.check.reference import aligned
from accum_lib.check.report import Diagnosis, Report, UpdateCheck
from accum_lib.vectors import IGNORE_INDEX, map_tensors, tensors_of
from accum_lib.words import _


def parts(report: Report, evidence: Evidence) -> list[Diagnosis]:
    """The first of these faults that explains every update."""
    if not report.updates or not min(u.unexplained for u in report.updates) > SIGNIFICANT:
        return []
    if any(not u.expected for u in report.updates):
        return []
    rules = (_auxiliary, _sequences)
    return [d for rule in rules if (d := rule(report, evidence)) is not None][:1]


def _pairs(report: Report, evidence: Evidence) -> Iterator[tuple[UpdateCheck, RecordedUpdate]]:
    """Each update with its record; the reference is at its weights."""
    for check, update in zip(report.updates, evidence.recorder.updates, strict=True):
        evidence.reference.load(update)
        yield check, update


def _fit(found: Vectors, columns: list[Vectors]) -> np.ndarray | None:
    """The coefficients of these gradients in the found one; None if they do not explain it."""
    target = aligned(found, found)
    if not columns or len(columns) > len(target) or not target.isfinite().all():
        return None
    stacked = torch.stack([aligned(column, found) for column in columns], dim=1)
    lengths = stacked.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny)
    fitted = torch.linalg.lstsq(stacked / lengths, target.unsqueeze(1), driver="gelsd").solution.squeeze(1)
    rest = float((stacked / lengths @ fitted - target).norm() / target.norm())
    return (fitted / lengths).numpy() if rest < SIGNIFICANT else None


def _auxiliary(report: Report, evidence: Evidence) -> Diagnosis | None:
    """The main loss weighs rightly, and the case's auxiliary one does not."""
    if evidence.case.auxiliary is None:
        return None
    other, shares = evidence.reference.with_loss(evidence.case.auxiliary), list[float]()
    for check, update in _pairs(report, evidence):
        inside = [i for i in check.expected if report.counts[i] > 0]
        whole = [evidence.reference.of_micro_batch(i) for i in inside]
        fitted = _fit(update.gradient, whole + [other.of_micro_batch(i) for i in inside])
        if fitted is None:
            return None
        weights = fitted * evidence.total(check.expected)
        if np.abs(weights[: len(inside)] - 1).max() > ALIKE:
            return None
        shares += (1 + weights[len(inside) :]).tolist()
    words = _(
        "the auxiliary loss weighs {least:.3g} to {most:.3g} times what it should, and the main loss is "
        "right: each micro-batch adds its own mean of it, undivided, so K micro-batches add it K times",
        least=min(shares),
        most=max(shares),
    )
    return Diagnosis("auxiliary_per_micro_batch", words)


def _sequences(report: Report, evidence: Evidence) -> Diagnosis | None:
    """Sequences of one micro-batch weigh differently, by how many tokens each of them has."""
    per_sequence, per_token = True, True
    for check, update in _pairs(report, evidence):
        rows = [row for i in check.expected if report.counts[i] > 0
                for row in _rows(evidence.case.batches[i])]  # fmt: skip
        tokens = np.array([_tokens(row) for row in rows])
        columns = [evidence.reference.of_batch(row) for row in rows]
        fitted = _fit(update.gradient, columns)
        if fitted is None or len(set(tokens.tolist())) < 2:
            return None
        per_sequence = per_sequence and _alike(fitted * tokens)
        per_token = per_token and _alike(fitted / tokens)
    if per_sequence == per_token:
        return None
    words = _(
        "sequences weigh alike, however many tokens each of them has: the mean of each sequence is taken, "
        "and then their mean, where the case has a mean over all tokens"
    )
    if per_token:
        words = _(
            "tokens weigh alike, and so long sequences more: the mean over all tokens is taken, where the "
            "case has the mean of the sequences' means"
        )
    return Diagnosis("sequence_denominator", words)


def _rows(batch: object) -> list[object]:
    """A batch's sequences that hold a label which counts; none if it can't be cut into them."""
    number = rows_of(batch)
    if any(t.ndim == 0 or len(t) != number for t in tensors_of(batch)) or number > 64:
        return []

    def row(r: int) -> object:
        def cut(t: Tensor) -> Tensor:
            return t[r : r + 1]

        return map_tensors(cut, batch)

    return [each for each in map(row, range(number)) if _tokens(each) > 0]


def _tokens(batch: object) -> int:
    labels = labels_of(batch)
    return 0 if labels is None or labels.is_floating_point() else int((labels != IGNORE_INDEX).sum())


def _alike(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= ALIKE * np.abs(values).max())


def coarse_sum(updates: list[UpdateCheck], evidence: Evidence) -> list[Diagnosis]:
    """What no weighing explains is small, there in each update, and the numbers have few bits."""
    rest = [u.unexplained for u in updates if support(u)]
    floor = max(1e-10, 1e-6 * max(u.relative_error for u in updates)) if updates else 1.0
    if not rest or not floor < min(rest) <= max(rest) < COARSE or not _have_few_bits(evidence):
        return []
    bits = -np.log2(max(rest))
    words = _(
        "the sum is coarse: whatever the weights, it is off by {rest:.1e}, as numbers with about {bits:.0f} "
        "bits are. The buffer, or what is added to it, has too low a precision",
        rest=max(rest),
        bits=bits,
    )
    if bits > 20:
        words += _(" for a check in float64; if that is meant, check in the precision of training")
    return [Diagnosis("low_precision_buffer", words)]


def _have_few_bits(evidence: Evidence) -> bool:
    """Whether the gradients, or what passes have added to them, are numbers of a short format.

    A buffer's numbers may have been divided by K or by a count afterwards, so those are tried, too.
    """
    k, totals = evidence.case.accumulation_steps, [evidence.total(w) for w in evidence.case.windows()]
    factors = {1.0, float(k), *map(float, range(2, k)), *totals}
    gradients = [u.gradient for u in evidence.recorder.updates]
    added = [p.added() for p in evidence.recorder.passes]
    return any(_are_short(some[0], factor) for some in (gradients, added) if some for factor in factors)


def _are_short(vectors: Vectors, factor: float) -> bool:
    entries = torch.cat([v.double().flatten() for v in vectors.values()]) * factor
    entries = entries[entries != 0]
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        same = (entries.to(dtype).double() - entries).abs() <= 1e-12 * entries.abs()
        if len(entries) and float(same.double().mean()) > 0.95:
            return True
    return False
