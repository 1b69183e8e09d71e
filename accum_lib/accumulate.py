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

References: the mean of means went unnoticed in OpenNMT-py until 2018 (issue 526) and in Transformers
until 2024 (pull request 34191).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

Batch = TypeVar("Batch")
LossSum = Callable[[nn.Module, Any], Tensor]  # the summed (not averaged) loss of one micro-batch
Count = Callable[[Any], float]  # how many samples or tokens that sum adds up


@dataclass(frozen=True)
class WindowResult:
    """What one window was: its mean loss (before the update), its total count, its micro-batches."""

    loss: float
    count: float
    micro_batches: int


class NonFiniteElsewhereError(ValueError):
    """The loss of another process's micro-batch is not finite, so the window's is not either."""


class NonFiniteGradientError(ValueError):
    """A gradient is NaN or infinite though the window's loss is not; nothing has moved."""


class Pass(NamedTuple):
    """One forward and backward pass over a micro-batch of the window; weight 0 makes it a stand-in."""

    number: int
    batch: Any
    weight: float = 1.0


class Ranks:
    """The processes that make an update together: here, one alone. ``accum_lib.distributed`` has several."""

    world_size = 1  # the number of processes, over which gradients are averaged

    def agree(self, mine: list[Pass], count: float, micro_batches: int) -> tuple[list[Pass], float, int]:
        """This process's passes, and the whole window's count and number of micro-batches."""
        return mine, count, micro_batches

    def synchronized(self, last: bool) -> AbstractContextManager[None]:
        """Around each pass; ``last`` for the window's last one, in which gradients must be averaged."""
        return nullcontext()

    def add(self, value: float) -> float:
        """The sum of every process's value."""
        return value


ALONE = Ranks()


@dataclass(frozen=True)
class UpdateResult:
    """What one optimizer update did: the gradient norm before clipping, and whether it was skipped.

    ``grad_norm`` is None if nothing asked for it. ``skipped`` is True when a ``GradScaler`` found an
    infinite gradient: the parameters did not move, and the scheduler was not advanced.
    """

    grad_norm: float | None
    skipped: bool


def windows(
    batches: Iterable[Batch], accumulation_steps: int | Callable[[int], int]
) -> Iterator[list[Batch]]:
    """Group micro-batches into windows of ``accumulation_steps``, one window for each update.

    The last window holds what is left, so it may be shorter; it is still one update. Batches are drawn
    as they are needed: no more than one window is ever held.

    Args:
        batches: any iterable of micro-batches (a ``DataLoader``, a generator, a list).
        accumulation_steps: K >= 1, or a function from the update's index (0, 1, ...) to its K.

    Yields:
        Lists of 1 to K micro-batches.

    Raises:
        TypeError, ValueError: K is not a whole number, or is below 1.
        ValueError: there is no micro-batch at all.
    """
    if not callable(accumulation_steps):
        _check_steps(accumulation_steps)
    return _windows(batches, accumulation_steps)


def _windows(
    batches: Iterable[Batch], accumulation_steps: int | Callable[[int], int]
) -> Iterator[list[Batch]]:
    stream, update = iter(batches), 0
    while True:
        steps = accumulation_steps(update) if callable(accumulation_steps) else accumulation_steps
        window = list(islice(stream, _check_steps(steps)))
        if not window:
            break
        yield window
        update += 1
        del window  # or this window would stay alive while the next one is drawn
    if update == 0:
        raise ValueError("no micro-batches: the data are empty (or a generator was already used up)")


