"""Faults in when the optimizer steps, and in what the gradient buffer holds at that time."""

from collections.abc import Iterator
from itertools import pairwise

import torch

from accum_lib.check.compare import micro_batch_weights
from accum_lib.check.diagnosis.clipping import ALIKE, SIGNIFICANT, multiple
from accum_lib.check.diagnosis.evidence import (
    COARSE,
    Evidence,
    counted,
    has_weights,
    holds_something,
    support,
)
from accum_lib.check.recorder import BackwardPass, Vectors
from accum_lib.check.reference import aligned, norm
from accum_lib.check.report import Diagnosis, Report
from accum_lib.words import _, listed

# What the first one brings about, and is no fault beside it: clipped to nearly nothing is not cleared, say.
EXPLAINS = {
    "clipped_per_micro_batch": ("cleared_mid_window", "clipped", "not_clipped", "divided_again"),
    "divided_again": ("cleared_mid_window", "clipped", "not_clipped"),
    "unused_micro_batches": ("not_cleared",),
    "cleared_mid_window": ("unused_micro_batches",),
    "off_by_one": ("leaked_tail",),
}


def timing(report: Report, evidence: Evidence) -> list[Diagnosis]:
    """Faults in the order of things: every rule is asked, since several may meet."""
    rules = (_not_finite, _stuck, _nothing_there, _other_pieces, _tail_lost, _not_cleared, _cleared, _unused,
             _shortened, _each_clipped, _clipped)  # fmt: skip
    found = [d for rule in rules if (d := rule(report, evidence))]
    codes = {d.code for d in found}
    hidden = {code for seen, others in EXPLAINS.items() if seen in codes for code in others}
    return [
        d for n, d in enumerate(found) if d.code not in hidden and d.code not in {e.code for e in found[:n]}
    ]


def _not_finite(report: Report, evidence: Evidence) -> Diagnosis | None:
    for number, update in enumerate(evidence.recorder.updates):
        if all(bool(g.isfinite().all()) for g in update.gradient.values()):
            continue
        empty = [i for i in report.updates[number].expected if report.counts[i] == 0]
        cause = (
            _("micro-batch {number} counts nothing, and a mean over nothing is NaN", number=empty[0])
            if empty
            else _("cause unknown")
        )
        return Diagnosis(
            "not_finite",
            _("the gradient of update {number} is not finite: {cause}", number=number, cause=cause),
        )
    return None


def _stuck(report: Report, evidence: Evidence) -> Diagnosis | None:
    """Nothing has moved, or it was moved by something that is no optimizer of PyTorch's."""
    long_enough = len(evidence.case.batches) >= report.accumulation_steps
    if not report.updates and evidence.recorder.moved():
        words = _(
            "the parameters have moved, but no torch.optim optimizer moved them: nothing could be compared"
        )
        return Diagnosis("no_optimizer", words)
    if not report.updates and long_enough:
        words = _("no optimizer update of this model's parameters was seen, and none of them has moved")
        return Diagnosis("not_moved", words)
    if report.updates and not evidence.recorder.moved():
        return Diagnosis("not_moved", _("the optimizer was called, but no parameter has moved"))
    return None


def _other_pieces(report: Report, evidence: Evidence) -> Diagnosis | None:
    """The updates of an epoch are made of other micro-batches than they should be."""
    pieces, due, k = evidence.pieces(), evidence.due(), report.accumulation_steps
    if _after_every_micro_batch(report, pieces):
        return Diagnosis(
            "stepped_per_micro_batch",
            _(
                "the optimizer moves after every micro-batch: {updates} updates where {due} are due",
                updates=len(report.updates),
                due=report.expected_updates,
            ),
        )
    if k == 1 or not any(pieces) or not all(has_weights(u) for u in report.updates):
        return None
    found = _cut_wrongly(pieces, due)
    if found is None and not _leaks(report, evidence):  # by a counter that a later epoch begins elsewhere
        later = (_cut_wrongly(evidence.pieces(epoch), due) for epoch in range(1, evidence.case.epochs))
        found = next((d for d in later if d is not None), None)
    return found


