"""The advice on trial: the advised K raced against a quarter of it and four times it, on real data.

Each batch size runs at the best of several learning rates on the digits; tiny RoBERTa has time for one, which
grows with the square root of B (Malladi et al. 2022, arXiv 2205.10287, for Adam). What the noise scale
predicts and what was measured are put side by side, and neither is corrected by the other.

What the advice claimed, and whether the races showed it: each claim with its numbers.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.lessons.choose_k.record import Trial, Trials
from accum_lib.lessons.choose_k.subjects import HELD_OUT, TEXTS, TOKENS, pilot, subject
from accum_lib.lessons.variance.races import Recipe, Replicas, Tell, evaluations, race
from accum_lib.lessons.variance.record import Race
from accum_lib.lessons.variance.targets import to_target
from accum_lib.machine import one_thread
from accum_lib.memory.records import Clause
from accum_lib.noise.records import NoiseScale
from accum_lib.problems.roberta import Roberta
from accum_lib.words import _, clauses, listed

DIGITS_M, DIGITS_UPDATES, DIGITS_TARGET = 8, (200, 80, 45), 0.6  # updates at K / 4, K, 4 K
DIGITS_RATES, DIGITS_SEEDS = (0.2, 0.4, 0.8, 1.6), 5
TEXT_M, TEXT_UPDATES, TEXT_TARGET = 16, (64, 28, 18), 0.5
TEXT_RATE, TEXT_SEEDS, TEXT_LOOKS = 2e-3, 3, 12  # the rate at the advised B

Made = dict[tuple[str, int], Race]  # races that are through, by problem and B


class AdviceTrial:
    """Both trials. A stop keeps the races that are through, and the next ``run`` goes on from there.

    Args:
        noise: measured noise scales by subject; those that are missing are measured first.
    """

    def __init__(self, noise: dict[str, NoiseScale] | None = None) -> None:
        self._noise = dict(noise or {})
        self._made: Made = {}
        self._seconds = 0.0

    def run(self, tell: Callable[[float], None] | None = None) -> Trials:
        """Race what has not been raced yet, on one thread.

        Args:
            tell: called with the share that is done, from 0 to 1; what it raises ends the run.
        """
        started, done = time.perf_counter(), 0
        total = sum(evaluations(u) for u in DIGITS_UPDATES) + TEXT_SEEDS * TEXT_LOOKS * len(TEXT_UPDATES)

        def one_more() -> None:
            nonlocal done
            done += 1
            if tell:
                tell(min(done / total, 1.0))

        try:
            with one_thread():
                trials = self._digits(one_more), self._texts(one_more)
        finally:
            self._seconds += time.perf_counter() - started
        return Trials(trials, self._seconds)

    def _digits(self, tell: Tell) -> Trial:
        noise = self._known("digits-mlp")
        replicas, recipe = Replicas(DIGITS_RATES, DIGITS_SEEDS), Recipe("SGD")
        steps = steps_around(noise.noise_scale, DIGITS_M, replicas.num_samples)
        races = []
        for k, updates in zip(steps, DIGITS_UPDATES, strict=True):
            run = partial(race, replicas, k * DIGITS_M, recipe, updates, tell, DIGITS_M)
            races.append(self._once("digits-mlp", k * DIGITS_M, run))
        return _trial("digits, MLP", noise, DIGITS_M, steps, races, DIGITS_TARGET)

    def _texts(self, tell: Tell) -> Trial:
        noise = self._known("tiny-roberta")
        steps = steps_around(noise.noise_scale, TEXT_M, TEXTS)
        races = []
        for k, updates in zip(steps, TEXT_UPDATES, strict=True):
            run = partial(race_texts, k, updates, TEXT_RATE * (k / steps[1]) ** 0.5, tell)
            races.append(self._once("tiny-roberta", k * TEXT_M, run))
        return _trial("tiny RoBERTa", noise, TEXT_M, steps, races, TEXT_TARGET)

    def _known(self, name: str) -> NoiseScale:
        if name not in self._noise:
            self._noise[name] = pilot(subject(name))
        return self._noise[name]

    def _once(self, name: str, batch_size: int, run: Callable[[], Race]) -> Race:
        if (name, batch_size) not in self._made:
            self._made[name, batch_size] = run()
        return self._made[name, batch_size]


def steps_around(
    noise_scale: float, micro_batch_size: int, num_samples: float = np.inf
) -> tuple[int, int, int]:
    """K / 4, K and 4 K, with ``M K`` as near to the noise scale as whole numbers come.

    Raises:
        ValueError: M is no number of examples, the noise scale is not finite or less than two micro-batches,
            or four times K takes more than the data set's examples.
    """
    if micro_batch_size < 1:
        raise ValueError(f"a micro-batch needs 1 example or more; got M = {micro_batch_size}")
    if not 2 * micro_batch_size <= noise_scale < np.inf:
        raise ValueError(
            f"a trial needs a noise scale of two micro-batches (M = {micro_batch_size}) or more; "
            f"got {noise_scale:g}"
        )
    quarter = max(1, round(noise_scale / micro_batch_size / 4))
    if 16 * quarter * micro_batch_size > num_samples:
        raise ValueError(
            f"four times the K for a noise scale of {noise_scale:g} makes B = "
            f"{16 * quarter * micro_batch_size}, and the data set has N = {num_samples:g} examples: try a "
            f"noise scale of {num_samples / 4:g} or less"
        )
    return quarter, 4 * quarter, 16 * quarter


def race_texts(steps: int, updates: int, rate: float, tell: Tell | None = None) -> Race:
    """Tiny RoBERTa with AdamW at one rate: every seed from its own weights, in its own order.

    Args:
        steps: K; M is ``TEXT_M``.
        updates: how many.
        rate: the learning rate.
        tell: called at each evaluation.

    Raises:
        ValueError: an update would have no examples, or more than there are.
    """
    if not 1 <= steps * TEXT_M <= TEXTS:
        raise ValueError(
            f"K must be from 1 to {TEXTS // TEXT_M}, with M = {TEXT_M} and {TEXTS} texts; got {steps}"
        )
    problem = Roberta("tiny", TEXTS + HELD_OUT, TOKENS)
    held_out = problem.batch(torch.arange(TEXTS, TEXTS + HELD_OUT))
    looks = sorted(set(np.linspace(0, updates, TEXT_LOOKS + 1).round().astype(int).tolist()) - {0})
    losses = [_one_run(problem, held_out, steps, looks, rate, seed, tell) for seed in range(TEXT_SEEDS)]
    values = np.array(losses).T[:, None, :]  # (looks, 1 rate, seeds)
    nothing = np.full(values.shape, np.nan)  # accuracies are not looked at
    return Race("AdamW", steps * TEXT_M, np.array([rate]), np.array([0, *looks]), values, nothing)


def _one_run(
    problem: Roberta, held_out: Any, steps: int, looks: list[int], rate: float, seed: int, tell: Tell | None
) -> list[float]:
    model = problem.make_model(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    seen = [_held_out_loss(problem, model, held_out)]
    for made, window in enumerate(islice(_windows(problem, steps, seed), looks[-1]), start=1):
        accumulate(model, window, problem.loss_sum, problem.count)
        apply_update(model, optimizer)
        if made in looks:
            seen.append(_held_out_loss(problem, model, held_out))
            if tell:
                tell()
    return seen


def _windows(problem: Roberta, steps: int, seed: int) -> Iterator[list[Any]]:
    """Epoch after epoch over the first ``TEXTS`` texts; a trailing window is left out: all are alike."""
    generator = torch.Generator().manual_seed(seed)
    usable = TEXTS // (steps * TEXT_M) * steps * TEXT_M
    while True:
        order = torch.randperm(TEXTS, generator=generator)[:usable]
        yield from windows((problem.batch(rows) for rows in order.split(TEXT_M)), steps)


@torch.no_grad()
def _held_out_loss(problem: Roberta, model: torch.nn.Module, held_out: Any) -> float:
    return float(problem.loss_sum(model, held_out)) / HELD_OUT


def _trial(
    name: str, noise: NoiseScale, m: int, steps: tuple[int, int, int], races: list[Race], target: float
) -> Trial:
    updates = min(int(each.updates[-1]) for each in races)
    examples = min(int(each.examples[-1]) for each in races)
    return Trial(
        name, noise, m, steps, tuple(races), to_target(races, target), updates, examples,
        np.array([loss_at(each, updates) for each in races]),
        np.array([loss_at(each, examples / each.batch_size) for each in races]),
    )  # fmt: skip


def loss_at(race: Race, updates: float) -> np.ndarray:
    """(seeds,) held-out loss after N updates, interpolated between two evaluations; the best rate's."""
    rates, seeds = race.losses.shape[1:]
    losses = np.array([
        [np.interp(updates, race.updates, race.losses[:, r, s]) for s in range(seeds)] for r in range(rates)
    ])  # fmt: skip
    return losses[int(losses.mean(axis=1).argmin())]


