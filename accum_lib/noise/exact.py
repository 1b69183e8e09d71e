"""The population of a data set's gradients: the full gradient, the covariance's trace, the exact noise scale.

A mini-batch gradient is the mean of a sample drawn from a **finite** population: the N gradients of single
examples. Its variance is the textbook one, and it is exactly 0 when the batch is the whole data set.

References: Cochran (1977), *Sampling Techniques*, theorem 2.2 (the law) and section 6.3 (the ratio of two
sums, which a mean over tokens is); McCandlish et al. (2018), arXiv 1812.06162, equation 2.9 (noise scale).
"""

import torch
from torch import Tensor, nn

from accum_lib.noise.examples import gradient_chunks
from accum_lib.noise.records import Population
from accum_lib.problems.base import Problem


def population(
    problem: Problem, model: nn.Module, indices: Tensor | None = None, method: str = "auto"
) -> Population:
    """Go through every example's gradient once, and keep sums only: two gradients' worth of memory.

    Let ``h_i`` be the gradient of example i's loss sum and ``t_i`` its count. Then ``G = sum h / sum t``
    and ``tr(Sigma) = sum |h_i - t_i G|^2 / (N - 1) / mean t``, which for counts of 1 is the unbiased
    variance of the gradients, summed over all weights.

    Args:
        problem, model, indices, method: as for ``example_gradients``.

    Raises:
        ValueError: fewer than two examples, or nothing counts; or as ``example_gradients``.
    """
    rows = torch.arange(problem.num_samples) if indices is None else indices
    if len(rows) < 2:
        raise ValueError(f"a variance needs two examples or more; got {len(rows)}")
    counts = torch.tensor([float(problem.count(problem.batch(i[None]))) for i in rows], dtype=torch.float64)
    if not counts.sum() > 0:
        raise ValueError(f"the {len(rows)} examples count 0 in total: are all labels ignored?")
    chunks, done = gradient_chunks(problem, model, rows, method), 0
    squares, gradient_sum, weighted_sum = 0.0, torch.zeros(()), torch.zeros(())
    for chunk in chunks:
        weights = counts[done : done + len(chunk)].to(chunk)
        squares += float(chunk.double().square().sum())
        gradient_sum = gradient_sum.to(chunk.device) + chunk.sum(0)
        weighted_sum = weighted_sum.to(chunk.device) + weights @ chunk
        done += len(chunk)
    return _from_sums(counts, squares, gradient_sum.double(), weighted_sum.double())


def from_gradients(gradients: Tensor) -> Population:
    """What ``population`` says, from gradients that are at hand.

    Args:
        gradients: (N, parameters) one row for each example, which counts one term.

    Raises:
        ValueError: fewer than two rows.
    """
    if len(gradients) < 2:
        raise ValueError(f"a variance needs two examples or more; got {len(gradients)}")
    full = gradients.mean(0)
    trace = float((gradients - full).square().sum()) / (len(gradients) - 1)  # N - 1: unbiased
    return Population(len(gradients), 1.0, float(full.square().sum()), trace)


def law(what: Population, batch_size: float, replacement: bool = False) -> float:
    """The variance of a mini-batch gradient, E|g - G|^2: what theory predicts, to be compared.

    Without replacement ``tr(Sigma) / B * (1 - B / N)``; with replacement the batch can repeat an example,
    the factor is gone, and what is drawn from has the population's own variance, ``1 - 1 / N`` of the
    unbiased one. Exact if every example counts the same; of ragged counts, the first order.

    Args:
        what: the population.
        batch_size: B in examples, above 0; at most N without replacement.
        replacement: whether an example can come twice.

    Raises:
        ValueError: the batch size is out of range.
    """
    n = what.num_samples
    if not 0 < batch_size <= (float("inf") if replacement else n):
        raise ValueError(f"batch_size must be above 0 and at most the {n} examples; got {batch_size}")
    shrink = 1 - 1 / n if replacement else 1 - batch_size / n
    return what.trace / (batch_size * what.mean_count) * shrink


def _from_sums(counts: Tensor, squares: float, gradients: Tensor, weighted: Tensor) -> Population:
    n, total = len(counts), float(counts.sum())
    full = gradients / total
    squared_norm = float(full.square().sum())
    spread = squares - 2 * float(full @ weighted) + squared_norm * float(counts.square().sum())
    return Population(n, total / n, squared_norm, max(spread, 0.0) / (n - 1) / (total / n))
