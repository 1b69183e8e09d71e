"""Memory of one optimizer update: over time by category, against M and K, and which settings fit a card."""

from dataclasses import dataclass

import numpy as np

GIB = 2**30
CATEGORIES = (
    "parameters",
    "optimizer state",
    "gradients",
    "weight copies",
    "inputs",
    "activations",
    "temporaries",
    "workspace",
)


@dataclass(frozen=True)
class Timeline:
    """Bytes alive during one update, at the fullest moment of each of its slices.

    Attributes:
        micro_batch_size, accumulation_steps: M and K.
        operators: (moments,) operators run so far.
        bytes_by_category: (categories, moments), in the order of ``CATEGORIES``.
        phases: (name, first operator) of "forward", "backward" and "update", in their order.
        peak_bytes: the most that is alive at once.
        peak_phase: the phase in which that is.
    """

    micro_batch_size: int
    accumulation_steps: int
    operators: np.ndarray
    bytes_by_category: np.ndarray
    phases: tuple[tuple[str, int], ...]
    peak_bytes: int
    peak_phase: str


@dataclass(frozen=True)
class Peaks:
    """The peak over a grid of M and K.

    Attributes:
        micro_batch_sizes: (sizes,) M.
        accumulation_steps: (steps,) K.
        peak_bytes: (steps, sizes).
        floor_bytes: (steps,) what no M is small enough to go below.
    """

    micro_batch_sizes: np.ndarray
    accumulation_steps: np.ndarray
    peak_bytes: np.ndarray
    floor_bytes: np.ndarray