CONFIDENCE = 0.9  # of the interval of a mean over seeds
WITHIN = 4.0  # the factor between the values of K that were raced


def verdicts(trial: Trial) -> list[Clause]:
    """Equal updates, equal examples, the predicted ratios, and where the critical batch really was."""
    clauses = [_equal(trial, "updates"), _equal(trial, "examples")]
    if not np.isfinite(trial.found.updates).all():
        return [*clauses, Clause(_("every K reaches the target"), False, _not_reached(trial))]
    return [*clauses, _ratio(trial, 0), _ratio(trial, 2), _critical(trial)]


def mean_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of the mean over seeds, by Student's t; the seeds are taken for independent."""
    from scipy.special import stdtrit  # takes a while to import

    half = stdtrit(len(values) - 1, (1 + confidence) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def predicted_interval(trial: Trial, which: int) -> tuple[float, float]:
    """Updates over those of the advised K, over the whole interval of the noise scale."""
    ends = sorted(_predicted(trial, which, scale) for scale in (trial.noise.low, trial.noise.high))
    return ends[0], ends[1]


def _predicted(trial: Trial, which: int, scale: float) -> float:
    sizes = trial.found.batch_sizes
    if np.isinf(scale):  # then B alone counts
        return float(sizes[1] / sizes[which])
    return float((1 + scale / sizes[which]) / (1 + scale / sizes[1]))


def _equal(trial: Trial, what: str) -> Clause:
    """Lower loss for each larger K at equal updates, for each smaller K at equal examples: on average."""
    updates = what == "updates"
    losses = trial.losses_at_updates if updates else trial.losses_at_examples
    budget = trial.same_updates if updates else trial.same_examples
    means = losses.mean(axis=1)
    falls = bool((np.diff(means) < 0).all() if updates else (np.diff(means) > 0).all())
    pairs = zip(trial.steps, losses, strict=True)
    said = clauses(
        [
            _("K = {k}: {mean:.2f} ({low:.2f} to {high:.2f})", k=k, mean=x.mean(), low=x.min(), high=x.max())
            for k, x in pairs
        ]
    )
    if updates:
        return Clause(
            _("at equal updates the larger K is ahead"),
            falls,
            _(
                "held-out loss after {budget:,} updates, mean and range of the seeds: {said}",
                budget=budget,
                said=said,
            ),
        )
    return Clause(
        _("at equal examples the smaller K is ahead"),
        falls,
        _(
            "held-out loss after {budget:,} examples, mean and range of the seeds: {said}",
            budget=budget,
            said=said,
        ),
    )


def _ratio(trial: Trial, which: int) -> Clause:
    """The interval that was predicted meets that of the mean that was measured."""
    measured, (low, high) = trial.measured()[which], predicted_interval(trial, which)
    least, most = mean_interval(measured)
    return Clause(
        _(
            "K = {steps} takes {times:.2f} times the updates of K = {advised}",
            steps=trial.steps[which],
            times=trial.predicted()[which],
            advised=trial.steps[1],
        ),
        bool(least <= high and most >= low),
        _(
            "predicted {low:.2f} to {high:.2f}, by the noise scale's interval; measured "
            "{mean:.2f} ({least:.2f} to {most:.2f}, {confidence:.0%} interval of {seeds} seeds)",
            low=low,
            high=high,
            mean=measured.mean(),
            least=least,
            most=most,
            confidence=CONFIDENCE,
            seeds=len(measured),
        ),
    )


def _critical(trial: Trial) -> Clause:
    critical, scale = trial.found.critical_batch_size, trial.noise.noise_scale
    apart = scale / critical if critical > 0 else np.inf
    return Clause(
        _("the noise scale is the critical batch size, within a factor of {factor:.0f}", factor=WITHIN),
        bool(1 / WITHIN <= apart <= WITHIN),
        _(
            "the noise scale is {scale:.0f}, and {critical:.0f} fits the three races: a factor "
            "of {apart:.1f}",
            scale=scale,
            critical=critical,
            apart=apart,
        ),
    )


def _not_reached(trial: Trial) -> str:
    pairs = zip(trial.steps, trial.found.updates, strict=True)
    missed = listed([f"K = {k}" for k, updates in pairs if not np.isfinite(updates).all()])
    return _(
        "not every seed came to a held-out loss of {target:g}: {missed}",
        target=trial.found.target,
        missed=missed,
    )
