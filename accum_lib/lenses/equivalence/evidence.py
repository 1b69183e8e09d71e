"""What the rules of the diagnosis look at, and the few questions that several of them ask of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from accum_lib.lenses.equivalence.case import Case
from accum_lib.lenses.equivalence.recorder import Recorder, Vectors
from accum_lib.lenses.equivalence.reference import Reference
from accum_lib.records.equivalence import UpdateCheck

SIGNIFICANT = 1e-6  # a weight below this, relative to the largest, is none
ALIKE = 1e-4  # weights that agree to this are the same; the faults differ by much more


@dataclass(frozen=True)
class Evidence:
    """What was recorded of a loop, beside what is right.

    Attributes:
        case: what the loop was tried on.
        recorder: every backward pass and every update.
        reference: gradients and losses at any weights.
        updates: each update beside the one that it should have been.
        losses: what the loop returned.
    """

    case: Case
    recorder: Recorder
    reference: Reference
    updates: tuple[UpdateCheck, ...]
    losses: list[float]

    def inner_passes(self) -> Iterator[tuple[UpdateCheck, list[int]]]:
        """For each update, the numbers of the backward passes of its epoch that led to it."""
        earlier = 0
        for check, update in zip(self.updates, self.recorder.updates, strict=True):
            start = self.recorder.epoch_starts[min(update.epoch, len(self.recorder.epoch_starts) - 1)]
            yield check, list(range(max(earlier, start), update.passes))
            earlier = update.passes

    def window_of(self, micro_batch: int) -> tuple[int, ...]:
        """The window that a micro-batch belongs to."""
        return self.case.windows()[micro_batch // self.case.accumulation_steps]


def support(update: UpdateCheck) -> list[int]:
    """The micro-batches that count in an update's gradient."""
    weights = np.abs(np.nan_to_num(update.weights))
    return [i for i, w in enumerate(weights) if w > SIGNIFICANT * weights.max()]


def counted(update: UpdateCheck) -> list[int]:
    """The micro-batches that should count: those of its window in which anything counts."""
    return [i for i in update.expected if np.isfinite(update.weights[i])]


def holds_something(vectors: Vectors) -> bool:
    """Whether any entry is not 0."""
    return any(bool(v.any()) for v in vectors.values())


def norm(vectors: Vectors) -> float:
    """The 2-norm over all tensors."""
    return float(sum(float(v.double().square().sum()) for v in vectors.values())) ** 0.5
