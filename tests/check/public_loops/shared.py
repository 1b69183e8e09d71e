"""How a public loop is registered, and what many of them use."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_ as clip

__all__ = ["LOOPS", "Public", "clip", "mean", "public", "summed"]


class Public(NamedTuple):
    """A loop, what it is tried on, and the codes that are right for it."""

    loop: Callable[..., Any]
    origin: str
    k: int
    n: int  # micro-batches in an epoch
    norm: float | None  # to which it is meant to clip
    ragged: frozenset[str]
    even: frozenset[str]


LOOPS: list[Public] = []


def public(
    origin: str, *, k: int, n: int, norm: float | None = None, ragged: str = "", even: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a loop with the codes of its faults, on even data the same ones without a mean of means."""
    codes = frozenset(ragged.split())
    others = codes - {"mean_of_means"} if even is None else frozenset(even.split())

    def register(loop: Callable[..., Any]) -> Callable[..., Any]:
        LOOPS.append(Public(loop, origin, k, n, norm, codes, others))
        return loop

    return register


def mean(logits: Tensor, labels: Tensor) -> Tensor:
    """As nn.CrossEntropyLoss has it: over the labels that are not ignored."""
    return F.cross_entropy(logits, labels, ignore_index=-100)


def summed(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="sum", ignore_index=-100)
