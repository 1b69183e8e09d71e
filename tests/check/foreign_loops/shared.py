"""How a stranger's loop is registered, and what both strangers use."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

IGNORED = -100


class Foreign(NamedTuple):
    """A loop and the codes expected for it; none for a right one."""

    loop: Callable[..., Any]
    codes: frozenset[str]


LOOPS: list[Foreign] = []


def right(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Register a loop whose updates are those of one big batch."""
    LOOPS.append(Foreign(loop, frozenset()))
    return loop


def wrong(*codes: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a loop with these faults."""

    def register(loop: Callable[..., Any]) -> Callable[..., Any]:
        LOOPS.append(Foreign(loop, frozenset(codes)))
        return loop

    return register


def counted(labels: Any) -> int:
    """How many labels are not ignored."""
    return int((labels != IGNORED).sum())


def chunks(batches: Any, size: int) -> Iterator[list[Any]]:
    """Windows by islice; the last may be shorter."""
    stream = iter(batches)
    while window := list(itertools.islice(stream, size)):
        yield window
