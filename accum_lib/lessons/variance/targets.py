"""The races of notebook 03: what each batch size takes to a target, at the scale of two processor cores.

McCandlish et al. (2018), arXiv 1812.06162: with E examples and S updates to a target,
``(S / S_min - 1) (E / E_min - 1) = 1`` (equation 2.11), hence ``E = E_min + S_min B`` and
``S = S_min + E_min / B``, and the critical batch size ``E_min / S_min`` is about the gradient noise scale.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.lessons.variance.races import (
    TRAIN,
    Batch,
    Job,
    Recipe,
    Replicas,
    counted,
    race_each,
    total_evaluations,
)
from accum_lib.lessons.variance.record import NoiseOverTraining, Race, Races, ToTarget
from accum_lib.machine import one_thread
from accum_lib.noise import NoiseScaleMonitor, population
from accum_lib.problems.base import micro_batches
from accum_lib.problems.digits import Digits

PLAIN = {4: 450, 16: 250, 64: 120, 256: 60, 1024: 40}  # batch size: updates
PLAIN_RATES, PLAIN_SEEDS = (0.1, 0.2, 0.4, 0.8, 1.6), 4
LOOKS, NOISE_M, NOISE_K, NOISE_RATE = (8, 16, 32, 64, 128, 256), 16, 4, 0.2
CONFIDENCE = 0.9


def race_all(tell: Callable[[float], None] | None = None) -> Races:
    """Run all races, on one thread.

    Args:
        tell: called with the share that is done, from 0 to 1; what it raises ends them.
    """
    started, jobs = time.perf_counter(), {"plain": _plain()}
    one_more = counted(tell, total_evaluations(jobs) + len(LOOKS))
    with one_thread():
        noise = noise_over_training(one_more)
        return Races(race_each(jobs, one_more)["plain"], noise, time.perf_counter() - started)


def _plain() -> list[Job]:
    replicas = Replicas(PLAIN_RATES, PLAIN_SEEDS)
    return [(replicas, b, Recipe("SGD"), updates) for b, updates in PLAIN.items()]


def noise_over_training(tell: Callable[[], None] | None = None) -> NoiseOverTraining:
    """One run of SGD, with the noise scale measured exactly, and for free on the way, at some updates."""
    problem = Digits("mlp", num_samples=TRAIN)
    held_out, rest = Digits("mlp"), torch.arange(TRAIN, 1797)
    model = problem.make_model(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=NOISE_RATE)
    found = []
    with NoiseScaleMonitor(model, problem.loss_sum, problem.count, population=TRAIN, every=1) as monitor:
        for update, window in enumerate(islice(_epochs(problem), max(LOOKS)), start=1):
            accumulate(model, window, monitor.loss_sum, monitor.count)
            apply_update(model, optimizer)
            if update in LOOKS:
                estimate = monitor.estimate(last=max(8, update // 4), confidence=CONFIDENCE)
                with torch.no_grad():
                    loss = float(problem.loss_sum(model, held_out.batch(rest))) / len(rest)
                exact = population(problem, model).noise_scale
                found.append((update, loss, exact, estimate.noise_scale, estimate.low, estimate.high))
                if tell:
                    tell()
    updates, losses, exacts, estimates, lows, highs = np.array(found).T
    return NoiseOverTraining(updates, losses, exacts, estimates, lows, highs, CONFIDENCE)


def _epochs(problem: Digits) -> Iterator[list[Batch]]:
    order = torch.Generator().manual_seed(0)
    while True:
        yield from windows(micro_batches(problem, NOISE_M, order), NOISE_K)


# --- What it took


def to_target(races: Sequence[Race], target: float, rate: float | None = None) -> ToTarget:
    """What every batch size took to reach a held-out loss.

    Args:
        races: of one recipe, each of another batch size.
        target: the loss in nats.
        rate: the learning rate of all of them; None takes for each the one that took fewest updates.

    Raises:
        ValueError: a race was not run at that rate.
    """
    best = [_fastest(each, target, rate) for each in races]
    sizes = np.array([each.batch_size for each in races])
    updates = np.array([u for _, u in best])
    examples = (updates * sizes[:, None]).mean(axis=1)
    reached = np.isfinite(examples)
    least_examples = least_updates = np.nan
    if reached.sum() >= 3:
        least_examples, least_updates = critical_batch(sizes[reached], examples[reached])
    return ToTarget(target, sizes, np.array([r for r, _ in best]), updates, least_updates, least_examples)


def critical_batch(batch_sizes: np.ndarray, examples: np.ndarray) -> tuple[float, float]:
    """``(E_min, S_min)`` of ``E = E_min + S_min B``: least squares of relative errors, neither below 0."""
    from scipy.optimize import nnls  # takes a while to import

    rows = np.stack([1 / examples, batch_sizes / examples], axis=1)
    (least_examples, least_updates), _ = nnls(rows, np.ones(len(examples)))
    return float(least_examples), float(least_updates)


def _fastest(each: Race, target: float, rate: float | None) -> tuple[float, np.ndarray]:
    """The rate that took fewest updates on average (or the one asked for), and its seeds' ``(S,)``."""
    if rate is not None and rate not in each.rates:
        raise ValueError(f"B = {each.batch_size} raced at the rates {list(each.rates)}; got {rate}")
    which = [r for r, value in enumerate(each.rates) if rate in (None, value)]
    seeds = range(each.losses.shape[2])
    taken = [[_crossing(each.updates, each.losses[:, r, s], target) for s in seeds] for r in which]
    best = int(np.argmin(np.mean(taken, axis=1)))
    return float(each.rates[which[best]]), np.array(taken[best])


def _crossing(updates: np.ndarray, losses: np.ndarray, target: float) -> float:
    """When the loss first came below the target, on a straight line between two evaluations."""
    below = np.flatnonzero(losses <= target)
    if len(below) == 0:
        return np.inf
    at = below[0]
    if at == 0:
        return 0.0
    part = (losses[at - 1] - target) / (losses[at - 1] - losses[at])
    return float(updates[at - 1] + part * (updates[at] - updates[at - 1]))
