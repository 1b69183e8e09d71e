"""What each observation shows of each fault."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sightings:
    """Faults against observations, from real training runs.

    Attributes:
        faults: (F,) their names; row f of the arrays belongs to fault f.
        observations: (O,) what one looks at.
        values: (F, O) what was measured: see ``units``.
        seen: (F, O) whether it stands out from what is normal.
        units: (O,) what a value means.
        normal: (O,) the largest value that is still normal.
    """

    faults: tuple[str, ...]
    observations: tuple[str, ...]
    values: np.ndarray
    seen: np.ndarray
    units: tuple[str, ...]
    normal: np.ndarray


@dataclass(frozen=True)
class LineUp:
    """Training losses of right and of broken loops, as a log would show them.

    Attributes:
        titles: (R,) the fault of each run's loop in English words; "" for a right one.
        losses: (R, L) mean loss of each micro-batch, in nats, in the order of training.
        epoch: micro-batches in one epoch.
    """

    titles: tuple[str, ...]
    losses: np.ndarray
    epoch: int


@dataclass(frozen=True)
class Clues:
    """What can be seen of a loop from outside, over two epochs. ``U`` updates, ``N`` micro-batches an epoch.

    Attributes:
        windows: (U, N) whether micro-batch i of that epoch belongs to the window of update u.
        weights: (U, N) how much it weighed in update u. Inside its window 1 is right, outside 0.
        errors: (U,) of the update's gradient, relative to one big batch's.
        tolerance: what rounding may make of an error.
        happenings: (H,) what was counted, in words.
        found, expected: (H,) how often it happened, and how often it should; NaN for what the loop
            was not given.
        logged: (L,) the losses that the loop reports, one for each update; empty if it reports none.
        true_losses: (L,) the mean losses of the windows at the same weights.
    """

    windows: np.ndarray
    weights: np.ndarray
    errors: np.ndarray
    tolerance: float
    happenings: tuple[str, ...]
    found: np.ndarray
    expected: np.ndarray
    logged: np.ndarray
    true_losses: np.ndarray


@dataclass(frozen=True)
class AccuracyTrial:
    """Training twice from the same start on the same data: as it should be, and accumulated.

    Attributes:
        name: what was trained, and how it was accumulated.
        one_big_batch, accumulated: (S,) accuracies on held-out data, from 0 to 1, for S seeds.
        distance: of the two ends of training, relative to the length of the weights; the largest.
    """

    name: str
    one_big_batch: np.ndarray
    accumulated: np.ndarray
    distance: float
