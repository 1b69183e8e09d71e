"""Full-batch, mini-batch and accumulated gradient descent: one loop, three settings of (M, K).

full batch:    M = N, K = 1     every sample in one pass
mini-batch:    M = B, K = 1     some samples, one pass for each update
accumulated:   M < B, K = B/M   the same samples, several passes for each update
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from accum_lib.extras import need

need(__name__, "notebooks", "numpy")

import numpy as np
import torch
from torch import nn

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.losses import count_samples
from accum_lib.problems.base import Problem, micro_batches
from accum_lib.vectors import flat
from accum_lib.words import _

MakeOptimizer = Callable[..., torch.optim.Optimizer]


@dataclass(frozen=True)
class Run:
    """The record of one descent. ``U`` is the number of optimizer updates.

    Attributes:
        name: what was run, in words.
        micro_batch_size: M, samples in one forward and backward pass.
        accumulation_steps: K, micro-batches in one update.
        learning_rate: as given to the optimizer.
        losses: (U,) the mean loss over each update's window, before that update.
        examples_seen: (U,) samples used up to and including each update.
        trajectory: (U + 1, parameters) the weights before the first and after each update, or None.
        gradients: (U, parameters) the gradient that each update used, or None.
        forward_passes, backward_passes: how many in all, counted as they happened.
        seconds: wall-clock time of the whole loop.
        diverged: it stopped early, at a window whose loss was above ``loss_limit``.
        model: the model at the end.
    """

    name: str
    micro_batch_size: int
    accumulation_steps: int
    learning_rate: float
    losses: np.ndarray
    examples_seen: np.ndarray
    trajectory: np.ndarray | None
    gradients: np.ndarray | None
    forward_passes: int
    backward_passes: int
    seconds: float
    diverged: bool
    model: nn.Module

    @property
    def updates(self) -> int:
        """How many optimizer updates were made."""
        return len(self.losses)

    @property
    def effective_batch_size(self) -> int:
        """B = M·K, samples in one update (the last of an epoch may have fewer)."""
        return self.micro_batch_size * self.accumulation_steps


def descend(
    problem: Problem,
    *,
    micro_batch_size: int,
    accumulation_steps: int = 1,
    learning_rate: float | None = None,
    epochs: int = 1,
    max_updates: int | None = None,
    gradient: str = "mean",
    make_optimizer: MakeOptimizer = torch.optim.SGD,
    loss_limit: float = math.inf,
    record: bool = False,
    seed: int = 0,
    name: str = "descent",
) -> Run:
    """Descend a problem and record what happened.

    Args:
        problem: the data, the model and the loss.
        micro_batch_size: M, from 1 to N.
        accumulation_steps: K, 1 or more.
        learning_rate: None takes the problem's own.
        epochs: passes over the data; a window never spans two of them.
        max_updates: stop after this many updates, even mid-epoch.
        gradient: "mean" over the window, or "sum" of its micro-batches' mean gradients (the formula that is
            often printed): K times as large for a window of K micro-batches.
        make_optimizer: called as ``make_optimizer(parameters, lr=learning_rate)``.
        loss_limit: give up before the update once a window's mean loss is above this.
        record: keep the trajectory and the gradients; for small models.
        seed: draws the initial weights and the order of the samples.
        name: kept in the record.

    Returns:
        The ``Run``.

    Raises:
        ValueError: a setting is out of range, or the descent reached a loss that is not finite.
    """
    rate = problem.default_learning_rate if learning_rate is None else learning_rate
    _check(gradient, epochs, max_updates, rate)
    model = problem.make_model(seed)
    optimizer = make_optimizer(model.parameters(), lr=rate)
    losses, samples, points, gradients = [], [], [_parameters(model)] if record else [], []
    diverged, started = False, time.perf_counter()
    stream = _windows_of_epochs(problem, micro_batch_size, accumulation_steps, epochs, seed)
    with count_passes(model) as passes:
        for window in islice(stream, max_updates):
            result = accumulate(model, window, problem.loss_sum, problem.count)
            diverged = result.loss > loss_limit
            if diverged:
                break
            if gradient == "sum":
                _scale_gradient(model, result.micro_batches)
            if record:
                gradients.append(_gradient(model))
            apply_update(model, optimizer)
            losses.append(result.loss)
            samples.append(sum(count_samples(batch) for batch in window))
            if record:
                points.append(_parameters(model))
    return Run(
        name=name,
        micro_batch_size=micro_batch_size,
        accumulation_steps=accumulation_steps,
        learning_rate=rate,
        losses=np.array(losses),
        examples_seen=np.cumsum(samples),
        trajectory=np.array(points) if record else None,
        gradients=np.array(gradients) if record else None,
        forward_passes=passes["forward"],
        backward_passes=passes["backward"],
        seconds=time.perf_counter() - started,
        diverged=diverged,
        model=model,
    )


def full_batch(problem: Problem, **settings: Any) -> Run:
    """Descend a ``problem`` with every sample in one pass for each update: M = N, K = 1.

    All other settings, and errors, as for ``descend``.
    """
    return descend(problem, micro_batch_size=problem.num_samples, name=_("full batch"), **settings)


def mini_batch(problem: Problem, batch_size: int, **settings: Any) -> Run:
    """Descend a ``problem`` with ``batch_size`` samples in one pass for each update: M = B, K = 1.

    All other settings, and errors, as for ``descend``.
    """
    return descend(problem, micro_batch_size=batch_size, name=_("mini-batch"), **settings)


def accumulated(problem: Problem, micro_batch_size: int, accumulation_steps: int, **settings: Any) -> Run:
    """Descend a ``problem`` with B = M·K samples in K passes for each update.

    M is ``micro_batch_size``, K ``accumulation_steps``; all other settings, and errors, as for ``descend``.
    """
    return descend(
        problem,
        micro_batch_size=micro_batch_size,
        accumulation_steps=accumulation_steps,
        name=_("accumulated"),
        **settings,
    )


@contextmanager
def count_passes(model: nn.Module) -> Iterator[dict[str, int]]:
    """Count the ``model``'s passes as they happen, in ``{"forward": ..., "backward": ...}``."""
    passes = {"forward": 0, "backward": 0}

    def forward(*_: Any) -> None:
        passes["forward"] += 1

    def backward(_: Any) -> None:
        passes["backward"] += 1

    watched = next(p for p in model.parameters() if p.requires_grad)
    hooks = [model.register_forward_hook(forward), watched.register_hook(backward)]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


