"""Micro-batches by tokens: a window's examples in as few passes as a token budget allows.

A micro-batch is padded to its longest example, so it costs rows times longest. If each has M rows, much of it
is padding; if each may have so many *padded tokens*, short examples share a pass. The window has the same
examples and ``accumulate`` weighs each micro-batch by what it counts, so its gradient stays the same, too.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from accum_lib.accumulate import windows

Example = TypeVar("Example")


def windows_by_tokens(
    examples: Iterable[Example],
    effective_batch_size: int,
    token_budget: int,
    length: Callable[[Example], int] = len,  # type: ignore[assignment]
    collate: Callable[[list[Example]], Any] = list,
) -> Iterator[list[Any]]:
    """Windows of B examples, each in as few micro-batches as fit the budget, longest examples first.

    In place of ``windows``; the rest of the loop stays as it is::

        for window in windows_by_tokens(examples, 32, token_budget=1024, collate=pad):
            result = accumulate(model, window, loss_sum, count)

    Args:
        examples: one by one, shuffled as you like.
        effective_batch_size: B >= 1, examples in one update; the last window may have fewer.
        token_budget: the most padded tokens in one pass, rows times longest: such as M times T of the M that
            ``accum plan`` finds for sequences of T tokens.
        length: tokens of an example.
        collate: makes the micro-batch of its examples; a window is collated when it is its turn.

    Raises:
        TypeError, ValueError: B or the budget is no whole number from 1 on; an example is longer than the
            budget, or has no token; there is no example at all.
    """
    _check("the effective batch size B", effective_batch_size)
    _check("the token budget", token_budget)

    def generate() -> Iterator[list[Any]]:
        start = 0
        for window in windows(examples, effective_batch_size):
            lengths = [length(example) for example in window]
            _check_lengths(lengths, token_budget, start)
            start += len(window)
            yield [collate([window[i] for i in part]) for part in packed(lengths, token_budget)]

    return generate()


def packed(lengths: Sequence[int], token_budget: float, most: float = math.inf) -> list[list[int]]:
    """Indices of each micro-batch's examples, longest first: as few as fit, and as little padding in them.

    From the shortest example on, the best cut of all that are no longer is found from the best cuts of those
    that are shorter. An example longer than the budget is alone.

    Args:
        lengths: (examples,) tokens of each, 1 or more.
        token_budget: the most rows times longest.
        most: rows in one micro-batch, at most.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    best = [(0, 0, 0)] * (len(order) + 1)  # from each on: micro-batches, padded tokens, where the next begins
    for start in reversed(range(len(order))):
        longest = lengths[order[start]]
        rows = int(max(1, min(most, token_budget // longest, len(order) - start)))
        best[start] = min(
            (best[end][0] + 1, best[end][1] + longest * (end - start), end)
            for end in range(start + 1, start + rows + 1)
        )
    found, start = [], 0
    while start < len(order):
        end = best[start][2]
        found.append(order[start:end])
        start = end
    return found


def _check(name: str, value: int) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, such as 1024; got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more; got {value}")


def _check_lengths(lengths: Sequence[int], token_budget: int, start: int) -> None:
    for i, tokens in enumerate(lengths, start):
        if tokens < 1:
            raise ValueError(f"example {i} has {tokens} tokens: leave it out, or check length")
        if tokens > token_budget:
            raise ValueError(
                f"example {i} has {tokens} tokens, more than the budget of {token_budget} for one pass: "
                "raise the budget, or truncate it"
            )
