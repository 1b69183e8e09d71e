"""How exact is exact? A window's gradient in several number formats, for many K, beside one big batch.

The right weighing goes through the core. The wrong ones, and the coarse buffers, are what the microscope is
there to show: each adds up the micro-batches' own gradients, with other weights or in another format.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from accum_lib.accumulate import accumulate
from accum_lib.check.case import cast, token_batch, token_loss_sum, token_model
from accum_lib.check.reference import layer_chain, rounding_tolerance
from accum_lib.lessons.equivalence.record import Microscope
from accum_lib.losses import count_tokens
from accum_lib.vectors import flat, gradient_of
from accum_lib.words import N_

STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
FORMATS: dict[str, tuple[torch.dtype, torch.dtype]] = {  # of the computation, of the buffer
    "float64": (torch.float64, torch.float64),
    "float32": (torch.float32, torch.float32),
    N_("float32, float16 buffer"): (torch.float32, torch.float16),
    N_("float32, bfloat16 buffer"): (torch.float32, torch.bfloat16),
}
REDUCTIONS = ("right", N_("mean of means"), N_("not divided"))
Batch = tuple[Tensor, Tensor]


def microscope(name: str, reduction: str, ragged: bool, steps: Sequence[int] = STEPS) -> Microscope:
    """Measure one format and one weighing for every K.

    Args:
        name: one of ``FORMATS``.
        reduction: one of ``REDUCTIONS``.
        ragged: micro-batches that count 1 to 12 tokens, or 6 each.
        steps: every K.

    Raises:
        ValueError: the format or the reduction is not known.
    """
    if name not in FORMATS:
        raise ValueError(f"the format must be one of {list(FORMATS)}; got {name!r}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {list(REDUCTIONS)}; got {reduction!r}")
    found = [_measure(name, reduction, ragged, k) for k in steps]
    counts = tuple(_counts(ragged, k) for k in steps)
    return Microscope(
        format=name,
        reduction=reduction,
        ragged=ragged,
        steps=np.array(steps),
        errors=np.array([error for error, _ in found]),
        bounds=np.array([bound for _, bound in found]),
        counts=counts,
        weights=tuple(_shares(reduction, n) * n.sum() / n for n in counts),
        unit=max(torch.finfo(dtype).eps for dtype in FORMATS[name]) / 2,
    )


def _measure(name: str, reduction: str, ragged: bool, k: int) -> tuple[float, float]:
    """The relative error of the window's gradient, and what rounding may make of it."""
    computation, buffer = FORMATS[name]
    window = _window(ragged, k)
    exact = _one_big_batch(ragged, k)
    if reduction == "right" and buffer is computation:
        found = _through_the_core(window, computation)
    else:
        found = _added_up(window, _shares(reduction, _counts(ragged, k)), computation, buffer)
    tokens = int(_counts(ragged, k).sum())
    own = rounding_tolerance(computation, tokens + layer_chain(token_model()))
    added = 0.0 if buffer is computation else rounding_tolerance(buffer, k, _condition(ragged, k))
    return float((found - exact).norm() / exact.norm()), own + added


def _window(ragged: bool, k: int) -> list[Batch]:
    return [token_batch(int(n), ignored=1, seed=i) for i, n in enumerate(_counts(ragged, k))]


def _counts(ragged: bool, k: int) -> np.ndarray:
    """Tokens in each micro-batch: 6 each, or 1 to 12, the same for the same position whatever K is."""
    return np.random.default_rng(0).integers(1, 13, max(STEPS))[:k] if ragged else np.full(k, 6)


def _shares(reduction: str, counts: np.ndarray) -> np.ndarray:
    """The share of each micro-batch's **mean** gradient: right ones are its part of all tokens."""
    if reduction == "right":
        return counts / counts.sum()
    return np.full(len(counts), 1 / len(counts) if reduction == "mean of means" else 1.0)


def _through_the_core(window: list[Batch], dtype: torch.dtype) -> Tensor:
    model = token_model().to(dtype)
    accumulate(model, [cast(batch, dtype) for batch in window], token_loss_sum, count_tokens)
    return gradient_of(model)


def _added_up(window: list[Batch], shares: np.ndarray, dtype: torch.dtype, buffer: torch.dtype) -> Tensor:
    """Each micro-batch's mean gradient times its share, added up one by one in the buffer's format."""
    model = token_model().to(dtype)
    total = [torch.zeros_like(p, dtype=buffer) for p in model.parameters()]
    for batch, share in zip(window, shares, strict=True):
        mean = token_loss_sum(model, cast(batch, dtype)) / count_tokens(batch) * float(share)
        for kept, gradient in zip(total, torch.autograd.grad(mean, list(model.parameters())), strict=True):
            kept += gradient.to(buffer)
    return flat(total)


@cache
def _one_big_batch(ragged: bool, k: int) -> Tensor:
    model, window = token_model().double(), _window(ragged, k)
    inputs, labels = (torch.cat(parts) for parts in zip(*window, strict=True))
    loss = token_loss_sum(model, (inputs.double(), labels)) / count_tokens((inputs, labels))
    return flat(torch.autograd.grad(loss, list(model.parameters())))


@cache
def _condition(ragged: bool, k: int) -> float:
    """The sum of the norms of what is added over the norm of the sum: what cancellation costs."""
    model, window, counts = token_model().double(), _window(ragged, k), _counts(ragged, k)
    norms = 0.0
    for batch, n in zip(window, counts / counts.sum(), strict=True):
        mean = token_loss_sum(model, cast(batch, torch.float64)) / count_tokens(batch) * float(n)
        norms += float(flat(torch.autograd.grad(mean, list(model.parameters()))).norm())
    return norms / float(_one_big_batch(ragged, k).norm())