def _windows_of_epochs(
    problem: Problem, micro_batch_size: int, accumulation_steps: int, epochs: int, seed: int
) -> Iterator[list[Any]]:
    order = torch.Generator().manual_seed(seed)
    for _epoch in range(epochs):
        yield from windows(micro_batches(problem, micro_batch_size, order), accumulation_steps)


def _check(gradient: str, epochs: int, max_updates: int | None, rate: float) -> None:
    if gradient not in ("mean", "sum"):
        raise ValueError(f"gradient must be 'mean' or 'sum'; got {gradient!r}")
    if epochs < 1:
        raise ValueError(f"epochs must be 1 or more; got {epochs}")
    if max_updates is not None and max_updates < 1:
        raise ValueError(f"max_updates must be 1 or more, or None; got {max_updates}")
    if not rate > 0:
        raise ValueError(f"learning_rate must be above 0; got {rate}")


def _scale_gradient(model: nn.Module, factor: float) -> None:
    for p in model.parameters():
        if p.grad is not None:
            p.grad.mul_(factor)


def _parameters(model: nn.Module) -> np.ndarray:
    return flat(model.parameters(), dtype=None).numpy(force=True)


def _gradient(model: nn.Module) -> np.ndarray:
    return flat((p.grad for p in model.parameters()), dtype=None).numpy(force=True)
