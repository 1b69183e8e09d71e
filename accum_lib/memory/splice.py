"""Every K from a trace with two micro-batches: the second one again and again, or left out.

From its second micro-batch on, an update repeats itself: the gradients are there, and every further
micro-batch is added to them. So K = 5 is the first micro-batch, the second four times, and the update.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from accum_lib.memory.trace.storages import Tape

TRACED_STEPS = 2


@dataclass(frozen=True)
class Splice:
    """The events of an update with K micro-batches.

    Attributes:
        tape: the trace they come from.
        steps: K.
        event: (events,) which of the trace's events each one is.
        passes_more: (events,) how many extra times to repeat the pass's net effect.
        operator: (1 + events,) operators run so far, before the first event and at each.
        phases: (name, first operator), as in ``Timeline``.
    """

    tape: Tape
    steps: int
    event: np.ndarray
    passes_more: np.ndarray
    operator: np.ndarray
    phases: tuple[tuple[str, int], ...]

    @property
    def update_at(self) -> int:
        """The event with which the optimizer begins."""
        return int(np.searchsorted(self.event >= _mark(self.tape, "update")[0], True))

    def levels(self, nbytes: np.ndarray, category: str | None = None) -> np.ndarray:
        """(1 + events,) what is alive before the first event and after each.

        Args:
            nbytes: (storages,) the size of each, or any other number to add up.
            category: only of these.
        """
        if category is not None:
            nbytes = np.where(self.tape.category == category, nbytes, 0)
        change = nbytes[self.tape.storage] * self.tape.sign  # (the trace's events,)
        left_behind = change[_second_pass(self.tape)].sum()  # by one more micro-batch: its loss
        levels = np.cumsum(change[self.event]) + self.passes_more * left_behind
        return np.concatenate([[0.0], levels]) + self._resident(nbytes)

    def _resident(self, nbytes: np.ndarray) -> float:
        """What is there from the beginning; a batch of inputs for each micro-batch."""
        there, inputs = self.tape.resident, self.tape.category == "inputs"
        batches = nbytes[there & inputs].sum() / TRACED_STEPS
        return float(nbytes[there & ~inputs].sum() + self.steps * batches)


def splice(tape: Tape, steps: int, short: bool = False) -> Splice:
    """Cut a trace with K = 2 and put it together for another K.

    Args:
        tape: the trace.
        steps: K.
        short: for K > 3, leave out all passes between the second and the last. The peak is the same.
    """
    passes = min(steps, 3) if short else steps
    first, second, closing, update = _parts(tape)
    if steps == 1:
        born_in_second = np.isin(tape.storage, tape.storage[second][tape.sign[second] > 0])
        closing, update = (part[~born_in_second[part]] for part in (closing, update))
    parts = [first, *[second] * (passes - 1), closing, update]
    more = [0] * passes + [0, min(0, TRACED_STEPS - passes)]  # accumulate returns: all losses are gone
    more[passes - 1] += steps - passes  # the last pass and what closes accumulate come after those left out
    more[passes] += steps - passes
    per_pass = _mark(tape, "passes done")[1] - _mark(tape, "forward", 1)[1]
    later = [per_pass * max(0, i - 1) for i in range(passes)] + [per_pass * (passes - TRACED_STEPS)] * 2
    return Splice(
        tape=tape,
        steps=steps,
        event=np.concatenate(parts),
        passes_more=np.concatenate([np.full(len(p), n) for p, n in zip(parts, more, strict=True)]),
        operator=np.concatenate([[0], *(tape.operator[p] + n for p, n in zip(parts, later, strict=True))]),
        phases=_phases(tape, passes, per_pass),
    )


def _parts(tape: Tape) -> list[np.ndarray]:
    """The trace's events: first micro-batch, second, the end of ``accumulate``, the update."""
    marks = (_mark(tape, "forward", 1), _mark(tape, "passes done"), _mark(tape, "update"))
    edges = [0, *(event for event, _ in marks), len(tape.storage)]
    return [np.arange(a, b) for a, b in pairwise(edges)]


def second_pass(tape: Tape) -> slice:
    """The operators of the second micro-batch, forward and backward."""
    return slice(_mark(tape, "forward", 1)[1], _mark(tape, "passes done")[1])


def _second_pass(tape: Tape) -> slice:
    return slice(_mark(tape, "forward", 1)[0], _mark(tape, "passes done")[0])


def _mark(tape: Tape, name: str, which: int = 0) -> tuple[int, int]:
    """The event and the operator at a mark."""
    return [(event, operator) for n, event, operator in tape.marks if n == name][which]


def _phases(tape: Tape, passes: int, per_pass: int) -> tuple[tuple[str, int], ...]:
    phases = []
    for i in range(passes):
        for name in ("forward", "backward"):
            start = _mark(tape, name, min(i, 1))[1] + per_pass * max(0, i - 1)
            phases.append((name, start))
    return (*phases, ("update", _mark(tape, "update")[1] + per_pass * (passes - TRACED_STEPS)))