def accumulate(
    model: nn.Module,
    window: Iterable[Any],
    loss_sum: LossSum,
    count: Count,
    *,
    scaler: torch.amp.GradScaler | None = None,
    ranks: Ranks = ALONE,
) -> WindowResult:
    """Leave in ``.grad`` the gradient of the window's mean loss: one backward pass per micro-batch.

    Gradients that were there before are replaced, not added to. If anything goes wrong, an interrupt
    included, they are put back and nothing else has changed (buffers, such as BatchNorm's running
    statistics, excepted: forward passes that ran have moved them). Call ``zero_grad`` or
    ``apply_update`` first, else the old gradients take up memory until this returns.

    A micro-batch whose count is 0 contributes nothing and is not run: a mean over no tokens is NaN.

    Mixed precision: wrap the forward pass alone, ``torch.autocast("cuda", torch.bfloat16)(loss_sum)``.

    Args:
        model: its parameters receive the gradient.
        window: the micro-batches of one update; ``windows`` makes them. All are drawn before the first pass.
        loss_sum: ``loss_sum(model, batch)``, a scalar tensor: the **sum** of the batch's losses.
        count: ``count(batch)``, how many terms that sum has (samples, or tokens that are not ignored),
            known without running the model.
        scaler: for float16; the gradients stay scaled until ``apply_update``.
        ranks: several processes that each hold a part of the window (``accum_lib.distributed``); ``window``
            is this process's part, and may be empty.

    Returns:
        The window's true mean loss, its count and its number of micro-batches, over all processes.

    Raises:
        ValueError: the window is empty or counts 0 (over all processes), a count is negative or not
            finite, a loss is not a scalar, carries no gradient, or is not finite.
        TypeError: a loss is not a tensor.
    """
    window = list(window)  # a generator could be gone through but once, a loader may shuffle anew
    counts = [_check_count(count(batch), i) for i, batch in enumerate(window)]
    counted = [Pass(i, batch) for i, batch in enumerate(window) if counts[i] > 0]
    passes, total, micro_batches = ranks.agree(counted, sum(counts), len(counts))
    if total == 0:
        raise ValueError(
            f"the window's {micro_batches} micro-batches count 0 in total, so there is no mean: are all "
            "labels ignored? Leave such a window out, or raise accumulation_steps"
        )
    before = [(p, p.grad) for p in model.parameters()]
    for p, _ in before:
        p.grad = None
    losses: list[Tensor] = []
    read_sums: Callable[[], list[float]] = list
    try:
        for done, (i, batch, weight) in enumerate(passes, start=1):
            with ranks.synchronized(last=done == len(passes)):
                loss = _check_loss(loss_sum(model, batch), i)
                if weight:
                    losses.append(loss.detach())
                if losses and done == len(passes):
                    read_sums = _sent_off(losses)
                # Divided by the window's count, not this micro-batch's, and not K. Starting backward from
                # 1 / total gives the numbers of (loss / total).backward() with one operation less. Several
                # processes average their gradients, so what shall be their sum is world_size times as large.
                share = torch.full_like(loss, weight * ranks.world_size / total)
                loss.backward(scaler.scale(share) if scaler else share)  # adds to .grad
                del loss, share  # frees this graph before the next forward pass
        sums = read_sums()
        whole = ranks.add(_sum(sums))  # before the check, so that all processes find out together
        _check_finite(sums, [i for i, c in enumerate(counts) if c > 0])
        _check_whole(whole)
    except BaseException:
        for p, grad in before:
            p.grad = grad
        raise
    return WindowResult(whole / total, total, micro_batches)


def apply_update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    max_grad_norm: float | None = None,
    scheduler: Any = None,
    scaler: torch.amp.GradScaler | None = None,
    error_if_nonfinite: bool = False,
) -> UpdateResult:
    """One optimizer update from the gradients in place: unscale, clip, move, tick, clear. Each once.

    Args:
        model: its gradients are clipped and then cleared (set to None).
        optimizer: any ``torch.optim`` optimizer over the model's parameters.
        max_grad_norm: clip the 2-norm of the **whole window's** gradient to this; None does not clip.
        scheduler: a learning-rate scheduler, advanced once per update.
        scaler: the same as was given to ``accumulate``.
        error_if_nonfinite: look at the gradient's norm **before** anything moves. A finite loss can have a
            gradient that is not, and an update with it makes every parameter NaN. A scaler, if there is one,
            looks for itself and skips the update, so then this changes nothing. PyTorch's fused Adam looks on
            the device, so that a GPU is not kept waiting.

    Raises:
        ValueError: ``max_grad_norm`` is not above 0.
        NonFiniteGradientError: as ``error_if_nonfinite`` asks; parameters, gradients, optimizer and scheduler
            are as they were.
    """
    if max_grad_norm is not None and not max_grad_norm > 0:
        raise ValueError(f"max_grad_norm must be above 0, or None not to clip; got {max_grad_norm}")
    if scaler:
        scaler.unscale_(optimizer)
    norm: Tensor | float | None = None
    skips_itself = False
    if max_grad_norm is not None or error_if_nonfinite:
        parameters = list(model.parameters())  # of a large model, this alone takes a millisecond
        norm = whole = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if error_if_nonfinite and not scaler:
            skips_itself = _skips_itself(optimizer, whole)
            if not skips_itself:
                norm = _check_norm(float(whole))
        if max_grad_norm is not None:
            # To clip by a norm of 0 changes nothing: a gradient that will be refused below stays as it is.
            by = whole.nan_to_num(0.0, posinf=0.0) if skips_itself else whole
            nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, by)
    if scaler:
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        skipped = scaler.get_scale() < scale  # it backs off only after an infinite gradient
    else:
        with _told_to_skip(optimizer, ~whole.isfinite()) if skips_itself else nullcontext():
            optimizer.step()
        skipped = False
    if skips_itself:
        norm = _check_norm(float(whole))
    if scheduler is not None and not skipped:
        scheduler.step()
    optimizer.zero_grad(set_to_none=True)
    return UpdateResult(None if norm is None else float(norm), skipped)  # read last: it makes a GPU wait


