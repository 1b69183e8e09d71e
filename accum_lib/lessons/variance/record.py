"""Mini-batch gradients drawn from a population, and races between batch sizes: plain numbers to draw."""

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


@dataclass(frozen=True)
class Race:
    """One batch size and one recipe, at several learning rates and from several seeds.

    Attributes:
        recipe: optimizer and schedule, in words.
        batch_size: B, examples in one update.
        rates: (R,) the learning rates.
        updates: (T,) optimizer updates made at each evaluation; the first is 0.
        losses: (T, R, S) mean held-out loss of each rate and seed, in nats.
        accuracies: (T, R, S) share of held-out examples that were right, from 0 to 1.
    """

    recipe: str
    batch_size: int
    rates: np.ndarray
    updates: np.ndarray
    losses: np.ndarray
    accuracies: np.ndarray

    @property
    def examples(self) -> np.ndarray:
        """(T,) examples seen at each evaluation."""
        return self.updates * self.batch_size

    @property
    def best(self) -> int:
        """Which rate had the lowest held-out loss at the end, averaged over the seeds."""
        return int(np.argmin(self.losses[-1].mean(axis=1)))


@dataclass(frozen=True)
class ToTarget:
    """What each batch size took to reach one held-out loss, at the rate that took least.

    Attributes:
        target: the loss in nats.
        batch_sizes: (B,).
        rates: (B,) the learning rate that was best for each.
        updates: (B, S) optimizer updates of each seed; infinite if the target was not reached.
        least_updates, least_examples: of the fitted hyperbola: what very large and very small batches take;
            NaN if fewer than three batch sizes reached the target, too few for a fit.
        critical_batch_size: least_examples / least_updates, where either costs twice its least.
    """

    target: float
    batch_sizes: np.ndarray
    rates: np.ndarray
    updates: np.ndarray
    least_updates: float
    least_examples: float

    @property
    def examples(self) -> np.ndarray:
        """(B, S) examples of each seed."""
        return self.updates * self.batch_sizes[:, None]

    @property
    def fitted_examples(self) -> np.ndarray:
        """(B,) examples of each batch size on the fitted hyperbola."""
        return self.least_examples + self.least_updates * self.batch_sizes

    @property
    def critical_batch_size(self) -> float:
        """Examples in the batch that takes twice the least updates and twice the least examples."""
        return self.least_examples / self.least_updates


@dataclass(frozen=True)
class NoiseOverTraining:
    """The gradient noise scale along one ordinary training run.

    Attributes:
        updates: (T,) when it was looked at.
        losses: (T,) the held-out loss then, in nats.
        exact: (T,) from every example's own gradient.
        estimated, low, high: (T,) from the accumulation that trained the model, with its interval.
        confidence: of that interval.
    """

    updates: np.ndarray
    losses: np.ndarray
    exact: np.ndarray
    estimated: np.ndarray
    low: np.ndarray
    high: np.ndarray
    confidence: float


@dataclass(frozen=True)
class Races:
    """Everything that notebook 03 races.

    Attributes:
        plain: SGD at every batch size, until well trained.
        noise: along one run.
        seconds: what it all took.
    """

    plain: tuple[Race, ...]
    noise: NoiseOverTraining
    seconds: float
