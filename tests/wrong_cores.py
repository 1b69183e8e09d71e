"""Six published ways to get gradient accumulation wrong, each an epoch with exactly one mistake.

They exist so that the tests can show that they would notice: a check that lets one of these pass
checks nothing. Every core is called as ``core(model, optimizer, batches, accumulation_steps)``.
"""

from collections.abc import Iterator, Sequence

from reference import Batch, count, loss_sum
from torch import nn
from torch.optim import Optimizer


def no_division(model: nn.Module, optimizer: Optimizer, batches: Sequence[Batch], steps: int) -> None:
    """Adds up the micro-batches' mean gradients and never divides: up to K times too long a step."""
    for window in _cut(batches, steps):
        for batch in window:
            _backward(model, batch, divisor=count(batch))
        _update(optimizer)


def mean_of_means(model: nn.Module, optimizer: Optimizer, batches: Sequence[Batch], steps: int) -> None:
    """Averages the micro-batches' means as if all of them counted the same number of tokens."""
    for window in _cut(batches, steps):
        for batch in window:
            _backward(model, batch, divisor=count(batch) * len(window))
        _update(optimizer)


def off_by_one(model: nn.Module, optimizer: Optimizer, batches: Sequence[Batch], steps: int) -> None:
    """Steps at ``i % K == 0``: the first update comes after one micro-batch, every later one is late."""
    totals = _totals(batches, steps)
    for i, batch in enumerate(batches):
        _backward(model, batch, divisor=totals[i])
        if i % steps == 0:
            _update(optimizer)


def dropped_tail(model: nn.Module, optimizer: Optimizer, batches: Sequence[Batch], steps: int) -> None:
    """Leaves out the epoch's last window if it is shorter than K."""
    for window in _cut(batches, steps):
        if len(window) == steps:
            _right(model, optimizer, window)


def leaked_tail(model: nn.Module, optimizer: Optimizer, batches: Sequence[Batch], steps: int) -> None:
    """Leaves a shorter last window's gradient lying in ``.grad``, for the next epoch to step on."""
    for window in _cut(batches, steps):
        for batch in window:
            _backward(model, batch, divisor=_total(window))
        if len(window) == steps:
            _update(optimizer)


def tail_divided_by_k(model: nn.Module, optimizer: Optimizer, batches: Sequence[Batch], steps: int) -> None:
    """Divides a shorter last window as if it had K micro-batches: too short a step."""
    for window in _cut(batches, steps):
        for batch in window:
            _backward(model, batch, divisor=_total(window) * steps / len(window))
        _update(optimizer)


WRONG_CORES = (no_division, mean_of_means, off_by_one, dropped_tail, leaked_tail, tail_divided_by_k)


def _right(model: nn.Module, optimizer: Optimizer, window: Sequence[Batch]) -> None:
    for batch in window:
        _backward(model, batch, divisor=_total(window))
    _update(optimizer)


def _backward(model: nn.Module, batch: Batch, divisor: float) -> None:
    if count(batch) > 0:  # the mean over no tokens is another mistake than those shown here
        (loss_sum(model, batch) / divisor).backward()


def _update(optimizer: Optimizer) -> None:
    optimizer.step()
    optimizer.zero_grad()


def _cut(batches: Sequence[Batch], steps: int) -> Iterator[Sequence[Batch]]:
    for start in range(0, len(batches), steps):
        yield batches[start : start + steps]


def _total(window: Sequence[Batch]) -> int:
    return sum(count(batch) for batch in window)


def _totals(batches: Sequence[Batch], steps: int) -> list[int]:
    """For each micro-batch, the count of the window that it belongs to."""
    return [_total(window) for window in _cut(batches, steps) for _ in window]
