"""Mini-batches drawn from the population in four ways, measured: variance, bias, cosine similarity."""

import numpy as np
import torch
from torch import Tensor, nn

from accum_lib.accumulate import accumulate
from accum_lib.lenses.variance.examples import to_device, trainable
from accum_lib.problems.base import Problem
from accum_lib.records.variance import MiniBatches
from accum_lib.words import N_

SAMPLINGS = (N_("shuffled"), N_("with replacement"), N_("not shuffled"), N_("sorted by class"))
BOOTSTRAPS = 1000


def draw(
    num_samples: int,
    batch_size: int,
    draws: int,
    sampling: str = "shuffled",
    seed: int = 0,
    labels: Tensor | None = None,
) -> Tensor:
    """Choose the examples of many mini-batches; whatever the way, each example is as likely as any other.

    Args:
        num_samples: N.
        batch_size: B; at most N, unless drawn with replacement.
        draws: how many mini-batches, each drawn anew.
        sampling: "shuffled" (every set of B examples is as likely), "with replacement", "not shuffled" (B
            neighbours in the order of the data, from a random place on), "sorted by class" (the same
            after sorting by ``labels``).
        seed: draws them.
        labels: (N,) what to sort by.

    Returns:
        (draws, B) indices.

    Raises:
        ValueError: a setting is out of range, or there are no labels to sort by.
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling must be one of {SAMPLINGS}; got {sampling!r}")
    if not batch_size >= 1 or (batch_size > num_samples and sampling != "with replacement"):
        raise ValueError(f"batch_size must be between 1 and the {num_samples} examples; got {batch_size}")
    dice = torch.Generator().manual_seed(seed)
    if sampling == "with replacement":
        return torch.randint(num_samples, (draws, batch_size), generator=dice)
    if sampling == "shuffled":
        return torch.rand(draws, num_samples, generator=dice).argsort(dim=1)[:, :batch_size]
    order = torch.arange(num_samples)
    if sampling == "sorted by class":
        if labels is None:
            raise ValueError("to sort by class, give the labels")
        order = labels.argsort(stable=True)
    starts = torch.randint(num_samples, (draws, 1), generator=dice)
    return order[(starts + torch.arange(batch_size)) % num_samples]


def means(gradients: Tensor, rows: Tensor) -> Tensor:
    """Mini-batch gradients ``(draws, parameters)`` as what they are: means of their examples' gradients.

    Args:
        gradients: (N, parameters) of every example.
        rows: (draws, B) from ``draw``.
    """
    weights = torch.zeros(len(rows), len(gradients), dtype=gradients.dtype)
    weights.scatter_add_(1, rows, torch.full_like(rows, 1 / rows.shape[1], dtype=gradients.dtype))
    return weights @ gradients


def accumulated_means(problem: Problem, model: nn.Module, rows: Tensor, micro_batch_size: int) -> Tensor:
    """The same ``(draws, parameters)`` by really accumulating: a window of micro-batches for each row."""
    parameters, gradients = trainable(model), []
    for row in rows:
        window = [
            to_device(problem.batch(part), parameters[0].device) for part in row.split(micro_batch_size)
        ]
        accumulate(model, window, problem.loss_sum, problem.count)
        gradients.append(torch.cat([_gradient(p).flatten() for p in parameters]))
        model.zero_grad(set_to_none=True)
    return torch.stack(gradients)


def plane(gradients: Tensor) -> Tensor:
    """Two directions to look at a cloud of gradients from: ``(2, parameters)``, at right angles.

    The first is the full gradient's own, so it shows how far a step really goes. Of all others at a right
    angle to it, the second is that in which the examples differ most (their first principal component).
    """
    from scipy.sparse.linalg import svds  # takes a while to import

    full = gradients.mean(0)
    along = full / full.norm()
    rest = gradients - full
    rest = rest - torch.outer(rest @ along, along)
    _, _, across = svds(rest.double().numpy(), k=1, v0=np.ones(min(rest.shape)))
    across = torch.from_numpy(across[0] * np.sign(across[0].sum()))  # the sign is free: choose one
    return torch.stack([along, across.to(along)])


def measure(
    batches: Tensor,
    full: Tensor,
    directions: Tensor,
    rows: Tensor,
    sampling: str,
    confidence: float = 0.95,
    coordinate: int = 0,
) -> MiniBatches:
    """What is to be known of many mini-batch gradients of one size.

    Args:
        batches: (draws, parameters), from ``means`` or ``accumulated_means``.
        full: (parameters,) the full gradient.
        directions: (2, parameters) from ``plane``.
        rows: (draws, B) the examples of each.
        sampling: how they were drawn, in words.
        confidence: of the bootstrap interval.
        coordinate: the weight whose gradients are kept as they are.
    """
    errors = (batches - full).square().sum(1).numpy()
    low, high = bootstrap(errors, confidence)
    cosines = batches @ full / (batches.norm(dim=1) * full.norm())
    return MiniBatches(
        batch_size=rows.shape[1],
        sampling=sampling,
        squared_errors=errors,
        variance=float(errors.mean()),
        low=low,
        high=high,
        bias=float((batches.mean(0) - full).norm()),
        bias_noise=float(np.sqrt(errors.mean() / len(errors))),
        cosines=cosines.numpy(),
        points=(batches @ directions.T / full.norm()).numpy(),
        entries=batches[:, coordinate].numpy(),
    )


def bootstrap(values: np.ndarray, confidence: float, seed: int = 0) -> tuple[float, float]:
    """The percentile interval of a mean: Efron and Tibshirani (1993), chapter 13.

    Args:
        values: (n,) the observations; they are resampled with replacement ``BOOTSTRAPS`` times.
        confidence: between 0 and 1.
        seed: draws the resamples.
    """
    dice = np.random.default_rng(seed)
    resampled = values[dice.integers(len(values), size=(BOOTSTRAPS, len(values)))].mean(axis=1)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
