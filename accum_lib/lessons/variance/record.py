"""TODO."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MiniBatches:
    """Many mini-batch gradients of one size, beside the full gradient G.

    Attributes:
        batch_size: B, examples in each.
        sampling: how the examples were chosen.
        squared_errors: (draws,) |g - G|^2 of each.
        variance: their mean: the measured variance, summed over all weights.
        low, high: its bootstrap interval.
        bias: |mean of g - G|; 0 but for the noise of finitely many draws.
        bias_noise: the length that noise alone gives it, sqrt(variance / draws).
        cosines: (draws,) cosine similarity of g and G.
        points: (draws, 2) g projected onto two directions, in units of |G|; see ``plane``.
        entries: (draws,) one coordinate of g: the gradient of a single weight.
    """

    batch_size: int
    sampling: str
    squared_errors: np.ndarray
    variance: float
    low: float
    high: float
    bias: float
    bias_noise: float
    cosines: np.ndarray
    points: np.ndarray
    entries: np.ndarray


@dataclass(frozen=True)
class VarianceCurve:
    """Variance against batch size: measured in one way of sampling, and what the law says.

    Variances are in units of |G|^2, so that 1 is noise as long as the full gradient.

    Attributes:
        sampling: how the examples were chosen.
        noise_scale: tr(Sigma) / |G|^2 in examples.
        num_samples: N.
        batch_sizes: (B,) at which it was measured.
        measured, low, high: (B,) the mean of |g - G|^2 and its 95 % bootstrap interval.
        law_sizes: (L,) batch sizes at which the law is drawn.
        law, law_with_replacement: (L,) its predictions.
    """

    sampling: str
    noise_scale: float
    num_samples: int
    batch_sizes: np.ndarray
    measured: np.ndarray
    low: np.ndarray
    high: np.ndarray
    law_sizes: np.ndarray
    law: np.ndarray
    law_with_replacement: np.ndarray


@dataclass(frozen=True)
class Guesses:
    """Four guesses of the variance against K, and the measurement; all are 1 at K = 1.

    Attributes:
        micro_batch_size, num_samples: M and N.
        steps: (K,) accumulation steps.
        curves: (4, K) the guesses, which are formulas.
        measured: (K,) variance of measured mini-batch gradients over that at K = 1.
    """

    micro_batch_size: int
    num_samples: int
    steps: np.ndarray
    curves: np.ndarray
    measured: np.ndarray

    @property
    def nearest(self) -> int:
        """Which guess is nearest to the measurement, on a logarithmic scale where nothing is 0."""
        apart = np.log(np.maximum(self.curves, 1e-3) / np.maximum(self.measured, 1e-3))
        return int(np.argmin(np.square(apart).sum(axis=1)))
