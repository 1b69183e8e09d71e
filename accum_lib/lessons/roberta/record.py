"""Runs that differ in nothing but how their batches were cut."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FixedBatch:
    """The same updates with one B, cut into K micro-batches for several K. ``U`` is the number of updates.

    Attributes:
        name: what was trained, in words.
        parameters: how many weights it has.
        batch_size: B, examples in one update.
        steps: the K's; the first is 1, one big batch.
        losses: (K's, U) the mean loss over each update's window, before that update.
        again: (U,) the losses of one big batch once more, with other random numbers (dropout).
        distances: (K's,) how far the final weights are from those of K = 1, as a part of how far those went.
        distance_again: the same for the run once more.
        batch_norm: a layer normalises by the examples that share a forward pass.
    """

    name: str
    parameters: int
    batch_size: int
    steps: tuple[int, ...]
    losses: np.ndarray
    again: np.ndarray
    distances: np.ndarray
    distance_again: float
    batch_norm: bool


@dataclass(frozen=True)
class PrecisionError:
    """One window's gradient in "fp32" or "bf16", from K micro-batches.

    Attributes:
        precision: of the forward and backward passes.
        accumulation_steps: K.
        relative_error: ||g - exact|| / ||exact||, exact being one big batch in float64.
    """

    precision: str
    accumulation_steps: int
    relative_error: float
