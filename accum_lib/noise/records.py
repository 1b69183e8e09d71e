"""Gradients as samples of a population: its spread, mini-batches drawn from it, and the noise scale."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Population:
    """What the gradients of all single examples say together, at fixed weights.

    "Counted" is whatever the problem's ``count`` counts: examples, or tokens.

    Attributes:
        num_samples: N, examples.
        mean_count: counted terms in one example; 1 if examples are counted.
        squared_norm: |G|^2 of the full gradient, that of the mean loss over everything counted.
        trace: tr(Sigma), the unbiased variance of one counted term's gradient, summed over all weights;
            in the unit of ``squared_norm``.
    """

    num_samples: int
    mean_count: float
    squared_norm: float
    trace: float

    @property
    def noise_scale(self) -> float:
        """tr(Sigma) / |G|^2 in counted terms: the batch whose noise is as long as the full gradient."""
        return self.trace / self.squared_norm


@dataclass(frozen=True)
class NoiseScale:
    """An estimate of the gradient noise scale, with its confidence interval.

    Attributes:
        noise_scale: trace / squared_norm in counted terms; infinite if ``squared_norm`` is 0 or less.
        low, high: the interval; ``high`` is infinite if the data do not tell the full gradient from 0.
        confidence: how often such an interval holds the exact value, from 0 to 1.
        trace, squared_norm: the estimates of tr(Sigma) and |G|^2.
        observations: how many windows (or batches of either size) it is from.
    """

    noise_scale: float
    low: float
    high: float
    confidence: float
    trace: float
    squared_norm: float
    observations: int
