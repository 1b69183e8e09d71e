"""Each update that a loop made, beside the one that it should have made: numbers only, no verdict."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from accum_lib.check.case import Case
from accum_lib.check.recorder import RecordedUpdate, Vectors
from accum_lib.check.reference import Reference, aligned, norm, rounding_tolerance
from accum_lib.check.report import ModelFacts, UpdateCheck


def compare_updates(
    updates: list[RecordedUpdate], reference: Reference, case: Case, starts: list[int], all_passes: int
) -> list[UpdateCheck]:
    """Compare the updates of each epoch, in order, with its windows, in order.

    Args:
        updates: as recorded; ``epoch`` is None for a loop that ran through all epochs by itself.
        starts: how many backward passes there had been when each epoch began; completed in that case.
        all_passes: how many backward passes there were.
    """
    weights = []
    for update in updates:
        reference.load(update)
        weights.append(micro_batch_weights(update.gradient, reference, case))
    if updates and updates[0].epoch is None:
        number = len(case.batches)
        if all_passes == case.epochs * number:  # a backward pass for each micro-batch
            starts[:] = range(0, all_passes, number)
            for update in updates:
                update.epoch = max(update.passes - 1, 0) // number
        else:
            _tell_epochs_apart(updates, weights, case)
            epochs = sorted({u.epoch or 0 for u in updates})
            starts[:] = [0, *(min(u.passes for u in updates if u.epoch == e) for e in epochs[1:])]
    checks: list[UpdateCheck] = []
    for number, (update, found) in enumerate(zip(updates, weights, strict=True)):
        epoch = update.epoch or 0
        place = sum(1 for earlier in checks if earlier.epoch == epoch)
        window = place if place < len(case.windows()) and epoch < case.epochs else None
        passes = update.passes - (updates[number - 1].passes if number else 0)
        checks.append(_compare(update, found, reference, case, window, passes))
    return checks


def _tell_epochs_apart(
    updates: list[RecordedUpdate], weights: list[tuple[np.ndarray, float]], case: Case
) -> None:
    """A new epoch begins where an update's micro-batches come before those of the update before it."""
    windows, epoch, earlier = case.windows(), 0, -1
    for update, (found, unexplained) in zip(updates, weights, strict=True):
        strong = {i for i, w in enumerate(np.abs(np.nan_to_num(found))) if w > 1e-3}
        if strong and unexplained < 1e-3:
            window = max(
                windows, key=lambda w: len(strong & set(w))
            )  # what has leaked in is the smaller part
            first = min(strong & set(window))
            epoch, earlier = epoch + (first <= earlier), first
        else:  # no weights to go by: an epoch has a backward pass for each micro-batch
            epoch = max((update.passes - 1) // len(case.batches), 0)
        update.epoch = epoch


def _compare(
    update: RecordedUpdate,
    found_weights: tuple[np.ndarray, float],
    reference: Reference,
    case: Case,
    window: int | None,
    passes: int,
) -> UpdateCheck:
    expected = case.windows()[window] if window is not None else ()
    reference.load(update)
    found, names = update.gradient, update.weights
    right = reference.of_big_batch(expected) if expected else {}
    right = clipped(right, case.max_grad_norm, norm(found))
    both = [n for n in names if n in found and n in right]
    error, scale = (
        _error_and_scale(aligned(found, names), aligned(right, names)) if both else (math.nan, math.nan)
    )
    worst, worst_error = _worst(found, right, both)
    return UpdateCheck(
        epoch=update.epoch or 0,
        window=window,
        expected=tuple(expected),
        weights=found_weights[0],
        relative_error=error,
        scale=scale,
        worst_parameter=worst,
        worst_error=worst_error,
        tensors_compared=len(both),
        missing=tuple(n for n in names if n in right and n not in found and bool(right[n].any())),
        unexplained=found_weights[1],
        moved=update.moved,
        learning_rate=update.learning_rate,
        passes=passes,
    )


def micro_batch_weights(
    found: Vectors, reference: Reference, case: Case, besides: Sequence[Vectors] = ()
) -> tuple[np.ndarray, float]:
    """How much each micro-batch weighs in a gradient, by least squares on their own gradients.

    A right gradient is the sum of the micro-batches' gradients of the loss **sum**, each over the count of
    its window. So a fitted coefficient, times that count, is 1 where a micro-batch weighs what it should.
    Parameters that have no gradient here are left out of the fit. ``besides`` are other gradients that may
    be contained in it.

    Returns:
        (N,) the weights (NaN for a micro-batch that counts nothing, and for all of them if there are fewer
        parameters than micro-batches), and the part of the gradient that they do not explain, relative.
    """
    weights = np.full(len(case.batches), np.nan)
    counted = [i for i, c in enumerate(reference.counts.tolist()) if c > 0]
    if not found:
        return weights, math.nan
    parts = [*(reference.of_micro_batch(i) for i in counted), *besides]
    columns = torch.stack([aligned(part, found) for part in parts], dim=1)
    target = aligned(found, found)
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
    weights[counted] = (fitted / lengths).numpy()[: len(counted)] * totals[counted]
    return weights, unexplained


def model_facts(reference: Reference, case: Case, like: Vectors) -> ModelFacts:
    """Whether the model, by itself, lets a big batch be cut: see ``ModelFacts``."""
    window = max(case.windows(), key=len)
    first = next(i for i in window if reference.counts[i] > 0)
    once, again = (aligned(reference.of_micro_batch(first, seed), like) for seed in (1, 2))
    random_error, moving = float((once - again).norm() / once.norm()), reference.moving_state(first)
    if random_error > 0:
        return ModelFacts(math.nan, math.nan, random_error, moving)
    batch_error = _batch_error(reference, window, like)
    with reference.batch_norm_held() as any_norm:
        held = _batch_error(reference, window, like) if any_norm else batch_error
    return ModelFacts(batch_error, held, random_error, moving)


def tolerance_of(reference: Reference, case: Case, like: Vectors, dtype: torch.dtype | None = None) -> float:
    """What rounding may make of the longest window's gradient, at the weights that are loaded.

    Rounding to ``dtype``, or to the lowest precision in which the reference computes anything.
    """
    window = max(case.windows(), key=len)
    parts = [aligned(reference.of_micro_batch(i), like) for i in window]
    whole = torch.stack(parts).sum(dim=0).norm()
    condition = float(sum(p.norm() for p in parts) / whole)
    coarsest = dtype or reference.coarsest_dtype(window)
    return rounding_tolerance(coarsest, reference.chain_length(window), condition)


def clipped(gradient: Vectors, max_norm: float | None, length: float) -> Vectors:
    """The gradient, shortened to this 2-norm over all tensors if it is longer.

    Torch's ``clip_grad_norm_`` adds 1e-6 to the norm, and others do not. Both are right, and so is each
    length between; among them it is the one nearest to ``length``.
    """
    own = norm(gradient)
    if max_norm is None or own <= max_norm - 1e-6:
        return gradient
    highest = min(own, max_norm)
    lowest = highest * max_norm / (max_norm + 1e-6)  # of a gradient that is hardly too long
    factor = min(max(length, lowest), highest) / own
    return {n: g * factor for n, g in gradient.items()}


def _batch_error(reference: Reference, window: tuple[int, ...], like: Vectors) -> float:
    whole = aligned(reference.of_big_batch(window), like)
    total = float(reference.counts[list(window)].sum())
    parts = torch.stack([aligned(reference.of_micro_batch(i), like) for i in window]).sum(dim=0) / total
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
