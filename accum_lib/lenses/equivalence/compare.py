"""Each update that a loop made, beside the one that it should have made: numbers only, no verdict."""

import math

import numpy as np
import torch
from torch import Tensor

from accum_lib.lenses.equivalence.case import Case
from accum_lib.lenses.equivalence.recorder import Update, Vectors
from accum_lib.lenses.equivalence.reference import Reference, flat, rounding_tolerance
from accum_lib.records.equivalence import ModelFacts, UpdateCheck


def compare_updates(updates: list[Update], reference: Reference, case: Case) -> list[UpdateCheck]:
    """Compare the updates of each epoch, in order, with its windows, in order."""
    windows, checks = case.windows(), []
    for number, update in enumerate(updates):
        place = sum(1 for earlier in updates[:number] if earlier.epoch == update.epoch)
        window = place if place < len(windows) and update.epoch < case.epochs else None
        passes = update.passes - (updates[number - 1].passes if number else 0)
        checks.append(_compare(update, reference, case, window, passes))
    return checks


def _compare(
    update: Update, reference: Reference, case: Case, window: int | None, passes: int
) -> UpdateCheck:
    expected = case.windows()[window] if window is not None else ()
    reference.load(update)
    right = clipped(reference.of_big_batch(expected), case.max_grad_norm) if expected else {}
    found, names = update.gradient, update.weights
    both = [n for n in names if n in found and n in right]
    error, scale = _error_and_scale(flat(found, names), flat(right, names)) if both else (math.nan, math.nan)
    worst, worst_error = _worst(found, right, both)
    weights, unexplained = micro_batch_weights(found, reference, case, names)
    return UpdateCheck(
        epoch=update.epoch,
        window=window,
        expected=tuple(expected),
        weights=weights,
        relative_error=error,
        scale=scale,
        worst_parameter=worst,
        worst_error=worst_error,
        tensors_compared=len(both),
        missing=tuple(n for n in names if n in right and n not in found and bool(right[n].any())),
        unexplained=unexplained,
        moved=update.moved,
        learning_rate=update.learning_rate,
        passes=passes,
    )


def micro_batch_weights(
    found: Vectors, reference: Reference, case: Case, like: Vectors
) -> tuple[np.ndarray, float]:
    """How much each micro-batch weighs in a gradient, by least squares on their own gradients.

    A right gradient is the sum of the micro-batches' gradients of the loss **sum**, each over the count of
    its window. So a fitted coefficient, times that count, is 1 where a micro-batch weighs what it should.

    Returns:
        (N,) the weights (NaN for a micro-batch that counts nothing, and for all of them if there are fewer
        parameters than micro-batches), and the part of the gradient that they do not explain, relative.
    """
    weights = np.full(len(case.batches), np.nan)
    counted = [i for i, c in enumerate(reference.counts.tolist()) if c > 0]
    columns = torch.stack([flat(reference.of_micro_batch(i), like) for i in counted], dim=1)
    target = flat(found, like)
    if len(target) < len(counted) or not target.isfinite().all():
        return weights, math.nan
    if not target.any():
        weights[counted] = 0.0
        return weights, 0.0
    lengths = columns.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny)
    fitted = torch.linalg.lstsq(columns / lengths, target.unsqueeze(1), driver="gelsd").solution.squeeze(1)
    unexplained = float((columns / lengths @ fitted - target).norm() / target.norm())
    totals = np.zeros(len(case.batches))
    for window in case.windows():
        totals[list(window)] = float(reference.counts[list(window)].sum())
    weights[counted] = (fitted / lengths).numpy() * totals[counted]
    return weights, unexplained


def model_facts(reference: Reference, case: Case, like: Vectors) -> ModelFacts:
    """Whether the model, by itself, lets a big batch be cut: see ``ModelFacts``."""
    window = max(case.windows(), key=len)
    first = next(i for i in window if reference.counts[i] > 0)
    once, again = (flat(reference.of_micro_batch(first, seed), like) for seed in (1, 2))
    random_error = float((once - again).norm() / once.norm())
    if random_error > 0:
        return ModelFacts(math.nan, math.nan, random_error)
    batch_error = _batch_error(reference, window, like)
    held = _batch_error(reference, window, like) if reference.hold_batch_norm() else batch_error
    return ModelFacts(batch_error, held, random_error)


def tolerance_of(reference: Reference, case: Case, like: Vectors) -> float:
    """What rounding may make of the longest window's gradient, at the weights that are loaded."""
    window = max(case.windows(), key=len)
    parts = [flat(reference.of_micro_batch(i), like) for i in window]
    whole = torch.stack(parts).sum(dim=0).norm()
    condition = float(sum(p.norm() for p in parts) / whole)
    return rounding_tolerance(reference.coarsest_dtype(window), reference.chain_length(window), condition)


def clipped(gradient: Vectors, max_norm: float | None) -> Vectors:
    """The gradient, shortened to this 2-norm over all tensors if it is longer."""
    if max_norm is None or not gradient:
        return gradient
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradient.values()))
    factor = min(1.0, max_norm / (norm + 1e-6))  # as torch's clip_grad_norm_ has it
    return {n: g * factor for n, g in gradient.items()}


def _batch_error(reference: Reference, window: tuple[int, ...], like: Vectors) -> float:
    whole = flat(reference.of_big_batch(window), like)
    total = float(reference.counts[list(window)].sum())
    parts = torch.stack([flat(reference.of_micro_batch(i), like) for i in window]).sum(dim=0) / total
    return float((parts - whole).norm() / whole.norm())


def _error_and_scale(found: Tensor, right: Tensor) -> tuple[float, float]:
    square = float(right @ right)
    if square == 0:
        return math.nan, math.nan
    return float((found - right).norm()) / math.sqrt(square), float(found @ right) / square


def _worst(found: Vectors, right: Vectors, names: list[str]) -> tuple[str, float]:
    """The tensor that is furthest off, relative to its own norm (or to the largest, where its own is 0)."""
    largest = max((float(right[n].double().norm()) for n in names), default=0.0)
    errors = {}
    for name in names:
        norm = float(right[name].double().norm())
        off = float((found[name].double() - right[name].double()).norm())
        errors[name] = off / (norm if norm > 1e-6 * largest else largest) if largest else math.nan
    name = max(errors, key=lambda n: errors[n] if math.isfinite(errors[n]) else math.inf, default="")
    return name, errors.get(name, math.nan)