def _cut_wrongly(pieces: list[set[int]], due: list[set[int]]) -> Diagnosis | None:
    shown = " | ".join(_names(sorted(p)) for p in pieces)
    order = [i for piece in pieces for i in sorted(piece)]
    every = sorted(i for piece in due for i in piece)
    if pieces == due[: len(pieces)] or len(set(order)) != len(order) or set(order) - set(every):
        return None
    if order == every[: len(order)]:
        return Diagnosis(
            "off_by_one",
            _("windows are cut at the wrong places: the updates are made of {shown}", shown=shown),
        )
    if set(order) == set(every):
        return Diagnosis(
            "reordered",
            _(
                "the loop takes the micro-batches in another order than it was given ({shown}), so its "
                "updates can't be compared: turn shuffling off",
                shown=shown,
            ),
        )
    return None


def _after_every_micro_batch(report: Report, pieces: list[set[int]]) -> bool:
    if report.accumulation_steps == 1 or len(report.updates) <= report.expected_updates:
        return False
    unclear = max(u.unexplained for u in report.updates) > 1e-3 or not any(pieces)
    single = {u.passes for u in report.updates} == {1}
    return single if unclear else all(len(piece) <= 1 for piece in pieces)


def _tail_lost(report: Report, evidence: Evidence) -> Diagnosis | None:
    """The trailing window makes no update of its own: it is dropped, or left lying for the next epoch."""
    windows, k = evidence.case.windows(), report.accumulation_steps
    if not evidence.tail():
        return None
    only = (
        _("an epoch of {r} is shorter than K = {k}: ", r=len(windows[-1]), k=k) if len(windows) == 1 else ""
    )
    where = _(
        "{only}the trailing window (micro-batches {tail}) makes no update",
        only=only,
        tail=_names(sorted(evidence.tail())),
    )
    if _leaks(report, evidence):
        words = _(
            "{where} of its own: its gradient is kept, and the next epoch's first update uses it", where=where
        )
        return Diagnosis("leaked_tail", words)
    if evidence.pieces() == evidence.due()[:-1] and len(report.updates) < report.expected_updates:
        return Diagnosis("dropped_tail", _("{where}: it is lost", where=where))
    return None


def _leaks(report: Report, evidence: Evidence) -> bool:
    """The rest of one epoch counts together with the start of the next, or is in the buffer then."""
    passes, starts = evidence.recorder.passes, evidence.recorder.epoch_starts[1:]
    pieces, start = evidence.pieces(), min(i for piece in evidence.due() for i in piece)
    fewer, several = len(report.updates) < report.expected_updates, any(u.epoch > 0 for u in report.updates)
    if fewer and several and pieces and all(has_weights(u) for u in report.updates):
        mixed = [set(support(u)) for u in report.updates if start in support(u)]
        if any((piece & evidence.tail()) - pieces[0] for piece in mixed):
            return True
    ends = [0, *(u.passes for u in evidence.recorder.updates)]
    starts = [s for s in starts if s < len(passes)]
    crossed = [s for s in starts if s > ends[-1] or any(a < s < b for a, b in pairwise(ends))]
    if starts or several:
        return any(holds_something(passes[s].before) for s in crossed)
    return fewer and report.leftover > SIGNIFICANT and len(pieces) < len(evidence.due())


def _not_cleared(report: Report, evidence: Evidence) -> Diagnosis | None:
    """The next pass of the epoch, or the next update, still contains the gradient of the one before."""
    kept = [norm(p.before) for p in _passes_after_updates(evidence)]
    if kept and min(kept) > 0:
        return Diagnosis(
            "not_cleared",
            _(
                "the buffer is not cleared after an update: the next backward pass finds a gradient of norm "
                "{norm:.3g} in it, and adds to that",
                norm=kept[0],
            ),
        )
    if _contains_the_one_before(report, evidence):
        words = _("an update's gradient contains the whole gradient of the one before: it was never cleared")
        return Diagnosis("not_cleared", words)
    return None


def _passes_after_updates(evidence: Evidence) -> Iterator[BackwardPass]:
    """The pass that follows an update within the same epoch."""
    passes, starts = evidence.recorder.passes, evidence.recorder.epoch_starts
    for update in evidence.recorder.updates:
        if update.passes < len(passes) and update.passes not in starts:
            yield passes[update.passes]


def _contains_the_one_before(report: Report, evidence: Evidence) -> bool:
    """Micro-batches alone do not explain an update, but do with the gradient of the one before it."""
    checks, updates = report.updates, evidence.recorder.updates
    pairs = [(i, j) for i, j in pairwise(range(len(updates))) if checks[i].epoch == checks[j].epoch]
    if not pairs or not all(checks[j].unexplained > 1e-3 for _i, j in pairs):
        return False
    for i, j in pairs:
        evidence.reference.load(updates[j])
        before = [updates[i].gradient]
        if (
            not micro_batch_weights(updates[j].gradient, evidence.reference, evidence.case, before)[1]
            < SIGNIFICANT
        ):
            return False
    return True


