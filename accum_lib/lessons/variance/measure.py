"""Mini-batches drawn from the population in four ways, measured: variance, bias, cosine similarity.

The data behind the variance explorer: for every batch size and way of sampling, a cloud of gradients.

Mini-batch gradients here are means of exact per-example gradients, which is what accumulation gives to
rounding (a test accumulates them), and hundreds of times faster.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from accum_lib.accumulate import accumulate
from accum_lib.lessons.variance.record import Guesses, MiniBatches, VarianceCurve
from accum_lib.noise.exact import from_gradients, law
from accum_lib.noise.examples import example_gradients, to_device, trainable
from accum_lib.problems.base import Problem
from accum_lib.problems.digits import Digits
from accum_lib.vectors import flat
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
        draws: how many mini-batches, each drawn independently.
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
    generator = torch.Generator().manual_seed(seed)
    if sampling == "with replacement":
        return torch.randint(num_samples, (draws, batch_size), generator=generator)
    if sampling == "shuffled":
        return torch.rand(draws, num_samples, generator=generator).argsort(dim=1)[:, :batch_size]
    order = torch.arange(num_samples)
    if sampling == "sorted by class":
        if labels is None:
            raise ValueError("to sort by class, give the labels")
        order = labels.argsort(stable=True)
    starts = torch.randint(num_samples, (draws, 1), generator=generator)
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
        gradients.append(flat((_gradient(p) for p in parameters), dtype=None))
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


def describe_batches(
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
    generator = np.random.default_rng(seed)
    resampled = values[generator.integers(len(values), size=(BOOTSTRAPS, len(values)))].mean(axis=1)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


NUM_SAMPLES, DRAWS = 512, 300
FIRST_LAYER = 64 * 32  # its weights come first; those of the last layer see few values only
GUESS_M, GUESS_STEPS = 32, (1, 2, 4, 8, 16)


class VarianceLab:
    """Mini-batch gradients of the digits MLP at fixed weights; what recurs is kept.

    Args:
        num_samples: N, a power of 2: the batch sizes are 1, 2, 4, ... N.
        draws: mini-batches at each batch size.
        seed: of the weights.
    """

    def __init__(self, num_samples: int = NUM_SAMPLES, draws: int = DRAWS, seed: int = 0) -> None:
        self._problem, self._draws = Digits("mlp", torch.float64, num_samples), draws
        self._gradients = example_gradients(self._problem, self._problem.make_model(seed))
        self._full, self._directions = self._gradients.mean(0), plane(self._gradients)
        self._coordinate = int(self._gradients[:, :FIRST_LAYER].var(0).argmax())
        self.population = from_gradients(self._gradients)
        self.sizes = [2**i for i in range(num_samples.bit_length())]
        self.batches, self.curve = cache(self._batches), cache(self._curve)

    @property
    def full_entry(self) -> float:
        """The full gradient's coordinate beside ``MiniBatches.entries``: of the first
        layer's weight that varies most."""
        return float(self._full[self._coordinate])

    @property
    def entry_variance(self) -> float:
        """The unbiased variance of that coordinate over the examples."""
        return float(self._gradients[:, self._coordinate].var())

    def _batches(self, batch_size: int, sampling: str = "shuffled") -> MiniBatches:
        seed = batch_size * len(SAMPLINGS) + SAMPLINGS.index(sampling)
        rows = draw(
            self.population.num_samples, batch_size, self._draws, sampling, seed, self._problem.labels
        )
        found = means(self._gradients, rows)
        return describe_batches(
            found, self._full, self._directions, rows, sampling, coordinate=self._coordinate
        )

    def _curve(self, sampling: str) -> VarianceCurve:
        people, found = self.population, [self.batches(b, sampling) for b in self.sizes]
        unit, n = people.squared_norm, people.num_samples
        fine = np.append(np.geomspace(1, n * 0.9, 40), n * np.array([0.95, 0.98, 0.99, 0.995]))
        return VarianceCurve(
            sampling=sampling,
            noise_scale=people.noise_scale,
            num_samples=n,
            batch_sizes=np.array(self.sizes),
            measured=np.array([b.variance for b in found]) / unit,
            low=np.array([b.low for b in found]) / unit,
            high=np.array([b.high for b in found]) / unit,
            law_sizes=fine,
            law=np.array([law(people, b) for b in fine]) / unit,
            law_with_replacement=np.array([law(people, b, replacement=True) for b in fine]) / unit,
        )

    def guesses(self) -> Guesses:
        """What a reader may expect of the variance as K grows at M = 32, beside what is measured."""
        steps, n = np.array(GUESS_STEPS), self.population.num_samples
        left_over = (1 - GUESS_M * steps / n) / (1 - GUESS_M / n)
        measured = np.array([self.batches(GUESS_M * k).variance for k in GUESS_STEPS])
        curves = np.array([np.ones(len(steps)), 1 / np.sqrt(steps), 1 / steps, left_over / steps])
        return Guesses(GUESS_M, n, steps, curves, measured / measured[0])