def _skips_itself(optimizer: torch.optim.Optimizer, norm: Tensor) -> bool:
    """Whether the optimizer's kernel can leave an update out by itself, as PyTorch's fused Adam can.

    Then it may be launched before anybody has read the norm. All others, and sharded gradients, wait for it.
    """
    adam = isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW))
    fused = adam and all(group.get("fused") for group in optimizer.param_groups)
    return fused and type(norm) is Tensor


@contextmanager
def _told_to_skip(optimizer: Any, where: Tensor) -> Iterator[None]:
    """Within, ``step`` moves nothing if ``where`` is true on the device: as a ``GradScaler`` tells it."""
    optimizer.grad_scale, optimizer.found_inf = None, where.float()
    try:
        yield
    finally:
        del optimizer.grad_scale, optimizer.found_inf


def _check_steps(steps: int) -> int:
    if isinstance(steps, bool) or not hasattr(steps, "__index__"):
        raise TypeError(f"accumulation_steps must be a whole number, such as 4; got {steps!r}")
    if steps < 1:
        raise ValueError(f"accumulation_steps must be 1 (no accumulation) or more; got {steps}")
    return int(steps)


def _check_count(value: float, index: int) -> float:
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"the count of micro-batch {index} must be 0 or more and finite; got {number}")
    return number


def _check_loss(loss: Tensor, index: int) -> Tensor:
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss_sum must return a tensor; micro-batch {index} gave {type(loss).__name__}")
    if loss.ndim != 0:
        raise ValueError(
            f"loss_sum must return a scalar; micro-batch {index} gave shape {tuple(loss.shape)}: "
            "use reduction='sum'"
        )
    if not loss.requires_grad:
        raise ValueError(
            f"the loss of micro-batch {index} carries no gradient: was it computed under no_grad, "
            "detached, or from frozen parameters?"
        )
    return loss


def _sent_off(losses: list[Tensor]) -> Callable[[], list[float]]:
    """Once per window, after its last forward pass: the values, to be read after its last backward pass.

    A GPU works behind the program that tells it what to do. Were the losses asked for only at the end, the
    program would wait for the backward pass, and then the GPU for the optimizer's first kernels.
    """
    together = torch.stack(losses)
    if not together.is_cuda:
        values = together.tolist()
        return lambda: values
    here = together.to("cpu", non_blocking=True)  # PyTorch takes pinned memory for this, or it would wait
    arrived = torch.cuda.Event()
    arrived.record()

    def read() -> list[float]:
        arrived.synchronize()
        return here.tolist()

    return read


def _check_finite(sums: list[float], indices: list[int]) -> None:
    for value, index in zip(sums, indices, strict=True):
        if not math.isfinite(value):
            raise ValueError(
                f"the loss of micro-batch {index} is {value}: look at its data, or lower the learning "
                "rate. The parameters and the gradients are as they were before this window"
            )


def _sum(values: list[float]) -> float:
    """NaN if a value is not finite: ``fsum`` would raise where there are both infinities."""
    return math.fsum(values) if all(map(math.isfinite, values)) else math.nan


def _check_norm(norm: float) -> float:
    if not math.isfinite(norm):
        raise NonFiniteGradientError(
            f"the norm of the window's gradient is {norm}, though its loss is finite: look at its data, or "
            "lower the learning rate. The parameters are as they were before this update"
        )
    return norm


def _check_whole(loss_sum: float) -> None:
    if not math.isfinite(loss_sum):
        raise NonFiniteElsewhereError(
            f"the window's loss is {loss_sum}, because of another process's micro-batch: its error says "
            "which. The parameters and the gradients are as they were before this window"
        )
