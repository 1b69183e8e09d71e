"""The races of notebook 03: three published claims, at the scale of two processor cores.

McCandlish et al. (2018), arXiv 1812.06162: with E examples and S updates to a target,
``(S / S_min - 1) (E / E_min - 1) = 1`` (equation 2.11), hence ``E = E_min + S_min B`` and
``S = S_min + E_min / B``, and the critical batch size ``E_min / S_min`` is about the gradient noise scale.

Goyal et al. (2017), arXiv 1706.02677: a batch k times as large with a rate k times as high, after a warm-up,
trains as well.

Marek et al. (2025), arXiv 2507.07101: small batches train well, down to 1, if the half-life of Adam's second
moment is held in examples (there: tokens) and not in updates; and then even plain SGD does.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.lessons.variance.races import TRAIN, Batch, Recipe, Replicas, evaluations, race
from accum_lib.lessons.variance.record import NoiseOverTraining, Race, Races, ToTarget
from accum_lib.machine import one_thread
from accum_lib.noise import NoiseScaleMonitor, population
from accum_lib.problems.base import micro_batches
from accum_lib.problems.digits import Digits
from accum_lib.words import N_

PLAIN = {4: 450, 16: 250, 64: 120, 256: 60, 1024: 40}  # batch size: updates
PLAIN_RATES, PLAIN_SEEDS = (0.1, 0.2, 0.4, 0.8, 1.6), 4
SCALING, SCALING_SEEDS, SCALING_EPOCHS, WARM_UP_EPOCHS = (16, 64, 256, 704), 6, 8, 2
BASE_BATCH, BASE_RATES = 16, (0.02, 0.05)  # both do well at the base batch, the second only just
SMALL_SEEDS, SMALL_EXAMPLES = 4, 960
ADAM_RATES = {1: (1e-3, 3e-3, 1e-2), 8: (3e-3, 1e-2, 3e-2), 64: (1e-2, 3e-2, 1e-1)}  # batch size: rates
SGD_RATES = {1: (0.02, 0.05, 0.1), 8: (0.1, 0.3, 0.6), 64: (0.5, 1.0, 2.0)}
BETA2, BETA2_BATCH = 0.95, 64  # the half-life is what this gives at that batch
LOOKS, NOISE_M, NOISE_K, NOISE_RATE = (8, 16, 32, 64, 128, 256), 16, 4, 0.2
CONFIDENCE = 0.9

Job = tuple[Replicas, int, Recipe, int]  # what ``race`` takes


def race_all(tell: Callable[[float], None] | None = None) -> Races:
    """Run all races, on one thread.

    Args:
        tell: called with the share that is done, from 0 to 1; what it raises ends them.
    """
    started, done = time.perf_counter(), 0
    plain, scaling, small = _plain(), _scaling(), _small()
    jobs = [*plain, *(j for js in (scaling | small).values() for j in js)]
    total = sum(evaluations(updates) for *_, updates in {_key(job) for job in jobs}) + len(LOOKS)
    known: dict[tuple, Race] = {}  # a scaling of 1 is no scaling: the same race under two names

    def one_more() -> None:
        nonlocal done
        done += 1
        if tell:
            tell(done / total)

    def run(these: Sequence[Job]) -> tuple[Race, ...]:
        for job in these:
            known[_key(job)] = known.get(_key(job)) or race(*job, tell=one_more)
        return tuple(replace(known[_key(job)], recipe=job[2].name) for job in these)

    with one_thread():
        return Races(
            noise=noise_over_training(one_more),
            plain=run(plain),
            scaling={name: run(these) for name, these in scaling.items()},
            small={name: run(these) for name, these in small.items()},
            seconds=time.perf_counter() - started,
        )


def _key(job: Job) -> tuple:
    """What decides a race, whatever it is called; the number of updates comes last."""
    replicas, batch_size, recipe, updates = job
    return replicas.rates, replicas.seeds, batch_size, replace(recipe, name=""), updates


def _plain() -> list[Job]:
    replicas = Replicas(PLAIN_RATES, PLAIN_SEEDS)
    return [(replicas, b, Recipe("SGD"), updates) for b, updates in PLAIN.items()]


def _scaling() -> dict[str, list[Job]]:
    """The same number of examples at every batch size; SGD with momentum 0.9, as in the paper."""
    jobs: dict[str, list[Job]] = {
        N_("rate unchanged"): [], N_("rate × B/16"): [], N_("rate × B/16, warm-up"): [],
    }  # fmt: skip
    for b in SCALING:
        epoch = TRAIN // b
        for name, these in jobs.items():
            factor = 1 if name == "rate unchanged" else b / BASE_BATCH
            rates = tuple(rate * factor for rate in BASE_RATES)
            warm_up = WARM_UP_EPOCHS * epoch if "warm-up" in name else 0
            recipe = Recipe(name, momentum=0.9, warm_up=warm_up)
            these.append((Replicas(rates, SCALING_SEEDS), b, recipe, SCALING_EPOCHS * epoch))
    return jobs


def _small() -> dict[str, list[Job]]:
    """The same few examples at every batch size, each seen once."""
    fixed, held, plain = (
        N_("Adam, β₂ = 0.95 at every B"),
        N_("Adam, β₂ held in examples"),
        N_("SGD, no momentum"),
    )
    jobs: dict[str, list[Job]] = {fixed: [], held: [], plain: []}
    for b in ADAM_RATES:
        adam, sgd = (Replicas(rates[b], SMALL_SEEDS) for rates in (ADAM_RATES, SGD_RATES))
        updates = SMALL_EXAMPLES // b
        jobs[fixed].append((adam, b, Recipe(fixed, "Adam", beta2=BETA2), updates))
        jobs[held].append((adam, b, Recipe(held, "Adam", beta2=held_in_examples(b)), updates))
        jobs[plain].append((sgd, b, Recipe(plain), updates))
    return jobs


def held_in_examples(batch_size: int) -> float:
    """Adam's beta2 whose half-life in examples is that of ``BETA2`` at ``BETA2_BATCH`` (Marek et al.)."""
    return float(BETA2 ** (batch_size / BETA2_BATCH))


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
