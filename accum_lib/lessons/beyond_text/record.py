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


@dataclass(frozen=True)
class Weighting:
    """One way of weighing the utterances of a window of B, cut into micro-batches. Row j belongs to M_j.

    Attributes:
        name: "window", "mean of means" or "torch mean".
        micro_batch_sizes: (J,) M.
        errors: (J,) of the gradient, relative to that of the mean over all syllables in one big batch.
        lengths: (B,) syllables in each utterance.
        weights: (J, B) how much one syllable of each utterance weighs, 1 being right.
    """

    name: str
    micro_batch_sizes: np.ndarray
    errors: np.ndarray
    lengths: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class SpeechRun:
    """One training run; row e is the state after e epochs, row 0 before the first.

    Attributes:
        name: the weighting.
        error_rates: (E + 1,) share of held-out utterances that are not spelled exactly right.
        seconds: (frames,) when each frame of one held-out utterance is.
        scores: (E + 1, frames, classes) the probabilities for it.
        spelled: what the net reads in that utterance, one string for each row.
        target: what was said.
    """

    name: str
    error_rates: np.ndarray
    seconds: np.ndarray
    scores: np.ndarray
    spelled: tuple[str, ...]
    target: str
