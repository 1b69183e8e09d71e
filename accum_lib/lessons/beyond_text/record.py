"""What a normalisation makes of micro-batches: the gradient's error, and the running statistics'."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NormErrors:
    """One normalisation under one window of B samples, cut into micro-batches. Row j belongs to M_j.

    Attributes:
        norm: "batch", "group" or "frozen".
        corrected: BatchNorm's momentum was corrected for K.
        effective_batch_size: B.
        micro_batch_sizes: (J,) M.
        gradient_errors: (J,) relative to one big batch's gradient in float64, mean over windows.
        mean_errors, variance_errors: (J,) of the running statistics after each window, relative to one big
            batch's, mean over windows; NaN where there are none.
        variance_ratios: (J,) the running variance over one big batch's, mean over channels and windows.
    """

    norm: str
    corrected: bool
    effective_batch_size: int
    micro_batch_sizes: np.ndarray
    gradient_errors: np.ndarray
    mean_errors: np.ndarray
    variance_errors: np.ndarray
    variance_ratios: np.ndarray
