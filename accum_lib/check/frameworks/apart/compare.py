"""What updates an adapter has made, beside those of one big batch: each step as a sum of gradients.

A step, divided by the learning rate, is fitted by the gradients of all micro-batches' mean losses at the
parameters before it. The weights that come out say which micro-batches are in the update, and how much each
counts; right is its share of the window's rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accum_lib.check.frameworks.apart.cases import Array, ArrayCase

EXACT = "exact"
TIMES = "times too large"
MEAN_OF_MEANS = "mean of means"
SUM_OF_MEANS = "sum of means: never divided by K"
TAIL_BY_K = "short window divided by K"
TAIL_MEANS = "short window: mean of means"
TAIL_WEIGHTS = "short window: other weights"
NEVER_STEPS = "the last window never steps"
CARRIED = "the short window is carried into the next epoch"
DROPPED = "the short window is dropped"
NO_UPDATE = "no update at all"
ELSEWHERE = "windows start elsewhere"
OTHER_WEIGHTS = "other weights"
NO_SUM = "no sum of the micro-batches' gradients"
AVERAGE = "the weights' average is taken at every micro-batch"
TOLERANCE = {"float64": 1e-6, "float32": 2e-3}


@dataclass(frozen=True)
class Update:
    """One update: after how many micro-batches, its step over the rate, and what it is made of.

    Attributes:
        position: micro-batches taken so far, over all epochs.
        step: the gradient that was stepped with.
        weights: how much each micro-batch's mean gradient counts in it.
        residual: what they do not explain, beside the step's length.
        means: the gradient of each micro-batch's mean loss before the update.
        big: the gradient of the window's big batch, if it is no sum of them.
    """

    position: int
    step: Array
    weights: Array
    residual: float
    means: Array
    big: dict[int, Array]


@dataclass(frozen=True)
class Verdict:
    """What was seen in one case: the steps' lengths along the true gradient, the error, what is wrong."""

    factor: float | None
    error: float | None
    wrong: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether every update is the one of one big batch."""
        return not self.wrong


def compare(case: ArrayCase, found: dict[str, Any]) -> Verdict:
    """Compare what an adapter gave back.

    Args:
        case: what it was given.
        found: its ``updates``, pairs of a position and the parameters there, and its ``dtype``. A model of
            the adapter's own comes with the parameters at the ``start``, each micro-batch's ``counts``, and
            before each update the ``means`` and, where a loss is not a sum over rows, the ``big`` gradients
            of the windows. With an ``average`` of the weights at the end comes its ``momentum``.
    """
    tolerance = TOLERANCE[found["dtype"]]
    counts = np.array(found.get("counts", case.counts), dtype=float)
    updates = _updates(case, found)
    windows = {w.stop: w for w in case.windows()}
    total, seen = len(counts), {u.position: u for u in updates}
    factors, errors, wrong = [], [], []
    for update in updates:
        window = windows.get((update.position - 1) % total + 1)
        if window is None:
            wrong.append(ELSEWHERE)
            continue
        share = np.zeros(total)
        share[window.start : window.stop] = counts[window.start : window.stop]
        share /= share.sum()
        true = update.big.get(window.stop, share @ update.means)
        factors.append(float(update.step @ true / (true @ true)))
        errors.append(float(np.linalg.norm(update.step - true) / np.linalg.norm(true)))
        if errors[-1] > tolerance:
            wrong.append(_weights(update, share, window, case.accumulation_steps, tolerance))
    wrong += _missing(case, seen, tolerance)
    if "average" in found and not any(
        np.allclose(right, found["average"], rtol=0, atol=tolerance) for right in _averages(case, found)
    ):
        wrong.append(AVERAGE)
    if not updates:
        wrong = [NO_UPDATE]
    elif CARRIED in wrong:
        wrong = [each for each in wrong if each != ELSEWHERE]  # so they do
    return Verdict(
        max(factors, key=lambda f: abs(f - 1), default=None),
        max(errors, default=None),
        tuple(dict.fromkeys(wrong)),
    )


def _updates(case: ArrayCase, found: dict[str, Any]) -> list[Update]:
    before = np.array(found.get("start", case.start()), dtype=float)
    updates = []
    for i, (position, parameters) in enumerate(found["updates"]):
        after = np.array(parameters, dtype=float)
        step = (before - after) / case.rate
        if not step.any():
            continue
        means = np.array(found["means"][i]) if "means" in found else case.means(before)
        big = {int(k): np.array(v) for k, v in found["big"][i].items()} if "big" in found else {}
        weights = np.linalg.lstsq(means.T, step, rcond=None)[0]
        residual = float(np.linalg.norm(weights @ means - step) / np.linalg.norm(step))
        updates.append(Update(position, step, weights, residual, means, big))
        before = after
    return updates


def _averages(case: ArrayCase, found: dict[str, Any]) -> list[Array]:
    """Moving averages of the parameters, one step for each update: from the first on, or from the start."""
    states = [case.start()]
    for _, parameters in found["updates"]:
        if not np.array_equal(after := np.array(parameters), states[-1]):
            states.append(after)
    averages = []
    for first in (states[1:2] or states)[0], states[0]:
        average = first
        for after in states[1:] if first is states[0] else states[2:]:
            average = found["momentum"] * average + (1 - found["momentum"]) * after
        averages.append(average)
    return averages


def _weights(update: Update, share: Array, window: range, steps: int, tolerance: float) -> str:
    """How the micro-batches' weights depart from their shares of the window."""
    if update.big or update.residual > 10 * tolerance:
        return NO_SUM
    inside, length = update.weights[window.start : window.stop], len(window)
    outside = np.delete(update.weights, np.arange(window.start, window.stop))
    if np.any(np.abs(outside) > 10 * tolerance):
        return ELSEWHERE
    share, short = share[window.start : window.stop], length < steps

    def like(expected: Sequence[float] | Array) -> bool:
        return bool(np.allclose(inside, expected, rtol=0, atol=10 * tolerance))

    if short and like(np.full(length, 1 / steps)):
        return TAIL_BY_K
    if like(np.full(length, 1 / length)):
        return TAIL_MEANS if short else MEAN_OF_MEANS
    if like(np.ones(length)):
        return SUM_OF_MEANS
    factor = float(inside @ share / (share @ share))
    if like(share * factor):
        return TAIL_WEIGHTS if short else f"{factor:.3g} {TIMES}"
    return TAIL_WEIGHTS if short else OTHER_WEIGHTS


def _missing(case: ArrayCase, seen: dict[int, Update], tolerance: float) -> list[str]:
    """What became of the windows after which there is no update."""
    total, wrong = len(case.labels), []
    for epoch in range(case.epochs):
        for window in case.windows():
            end = epoch * total + window.stop
            if end in seen:
                continue
            later = [seen[p] for p in sorted(seen) if p > end]
            inside = later[0].weights[window.start : window.stop] if later else np.zeros(1)
            if not later:
                wrong.append(NEVER_STEPS)
            elif np.any(np.abs(inside) > 10 * tolerance) and window.stop == total:
                wrong.append(CARRIED)
            else:
                wrong.append(DROPPED if window.stop == total else ELSEWHERE)
    return wrong