def _cleared(report: Report, evidence: Evidence) -> Diagnosis | None:
    """Only the last micro-batches of a window count; the others are in no update."""
    used = {i for u in report.updates for i in support(u)}
    for update in report.updates:
        inside, left = counted(update), support(update)
        lost = [i for i in inside if i not in used]
        ends_early = update.expected and update.expected[-1] not in inside and not left
        is_end = bool(left) and left == inside[-len(left) :]
        gone = update.passes != len(left)  # else there were no passes for them
        if lost and gone and len(left) < len(inside) and (is_end or (ends_early and has_weights(update))):
            return Diagnosis(
                "cleared_mid_window",
                _(
                    "the buffer is cleared within the window: of micro-batches {window} only {left} still "
                    "count at the update",
                    window=_names(update.expected),
                    left=_names(left),
                ),
            )
    return None


def _unused(report: Report, evidence: Evidence) -> Diagnosis | None:
    """The buffer is cleared before an update has used what is in it, and not just at the end of an epoch."""
    passes, starts = evidence.recorder.passes, evidence.recorder.epoch_starts
    number, k = len(evidence.case.batches), report.accumulation_steps
    if not report.updates:
        return None
    if len(passes) < number * len(starts):
        return _never_passed(report, evidence)
    if len(passes) > number * len(starts):
        return None
    stepped, thrown, waiting = {u.passes for u in evidence.recorder.updates}, set[int](), list[int]()
    for j, one in enumerate(passes):
        if not holds_something(one.before):
            at_the_end = j % number == 0 and len(waiting) < k
            thrown.update(() if at_the_end else waiting)
            waiting.clear()
        waiting.append(j % number)
        if j + 1 in stepped:
            waiting.clear()
    clear = [u for u in report.updates if u.unexplained < COARSE]  # a loop may have buffers of its own
    unused = {i for i in thrown if report.counts[i] > 0} - {i for u in clear for i in support(u)}
    if not unused - evidence.tail() or 2 * len(clear) <= len(report.updates):
        return None
    words = _(
        "micro-batches {unused} are in no update: the buffer is cleared before it is used",
        unused=_names(sorted(unused)),
    )
    return Diagnosis("unused_micro_batches", words)


def _never_passed(report: Report, evidence: Evidence) -> Diagnosis | None:
    """Each update has the gradients of all its passes, and there were fewer passes than micro-batches."""
    checks = [u for u in report.updates if u.expected]
    unused = {i for piece in evidence.due() for i in piece} - {i for u in checks for i in support(u)}
    whole = all(u.passes == len(support(u)) < len(counted(u)) or support(u) == counted(u) for u in checks)
    if not unused - evidence.tail() or not whole:
        return None
    words = _(
        "micro-batches {unused} are in no update: there is no backward pass for them",
        unused=_names(sorted(unused)),
    )
    return Diagnosis("unused_micro_batches", words)


def _nothing_there(report: Report, evidence: Evidence) -> Diagnosis | None:
    """Steps for which there was no gradient."""
    if not evidence.recorder.empty_steps:
        return None
    return Diagnosis("empty_update", nothing_there(evidence.recorder.empty_steps))


def nothing_there(steps: int) -> str:
    """What to say of steps on an empty buffer."""
    return _(
        "{steps} optimizer steps find nothing in the buffer: they come before the backward pass, or after "
        "the buffer was cleared. With weight decay or momentum they can move the weights all the same",
        steps=steps,
    )


def _shortened(report: Report, evidence: Evidence) -> Diagnosis | None:
    """Within a window the buffer gets shorter: to one norm if it is clipped, by other factors if divided."""
    found = [each for _window, inside in evidence.inner_passes() for each in _lengths(evidence, inside)]
    if not found:
        return None
    lengths = [length for length, _factor in found]
    alike = max(lengths) - min(lengths) <= ALIKE * max(lengths) and (
        len(lengths) > 1 or _is_clip(lengths[0], evidence)
    )
    by_value = any(factor is None for _length, factor in found)
    if alike or by_value:
        return Diagnosis(
            "clipped_per_micro_batch",
            _(
                "between two backward passes of one window the buffer is shortened, at least once to a norm "
                "of {norm:.3g}: it is clipped after each micro-batch, and not once per update",
                norm=min(lengths),
            ),
        )
    return Diagnosis(
        "divided_again",
        _(
            "between two backward passes of one window the whole buffer is divided, by {divisors}: what "
            "earlier micro-batches have left in it is divided again",
            divisors=listed([f"{1 / factor:.4g}" for _length, factor in found[:3] if factor]),
        ),
    )


