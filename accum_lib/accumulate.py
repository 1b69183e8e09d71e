"""Gradient accumulation, exactly: windows of micro-batches, and the mean loss over each window.

One optimizer update averages the loss over a *window* of ``K`` micro-batches. The only thing that can
go wrong is the weight of each micro-batch in that average. Dividing each micro-batch's mean loss by
``K`` is right only if all of them count the same number of samples or tokens, and the last window of
an epoch is as long as the others. So a loss is kept as a **sum and a count**, the window's total count
is known **before** its first backward pass, and every loss sum is divided by that one total:

    grad = d/dw  [ loss_sum(batch 1) + ... + loss_sum(batch K) ] / [ count(batch 1) + ... + count(batch K) ]

which is what one big batch gives, up to floating-point rounding. A training loop is three lines::

    for window in windows(loader, accumulation_steps=4):
        result = accumulate(model, window, loss_sum, count)
        apply_update(model, optimizer, max_grad_norm=1.0, scheduler=scheduler)

The mean of means went unnoticed in OpenNMT-py until 2018 (issue 526), in Transformers until 2024 (PR 34191).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from accum_lib import _guards as guards
from accum_lib._device_reads import GradientNorm, only_if_finite, start_copy, step, unscale
from accum_lib._guards import NonFiniteElsewhereError as NonFiniteElsewhereError
from accum_lib._guards import NonFiniteGradientError as NonFiniteGradientError
from accum_lib.ranks import ALONE, Ranks

Batch = TypeVar("Batch")
Model = nn.Module | Sequence[nn.Module]  # one module, or several that are trained together
LossSum = Callable[[Any, Any], Tensor]  # of the model and a micro-batch: its summed (not averaged) loss
Count = Callable[[Any], float]  # how many samples or tokens that sum adds up


@dataclass(frozen=True)
class WindowResult:
    """A window over all processes: its mean ``loss`` before the update, ``count``, and ``micro_batches``."""

    loss: float
    count: float
    micro_batches: int


@dataclass(frozen=True)
class UpdateResult:
    """What one optimizer update did: ``grad_norm`` before clipping (None if nothing asked for it), and
    whether a ``GradScaler`` has ``skipped`` it for an infinite gradient: then nothing moved.
    """

    grad_norm: float | None
    skipped: bool


def windows(
    batches: Iterable[Batch], accumulation_steps: int | Callable[[int], int]
) -> Iterator[list[Batch]]:
    """Group micro-batches into windows of ``accumulation_steps``, one window for each update.

    The last one may be shorter; it is still one update. Batches are drawn as needed, a window at a time.

    Args:
        batches: any iterable of micro-batches (a ``DataLoader``, a generator, a list).
        accumulation_steps: K >= 1, or a function from the update's index (0, 1, ...) to its K.

    Raises:
        TypeError, ValueError: K is not a whole number, or is below 1; there is no micro-batch at all.
    """
    if not callable(accumulation_steps):
        guards.check_steps(accumulation_steps)  # here: a generator would check at its first window only

    def generate() -> Iterator[list[Batch]]:
        stream, update = iter(batches), 0
        while True:
            steps = accumulation_steps(update) if callable(accumulation_steps) else accumulation_steps
            window = list(islice(stream, guards.check_steps(steps)))
            if not window:
                break
            yield window
            update += 1
            del window  # or this window would stay alive while the next one is drawn
        guards.check_not_empty(update)

    return generate()


def accumulate(
    model: Model,
    window: Iterable[Any],
    loss_sum: LossSum,
    count: Count,
    *,
    scaler: torch.amp.GradScaler | None = None,
    ranks: Ranks = ALONE,
) -> WindowResult:
    """Leave in ``.grad`` the gradient of the window's mean loss: one backward pass per micro-batch.

    Old gradients are replaced, not added to (clear them first, or they take up memory until this returns). On
    any exception, an interrupt included, they are restored and nothing else has changed, except buffers that
    forward passes update (BatchNorm's running statistics). Parameters outside the model that losses reach
    (their own weights) are treated alike, if the first loss reaches any. A micro-batch that counts 0 is not
    run: a mean over no tokens is NaN.

    Args:
        model: its parameters receive the gradient; several modules as a list, ``[encoder, head, loss]``.
        window: the micro-batches of one update, from ``windows``. All are drawn before the first pass.
        loss_sum: ``loss_sum(model, batch)``, a scalar tensor: the **sum** of the batch's losses. For mixed
            precision, wrap it alone: ``torch.autocast("cuda", torch.bfloat16)(loss_sum)``.
        count: ``count(batch)``, how many terms that sum has: samples, or tokens that are not ignored.
        scaler: for float16; the gradients stay scaled until ``apply_update``.
        ranks: several processes, each with a part of the window, maybe empty (``accum_lib.distributed``).

    Raises:
        ValueError, TypeError: the window counts 0, a count is negative or not finite, a loss is not a scalar
            tensor, carries no gradient, or is not finite.
    """
    window = list(window)  # a generator can be consumed only once, and a loader may reshuffle
    counted, total, micro_batches = guards.counted(window, count)
    passes, total, micro_batches = ranks.agree(counted, total, micro_batches)
    guards.check_total(total, micro_batches)
    losses: list[Tensor] = []
    with guards.OwnGradients(model, scaler) as gradients:
        for done, (i, batch, weight) in enumerate(passes, start=1):
            with ranks.synchronized(last=done == len(passes)):
                loss = guards.check_loss(loss_sum(model, batch), i)
                gradients.reach(loss)
                if weight:
                    losses.append(loss.detach())
                if done == len(passes):
                    read_losses = start_copy(losses)
                # Divided by the window's count, not this micro-batch's, and not K. Starting backward from
                # 1 / total gives the numbers of (loss / total).backward() with one operation less. Several
                # processes average their gradients: times world_size, that average is their sum.
                share = torch.full_like(loss, weight * ranks.world_size / total)
                ranks.complete(loss).backward(scaler.scale(share) if scaler else share)  # adds to .grad
                del loss, share  # frees this graph before the next forward pass
        loss_of_window = guards.add_up(read_losses(), counted, ranks)
    return WindowResult(loss_of_window / total, total, micro_batches)


def apply_update(
    model: Model,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    *,
    max_grad_norm: float | None = None,
    scheduler: Any = None,
    loss: float | None = None,
    scaler: torch.amp.GradScaler | None = None,
    error_if_nonfinite: bool = False,
) -> UpdateResult:
    """One optimizer update from the gradients in place: unscale, clip, step, clear, tick. Each once.

    What may fail is checked first: an update is whole or not begun. All gradients of the model and of the
    optimizers' parameters are unscaled, measured, clipped and cleared, also of those that nothing moves.

    Args:
        model: as for ``accumulate``.
        optimizer: of ``torch.optim``, or several as a list. LBFGS evaluates a window several times: call
            ``optimizer.step(lambda: accumulate(model, window, loss_sum, count).loss)`` in place of both.
        max_grad_norm: clip the 2-norm of the **whole window's** gradient to this; None does not clip.
        scheduler: a learning-rate scheduler (or a list), advanced once per update.
        loss: ``WindowResult.loss``, for a scheduler that asks for a metric (``ReduceLROnPlateau``).
        scaler: the same as was given to ``accumulate``.
        error_if_nonfinite: refuse a gradient that is not finite, as a finite loss can have: every parameter
            would become NaN. With a scaler this changes nothing: it skips such an update.

    Raises:
        ValueError, TypeError: ``max_grad_norm`` is not above 0, or an optimizer or scheduler cannot step.
        NonFiniteGradientError: parameters, gradients, optimizer and scheduler are as they were.
    """
    guards.check_max_grad_norm(max_grad_norm)
    owned = guards.check_optimizers(model, optimizer)
    tick = guards.check_schedulers(scheduler, optimizer, loss)
    scaler = unscale(scaler, owned)  # None if it is not enabled
    norm = GradientNorm(owned) if max_grad_norm is not None or error_if_nonfinite else None
    with only_if_finite(owned, norm) if norm and error_if_nonfinite and not scaler else nullcontext():
        if norm and max_grad_norm is not None:
            norm.clip_to(max_grad_norm)
        skipped = step(owned, scaler)
    owned.clear()
    if not skipped:
        tick()
    return UpdateResult(None if norm is None else norm.value, skipped)  # read last: it makes a GPU wait
