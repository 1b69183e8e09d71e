"""The noise scale from norms alone: estimators that are unbiased for ragged counts, and their interval.

**One window.** Its K micro-batches have counts ``c_j`` that add up to C, and mean gradients ``g_j``. If they
are drawn without replacement from a data set that counts N, ``g_j`` is unbiased with variance
``tr(Sigma) / c_j * (1 - c_j / N)`` (see ``law``), so that

    E|g_j|^2 = |G|^2 - tr(Sigma)/N + tr(Sigma)/c_j      and so      E|g|^2 = |G|^2 - tr(Sigma)/N + tr(Sigma)/C

for the whole window's gradient g = sum_j (c_j / C) g_j. Take the mean of ``|g_j|^2`` with the very weights
``c_j / C``: then ``tr(Sigma)`` enters with ``sum_j (c_j / C) / c_j = K / C``, and the difference is

    E[ sum_j (c_j / C) |g_j|^2 - |g|^2 ] = tr(Sigma) (K - 1) / C ,

whatever the counts are, and N has dropped out. Hence the two unbiased estimates

    trace         = C / (K - 1) * ( sum_j (c_j / C) |g_j|^2 - |g|^2 )
    squared_norm  = |g|^2 - trace / C * (1 - C / N)

``trace`` is ``sum_j c_j |g_j - g|^2 / (K - 1)``, the mean square *between groups* of the analysis of variance
(Fisher 1925), so it is never negative. With equal micro-batches both are equations A.2 and A.3 of McCandlish
et al. (2018), arXiv 1812.06162. A plain mean over micro-batches, put into those equations with the mean
count, is biased as soon as counts differ.

``.grad`` never holds ``g_j`` but its **share** ``s_j = c_j / C * g_j``, because the core starts each backward
pass from 1/C. So ``(c_j / C) |g_j|^2 = (C / c_j) |s_j|^2``.

Counts of examples make this exact. Where *tokens* are counted and whole sequences drawn, a gradient is the
ratio of two sums, and it holds to the first order in 1/C (Cochran 1977, section 6.3).
"""

from collections.abc import Sequence

import numpy as np

from accum_lib.noise.records import NoiseScale


def from_window(
    counts: Sequence[float], shares: Sequence[float], whole: float, population: float | None = None
) -> tuple[float, float]:
    """One window's unbiased estimates of ``(trace, squared_norm)``; the derivation is above.

    Args:
        counts: (K,) what each micro-batch counts, above 0.
        shares: (K,) the squared norm of what each micro-batch added to ``.grad``.
        whole: the squared norm of ``.grad`` at the end.
        population: what the whole data set counts, N; None if it is endless, or drawn with replacement.

    Raises:
        ValueError: fewer than two micro-batches, or lists of different lengths.
    """
    c, s = np.asarray(counts, dtype=float), np.asarray(shares, dtype=float)
    if len(c) < 2 or len(c) != len(s):
        raise ValueError(
            f"the spread within a window needs two micro-batches or more; got {len(c)} and {len(s)} norms"
        )
    total = float(c.sum())
    trace = total / (len(c) - 1) * (float((total / c * s).sum()) - whole)
    return trace, whole - trace / total * _left_over(total, population)


def from_windows(estimates: np.ndarray, counts: np.ndarray, confidence: float = 0.95) -> NoiseScale:
    """Many windows' estimates in one, with its confidence interval.

    A larger window says more, so each is weighted by its count; weights that do not depend on the gradients
    leave both means unbiased. The interval assumes that the weights of the model stood still, and that
    windows are independent. Windows of one epoch are drawn without replacement, so they are spread a little
    more evenly than independent ones: then the interval is too wide rather than too narrow.

    Args:
        estimates: (windows, 2) from ``from_window``.
        counts: (windows,) what each window counts.
        confidence: of the interval, between 0 and 1.
    """
    weights = counts / counts.sum()
    mean = weights @ estimates
    if len(counts) < 2:  # one window says nothing about how much windows differ
        return _noise_scale(mean, np.full((2, 2), np.inf), 1, confidence, 1)
    apart = (estimates - mean) * weights[:, None]
    covariance = len(counts) / (len(counts) - 1) * apart.T @ apart
    return _noise_scale(mean, covariance, len(counts) - 1, confidence, len(counts))


