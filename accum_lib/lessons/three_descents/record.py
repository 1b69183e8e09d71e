"""Paths over a loss surface, and the moments of one window."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Surface:
    """A loss over two weights, on a rectangular grid.

    Attributes:
        w1, w2: (columns,) and (rows,) the weights along each axis.
        excess: (rows, columns) the mean loss above its minimum, in the loss's own unit.
        contours: (points, 2) lines of equal loss, each 10^(1/4) times the one inside it; NaN between two.
        minimum: (2,) the weights at which the loss is least.
        minimum_loss: the loss there.
    """

    w1: np.ndarray
    w2: np.ndarray
    excess: np.ndarray
    contours: np.ndarray
    minimum: np.ndarray
    minimum_loss: float


@dataclass(frozen=True)
class Path:
    """One descent over a surface. Row 0 is the start; row u is after update u.

    Attributes:
        micro_batch_size, accumulation_steps: M and K.
        weights: (updates + 1, 2).
        excess: (updates + 1,) the loss over **all** samples, above its minimum.
        examples: (updates + 1,) samples used so far.
        passes: forward and backward passes that it took.
        diverged: it was stopped because its loss grew without bound.
    """

    micro_batch_size: int
    accumulation_steps: int
    weights: np.ndarray
    excess: np.ndarray
    examples: np.ndarray
    passes: int
    diverged: bool

    @property
    def updates(self) -> int:
        """Optimizer updates made."""
        return len(self.weights) - 1


@dataclass(frozen=True)
class Comparison:
    """The three descents, and one big batch of the same B = M·K, under one budget.

    Attributes:
        budget: "examples" (all use as many samples) or "updates" (all make as many updates).
        gradient: "mean" or "sum"; what the accumulated descent did with its K gradients.
        distance: the largest distance between the accumulated path and the big batch's, in weight units.
    """

    budget: str
    gradient: str
    learning_rate: float
    num_samples: int
    full: Path
    mini: Path
    accumulated: Path
    big: Path
    distance: float


@dataclass(frozen=True)
class Moment:
    """One instant of accumulation with two weights: after a backward pass, or after an update.

    Attributes:
        update: which window, from 0.
        micro_batch: how many micro-batches of this window have been through, from 0 to its length.
        window_length: micro-batches in this window.
        moved: the optimizer has just used the buffer and cleared it.
        samples: (n, 2) the inputs of the micro-batch that has just passed; empty before the first.
        shares: (micro_batch, 2) what each micro-batch added to the gradient buffer.
        big_batch: (2,) the gradient of one big batch over the whole window, computed separately.
        weights: (updates so far + 1, 2) where the weights have been.
        loss: the window's mean loss, known when it has passed; else None.
    """

    update: int
    micro_batch: int
    window_length: int
    moved: bool
    samples: np.ndarray
    shares: np.ndarray
    big_batch: np.ndarray
    weights: np.ndarray
    loss: float | None


@dataclass(frozen=True)
class Weighing:
    """What one way to weigh makes of a window.

    Attributes:
        weights: (B,) what each example's gradient is multiplied by.
        gradient: (2,) what is in the buffer when all micro-batches have passed.
    """

    weights: np.ndarray
    gradient: np.ndarray


@dataclass(frozen=True)
class CutWindow:
    """B examples cut into micro-batches, weighed rightly and as a mean of means.

    Attributes:
        sizes: (K,) examples in each micro-batch.
        over_total: every loss sum over the window's count.
        mean_of_means: every micro-batch's mean over K.
        big_batch: (2,) the gradient of one big batch, computed apart.
    """

    sizes: tuple[int, ...]
    over_total: Weighing
    mean_of_means: Weighing
    big_batch: np.ndarray

    def error(self, weighing: Weighing) -> float:
        """How far its gradient is from the big batch's, relative to that one's length."""
        return float(np.linalg.norm(weighing.gradient - self.big_batch) / np.linalg.norm(self.big_batch))
