"""What the advice claimed, and whether the races showed it: each claim with its numbers."""

import numpy as np

from accum_lib.records.advice import Trial
from accum_lib.records.memory import Clause
from accum_lib.words import _, clauses, listed

CONFIDENCE = 0.9  # of the interval of a mean over seeds
WITHIN = 4.0  # the factor between the values of K that were raced


def verdicts(trial: Trial) -> list[Clause]:
    """Equal updates, equal examples, the predicted ratios, and where the critical batch really was."""
    clauses = [_equal(trial, "updates"), _equal(trial, "examples")]
    if not np.isfinite(trial.found.updates).all():
        return [*clauses, Clause(_("every K reaches the target"), False, _not_reached(trial))]
    return [*clauses, _ratio(trial, 0), _ratio(trial, 2), _critical(trial)]


def mean_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Where the mean over seeds lies, by Student's t; the seeds are taken for independent."""
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