def _is_clip(length: float, evidence: Evidence) -> bool:
    return evidence.clip is not None and abs(length - evidence.clip.norm) <= ALIKE * length


def _lengths(evidence: Evidence, inside: list[int]) -> Iterator[tuple[float, float | None]]:
    """The buffer's norm after each shortening, and by what factor; None if it is clipped by value."""
    passes, names = evidence.recorder.passes, evidence.recorder.tensors()
    for earlier, later in pairwise(inside):
        left, found = aligned(passes[earlier].after, names), aligned(passes[later].before, names)
        shrunk = float(found.norm()) < (1 - ALIKE) * float(left.norm())
        if not shrunk or not found.any():
            continue
        if multiple(found, left) is not None:  # only the length has changed
            yield float(found.norm()), float(found.norm() / left.norm())
        elif float(found.abs().max()) < 0.99 * float(left.abs().max()):
            yield float(found.norm()), None


def _each_clipped(report: Report, evidence: Evidence) -> Diagnosis | None:
    """Within one update micro-batches whose own gradients differ in length have added equally long ones."""
    for check, update in zip(report.updates, evidence.recorder.updates, strict=True):
        evidence.reference.load(update)
        inside = support(check)
        sums = [norm(evidence.reference.of_micro_batch(i)) for i in inside]
        own = [length / report.counts[i] for length, i in zip(sums, inside, strict=True)]
        means = [abs(check.weights[i]) * length for length, i in zip(own, inside, strict=True)]
        added = [
            m * report.counts[i] / evidence.total(evidence.window_of(i))
            for m, i in zip(means, inside, strict=True)
        ]
        for lengths in (added, means):  # a clipped gradient is added as it is, or by its share
            longest = max(lengths, default=0.0)
            alike = [o for length, o in zip(lengths, own, strict=True) if length > (1 - ALIKE) * longest]
            if len(alike) > 1 and max(alike) > 1.01 * min(alike):
                words = _(
                    "micro-batches whose gradients differ in length all add one of norm {length:.3g}: each "
                    "is clipped by itself, and not the window's gradient once",
                    length=longest,
                )
                return Diagnosis("clipped_per_micro_batch", words)
    return None


def _clipped(report: Report, evidence: Evidence) -> Diagnosis | None:
    """Whole updates are clipped and the case does not say so, or the other way round."""
    gradients, clip = [u.gradient for u in evidence.recorder.updates], evidence.clip
    if (asked := evidence.case.max_grad_norm) is not None:
        longest = max(map(norm, gradients), default=0.0)
        if longest <= (1 + ALIKE) * asked:
            return None
        words = _(
            "an update's gradient has a norm of {longest:.4g}, and the loop was to clip to {asked:.4g}: it "
            "does not, or clips before the gradient is complete",
            longest=longest,
            asked=asked,
        )
        return Diagnosis("not_clipped", words)
    highest = [_shared_maximum(g) for g in gradients]
    if len(highest) > 1 and all(h is not None and h == highest[0] for h in highest):
        words = _(
            "no entry of an update's gradient is beyond {highest:.4g}, and several are just there: it is "
            "clipped by value, which one big batch's would have to be, too",
            highest=highest[0],
        )
        return Diagnosis("clipped", words)
    if clip is None:
        return None
    words = _(
        "the gradients of {clipped} of {updates} updates are shortened to a norm of {length:.4g}: they are "
        "clipped. If that is meant, give the case max_grad_norm={length:.4g}",
        clipped=len(clip.factors),
        updates=len(gradients),
        length=clip.norm,
    )
    return Diagnosis("clipped", words)


def _shared_maximum(vectors: Vectors) -> float | None:
    """The largest entry, if several have just this size."""
    entries = torch.cat([v.abs().flatten() for v in vectors.values()]) if vectors else torch.zeros(1)
    largest = float(entries.max())
    return largest if largest > 0 and int((entries == largest).sum()) > 1 else None


def _names(numbers: tuple[int, ...] | list[int]) -> str:
    return listed([str(i) for i in numbers]) or _("none")
