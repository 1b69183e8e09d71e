"""What the rules of the diagnosis look at, and the few questions that several of them ask of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from accum_lib.check.case import Case, labels_of, rows_of
from accum_lib.check.diagnosis.clipping import SIGNIFICANT, Clip, clip_of
from accum_lib.check.recorder import Recorder, Vectors
from accum_lib.check.reference import Reference
from accum_lib.check.report import UpdateCheck
from accum_lib.vectors import IGNORE_INDEX
from accum_lib.words import _

COARSE = 0.05  # weights in a coarse sum are themselves uncertain, but not by more than this

Window = tuple[int, ...]


@dataclass(frozen=True)
class Evidence:
    """What was recorded of a loop, beside what is right.

    Attributes:
        case: what the loop was tried on.
        recorder: every backward pass and every update.
        reference: gradients and losses at any weights.
        updates: each update beside the one that it should have been.
        losses: what the loop returned, if those are numbers.
    """

    case: Case
    recorder: Recorder
    reference: Reference
    updates: tuple[UpdateCheck, ...]
    losses: list[float]

    @cached_property
    def clip(self) -> Clip | None:
        """How updates are clipped by norm; None if they are not."""
        return clip_of(self.recorder.updates, self.recorder.passes, self.case.max_grad_norm)

    def inner_passes(self) -> Iterator[tuple[UpdateCheck, list[int]]]:
        """For each update, the numbers of the backward passes of its epoch that led to it."""
        earlier, starts = 0, self.recorder.epoch_starts
        for check, update in zip(self.updates, self.recorder.updates, strict=True):
            start = starts[min(check.epoch, len(starts) - 1)]
            yield check, list(range(max(earlier, start), update.passes))
            earlier = update.passes

    def window_of(self, micro_batch: int) -> Window:
        """The window that a micro-batch belongs to."""
        return self.case.windows()[micro_batch // self.case.accumulation_steps]

    def total(self, window: Window) -> float:
        """What counts in these micro-batches."""
        return float(self.reference.counts[list(window)].sum())

    def tail(self) -> set[int]:
        """The micro-batches of the trailing window, if it is shorter than K."""
        last = self.case.windows()[-1]
        return set(last) if len(last) < self.case.accumulation_steps else set()

    def pieces(self, epoch: int = 0) -> list[set[int]]:
        """Which micro-batches each update of an epoch is made of."""
        return [set(support(u)) for u in self.updates if u.epoch == epoch]

    def due(self) -> list[set[int]]:
        """Which ones each update of an epoch should be made of: those in which anything counts."""
        counts = self.reference.counts
        return [{i for i in window if counts[i] > 0} for window in self.case.windows()]


def counts_of(batch: Any) -> dict[str, float]:
    """What a loss over this batch could be divided by, by its name."""
    counts, labels = {_("samples"): float(rows_of(batch))}, labels_of(batch)
    if labels is None or labels.is_floating_point():
        return counts
    counts[_("labels that are not ignored")] = float((labels != IGNORE_INDEX).sum())
    counts[_("label positions, ignored ones too")] = float(labels.numel())
    return counts


def support(update: UpdateCheck) -> list[int]:
    """The micro-batches that count in an update's gradient; in a coarse one, beyond its coarseness."""
    weights = np.abs(np.nan_to_num(update.weights))
    least = max(SIGNIFICANT, 10 * update.unexplained) if update.unexplained < COARSE else SIGNIFICANT
    return [i for i, w in enumerate(weights) if w > least * weights.max()]


def has_weights(update: UpdateCheck) -> bool:
    """Whether the weights could be determined at all."""
    return bool(np.isfinite(update.weights).any())


def counted(update: UpdateCheck) -> list[int]:
    """The micro-batches that should count: those of its window in which anything counts."""
    return [i for i in update.expected if np.isfinite(update.weights[i])]


def holds_something(vectors: Vectors) -> bool:
    """Whether any entry is not 0."""
    return any(bool(v.any()) for v in vectors.values())
