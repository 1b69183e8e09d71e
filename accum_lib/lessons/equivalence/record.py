"""Rounding under the microscope: how far a window's gradient is off, and how far it may be."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Microscope:
    """One way of computing a window's gradient, for many K. Row j belongs to ``steps[j]``.

    Attributes:
        format: the number format, in words.
        reduction: how micro-batches are weighed: "right", "mean of means" or "not divided".
        ragged: micro-batches count different numbers of tokens.
        steps: (J,) K; the window's micro-batches.
        errors: (J,) relative to one big batch's gradient in float64.
        bounds: (J,) what rounding alone may make of it, from the format and the lengths of the sums.
        counts: for each K, (K,) the tokens that count in each micro-batch.
        weights: for each K, (K,) how much each micro-batch weighs, 1 being right.
        unit: u, half the distance from 1 to the next number in the coarsest format that is used.
    """

    format: str
    reduction: str
    ragged: bool
    steps: np.ndarray
    errors: np.ndarray
    bounds: np.ndarray
    counts: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray, ...]
    unit: float
