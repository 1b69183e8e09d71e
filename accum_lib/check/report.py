"""What the equivalence lens sees of a training loop: every update, and what explains it."""

import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from accum_lib.words import _, clauses, columns, listed


@dataclass(frozen=True)
class UpdateCheck:
    """One optimizer update, beside the update that one big batch of its window would have made.

    ``N`` is the number of micro-batches in an epoch. Errors are relative to the 2-norm of the big batch's
    gradient at the same weights.

    Attributes:
        epoch: in which pass over the data it was made, from 0.
        window: which window of that epoch it belongs to, or None if none is left.
        expected: the micro-batches of that window, by their number in the epoch.
        weights: (N,) how much each micro-batch weighed in the gradient that was used, 1 being right. For
            micro-batches outside the window 0 is right, and 1 is what they would have weighed inside.
        relative_error: of the whole gradient; NaN if there is nothing to compare with.
        scale: how long the gradient is along the big batch's, 1 being right.
        worst_parameter, worst_error: the tensor that is furthest off, and its error relative to its own norm.
        tensors_compared: how many parameters had a gradient on both sides.
        missing: the parameters that have a gradient in the big batch and none here.
        unexplained: the part of the gradient that no weighting of the micro-batches explains, relative.
        moved: the update changed at least one parameter.
        learning_rate: of the optimizer's first group at this update.
        passes: backward passes since the update before.
    """

    epoch: int
    window: int | None
    expected: tuple[int, ...]
    weights: np.ndarray
    relative_error: float
    scale: float
    worst_parameter: str
    worst_error: float
    tensors_compared: int
    missing: tuple[str, ...]
    unexplained: float
    moved: bool
    learning_rate: float
    passes: int


@dataclass(frozen=True)
class Place:
    """The line of the loop's own file where a fault arises, and the right lines where they are sure."""

    file: str
    line: int
    source: str
    instead: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """A named fault, in a sentence with the numbers that show it."""

    code: str
    message: str
    place: Place | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What the model does with a batch, whatever the loop is.

    Attributes:
        batch_error: how far the micro-batches' gradients, rightly added up, are from one big batch's. Beyond
            rounding, the model or its loss sees the batch, and no loop can be equal.
        without_batch_norm: the same with BatchNorm's statistics held fixed; equal to ``batch_error`` if there
            is no BatchNorm.
        random_error: how far two gradients of the same micro-batch are apart; above 0, masks are drawn.
        moving: the modules that each forward pass changes, such as spectral norm's, and how far that moves
            the next gradient of the same micro-batch.
    """

    batch_error: float
    without_batch_norm: float
    random_error: float
    moving: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The verdict on a loop, and all the numbers behind it.

    Attributes:
        case: what it was tried on, in words.
        accumulation_steps: K.
        counts: (N,) how many samples or tokens each micro-batch counts.
        dtype: of the parameters.
        tolerance: the relative error that rounding may make.
        updates: one entry for each optimizer update.
        expected_updates: how many there should be.
        epochs: passes over the data.
        clears: how often a backward pass found the gradient buffer empty.
        ticks: scheduler ticks in all, or None if the loop was given no scheduler.
        leftover: norm of the gradient left in the buffer at the end, relative to an update's.
        model: what the model does with a batch.
        notes: what was not observed, and of which the verdict therefore says nothing.
        remarks: what is no fault, but part of the verdict: how the loop set the model, its own precision.
        losses_compared: whether the loop returned a loss for each update.
        ended: how the loop ended the process, if it tried to.
        diagnoses: the faults that were found; empty for a right loop.
    """

    case: str
    accumulation_steps: int
    counts: np.ndarray
    dtype: str
    tolerance: float
    updates: tuple[UpdateCheck, ...]
    expected_updates: int
    epochs: int
    clears: int
    ticks: int | None
    leftover: float
    model: ModelFacts
    notes: tuple[str, ...] = field(default=())
    remarks: tuple[str, ...] = field(default=())
    losses_compared: bool = False
    ended: str | None = None
    diagnoses: tuple[Diagnosis, ...] = field(default=())

    @property
    def tensors_compared(self) -> int:
        """Over all updates; 0 can never be a verdict of equality."""
        return sum(update.tensors_compared for update in self.updates)

    @property
    def relative_error(self) -> float:
        """The largest of all updates; infinite if one could not be compared, or none was made."""
        errors = [u.relative_error if np.isfinite(u.relative_error) else np.inf for u in self.updates]
        return max(errors, default=np.inf)

    @property
    def equal(self) -> bool:
        """Every update is there, compared, moved something, and is one big batch's up to rounding.

        An update whose learning rate is 0, as a warm-up's first, need not move anything, but one must.
        """
        return (
            0 < len(self.updates) == self.expected_updates
            and any(u.moved for u in self.updates)
            and all(u.moved or u.learning_rate == 0 for u in self.updates)
            and all(u.tensors_compared > 0 and not u.missing for u in self.updates)
            and self.relative_error <= self.tolerance
        )

    @property
    def ok(self) -> bool:
        """Equal, and nothing else amiss: scheduler, averages of the weights, reported losses."""
        return self.equal and not self.diagnoses

    @property
    def codes(self) -> tuple[str, ...]:
        """The names of the faults."""
        return tuple(d.code for d in self.diagnoses)


