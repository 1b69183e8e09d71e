"""CTC under accumulation: how far each weighting is from one big batch, and how training goes."""

from dataclasses import dataclass

import numpy as np


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