def from_two_sizes(
    small: np.ndarray,
    small_size: float,
    big: np.ndarray,
    big_size: float,
    population: float | None = None,
    confidence: float = 0.95,
) -> NoiseScale:
    """From squared gradient norms at two batch sizes, each measured on batches of its own.

    McCandlish et al. (2018), arXiv 1812.06162, appendix A.1, with the last term for a finite data set.

    Args:
        small, big: (n,) squared norms of gradients of each size, two or more.
        small_size, big_size: what such a batch counts.
        population: N, as for ``from_window``.
        confidence: of the interval, which takes all batches for independent.

    Raises:
        ValueError: the sizes are not in order, or a size has fewer than two norms.
    """
    if not 0 < small_size < big_size:
        raise ValueError(f"small_size must be above 0 and below big_size; got {small_size} and {big_size}")
    if min(len(small), len(big)) < 2:
        raise ValueError(f"give two norms or more of each size; got {len(small)} and {len(big)}")
    gap = 1 / small_size - 1 / big_size
    left = _left_over(big_size, population) / big_size
    # (mean of small, mean of big) -> (trace, squared_norm) is linear
    linear = np.array([[1 / gap, -1 / gap], [-left / gap, 1 + left / gap]])
    mean = linear @ [np.mean(small), np.mean(big)]
    spread = np.diag([np.var(small, ddof=1) / len(small), np.var(big, ddof=1) / len(big)])
    freedom = min(len(small), len(big)) - 1
    covariance = linear @ spread @ linear.T
    return _noise_scale(mean, covariance, freedom, confidence, len(small) + len(big))


def ratio_interval(
    mean: np.ndarray, covariance: np.ndarray, freedom: int, confidence: float
) -> tuple[float, float]:
    """Interval of a ratio of two means: Fieller (1954), *Some problems in interval estimation*.

    All ratios r for which ``mean[0] - r mean[1]`` is not significantly different from 0 (Student's t). Unlike
    mean plus or minus an error, this stays right when the denominator is hardly known: then there is no upper
    end. Ratios here are not negative.

    Args:
        mean: (2,) numerator and denominator.
        covariance: (2, 2) of these means.
        freedom: degrees of freedom.
        confidence: between 0 and 1.
    """
    from scipy.special import stdtrit  # Student's t; takes a while to import

    if not np.isfinite(covariance).all():
        return 0.0, np.inf
    margin = stdtrit(freedom, (1 + confidence) / 2) ** 2
    # (mean[0] - r mean[1])^2 <= margin * its variance, written as  a r^2 - 2 b r + c <= 0
    a = mean[1] ** 2 - margin * covariance[1, 1]
    b = mean[0] * mean[1] - margin * covariance[0, 1]
    c = mean[0] ** 2 - margin * covariance[0, 0]
    if a <= 0 and c <= 0:  # neither is known to differ from 0
        return 0.0, np.inf
    root = np.sqrt(max(b * b - a * c, 0.0))
    low = c / (b + root) if b + root > 0 else 0.0  # the smaller solution, in the form that bears a = 0
    high = (b + root) / a if a > 0 and mean[1] > 0 else np.inf
    return max(float(low), 0.0), float(high)


def _left_over(count: float, population: float | None) -> float:
    """1 - B/N: the share of a finite data set that the batch did not see."""
    if population is None:
        return 1.0
    if count > population * (1 + 1e-9):
        raise ValueError(f"a batch that counts {count} is more than the population of {population}")
    return max(1 - count / population, 0.0)


def _noise_scale(
    mean: np.ndarray, covariance: np.ndarray, freedom: int, confidence: float, observations: int
) -> NoiseScale:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, such as 0.95; got {confidence}")
    trace, squared_norm = float(mean[0]), float(mean[1])
    low, high = ratio_interval(mean, covariance, freedom, confidence)
    return NoiseScale(
        noise_scale=trace / squared_norm if squared_norm > 0 else np.inf,
        low=low,
        high=high,
        confidence=confidence,
        trace=trace,
        squared_norm=squared_norm,
        observations=observations,
    )