def explain(report: Report, earlier: Sequence[Report] = ()) -> str:
    """The report as text: the verdict, the numbers that prove it, each fault with its line.

    Args:
        report: from ``check`` or ``check_case``.
        earlier: reports on the same loop that were shown before; what they have explained is only named.
    """
    told = {code for one in earlier for code in one.codes}
    known = {remark for one in earlier for remark in one.remarks}
    lines = [_("{verdict}: {case}", verdict=verdict(report), case=report.case), *numbers_of(report)]
    new = [found for found in report.diagnoses if found.code not in told]
    for number, found in enumerate(new):
        lines.append(_("* {code}: {message}.", code=found.code, message=found.message))
        if [d.place for d in new[number + 1 : number + 2]] != [found.place]:  # once for both
            lines += _placed(found)
    if told & set(report.codes):
        lines.append(_("* again: {codes}", codes=listed([code for code in report.codes if code in told])))
    lines += [_("  Note: {remark}.", remark=remark) for remark in report.remarks if remark not in known]
    if report.notes and not earlier:
        lines.append(_("  (not observed: {notes})", notes=clauses(report.notes)))
    return "\n".join(lines)


def verdict(report: Report) -> str:
    """The verdict in a few words."""
    if report.ok:
        return _("EQUAL to one big batch")
    if report.equal:
        return _("equal updates, but something else is amiss")
    return _("NOT EQUAL to one big batch")


def worst_update(report: Report) -> UpdateCheck | None:
    """The update that is furthest off; None if all are right, or there is none."""
    wrong = [u for u in report.updates if u.expected and not u.relative_error <= report.tolerance]
    return max(wrong, key=lambda u: np.nan_to_num(u.relative_error, nan=math.inf), default=None)


def numbers_of(report: Report) -> list[str]:
    """The numbers that prove the verdict, in two or three lines."""
    ticks = "" if report.ticks is None else _(", {ticks} scheduler ticks", ticks=report.ticks)
    lines = [
        _(
            "  K = {k}, {number} micro-batches counting {counts}; {epochs} epochs in {dtype}",
            k=report.accumulation_steps,
            number=len(report.counts),
            counts=listed([f"{c:g}" for c in report.counts]),
            epochs=report.epochs,
            dtype=report.dtype,
        ),
        _(
            "  {updates} updates, {due} are due{ticks}",
            updates=len(report.updates),
            due=report.expected_updates,
            ticks=ticks,
        ),
    ]
    if report.updates:
        lines[1] += _(
            "; largest relative error {error:.1e}, of which rounding makes at most {tolerance:.1e}",
            error=report.relative_error,
            tolerance=report.tolerance,
        )
    worst = worst_update(report)
    if worst is not None and not np.isfinite(worst.weights).any():
        words = _(
            "  furthest off is update {number}, most in {parameter}",
            number=report.updates.index(worst),
            parameter=worst.worst_parameter,
        )
        lines.append(words)
    elif worst is not None:
        lines.append(
            _(
                "  furthest off is update {number}: micro-batches {window} weigh {weights}{others} and "
                "should weigh 1",
                number=report.updates.index(worst),
                window=listed([str(i) for i in worst.expected]),
                weights=_weights(worst),
                others=_others(worst),
            )
        )
    return lines


def _weights(update: UpdateCheck) -> str:
    inside = [update.weights[i] for i in update.expected]
    return " ".join(f"{round(w, 3) + 0:.3f}" if np.isfinite(w) else "-" for w in inside)


def _others(update: UpdateCheck) -> str:
    """What of other windows is in it."""
    found = [
        _("{weight:.3f} of {number}", weight=weight, number=i)
        for i, weight in enumerate(update.weights)
        if i not in update.expected and abs(np.nan_to_num(weight)) > 1e-6
    ]
    return _(" (with {others} besides)", others=listed(found)) if found else ""


def _placed(found: Diagnosis) -> list[str]:
    place = found.place
    if place is None:
        return []
    file = pathlib.PurePath(place.file)
    in_cell = file.parent.name.startswith("ipykernel_")  # where a Jupyter kernel keeps cells
    at = f"    {_('line {line}', line=place.line) if in_cell else f'{file.name}:{place.line}'}: "
    if not place.instead:
        return [f"{at}{place.source}"]
    right = _("right: ")
    shift = max(columns(at) - columns(right), 0)
    first, *others = place.instead
    return [f"{at}{place.source}", f"{' ' * shift}{right}{first}",
            *(" " * (shift + columns(right)) + line for line in others)]  # fmt: skip


def as_data(report: Report) -> dict[str, Any]:
    """The report as plain data for ``--json``; what is no number is None. docs/library.md has the fields."""
    return {
        "case": report.case,
        "verdict": "equal" if report.ok else "equal_updates" if report.equal else "not_equal",
        "accumulation_steps": report.accumulation_steps,
        "dtype": report.dtype,
        "relative_error": _number(report.relative_error),
        "tolerance": _number(report.tolerance),
        "updates_made": len(report.updates),
        "updates_due": report.expected_updates,
        "counts": [float(c) for c in report.counts],
        "faults": [
            {
                "code": d.code,
                "message": d.message,
                "file": d.place and d.place.file,
                "line": d.place and d.place.line,
                "source": d.place and d.place.source,
                "instead": list(d.place.instead) if d.place else [],
            }
            for d in report.diagnoses
        ],
        "updates": [
            {
                "epoch": u.epoch,
                "micro_batches": list(u.expected),
                "weights": [_number(w) for w in u.weights],
                "relative_error": _number(u.relative_error),
                "scale": _number(u.scale),
                "worst_parameter": u.worst_parameter,
            }
            for u in report.updates
        ],
        "remarks": list(report.remarks),
        "not_observed": list(report.notes),
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
