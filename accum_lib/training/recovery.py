"""Retry a window with a smaller micro-batch after running out of memory.

``accumulate`` leaves ``.grad`` as it was if anything goes wrong, so a window can be restarted: nothing is
lost and nothing counted twice. M does not change the gradient, which is why halving it is safe. The retry is
our own and not accelerate's, since it restores the random state: dropout stays that of the smaller M.
Several processes halve M together, wherever memory ran out.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from accum_lib.accumulate import (
    Count,
    LossSum,
    NonFiniteElsewhereError,
    UpdateResult,
    WindowResult,
    accumulate,
)
from accum_lib.ranks import ALONE, Ranks
from accum_lib.training.data.batches import halved
from accum_lib.training.machinery import Machinery
from accum_lib.training.parallel import OutOfMemoryElsewhereError, SurvivingRanks
from accum_lib.training.saving import random_state
from accum_lib.words import first_line

Result = TypeVar("Result")
ON_WINDOWS = "DefaultCPUAllocator: not enough memory"  # which accelerate does not know


class OutOfMemoryAtOneError(MemoryError):
    """Not even a micro-batch of one example fits into memory."""


class NonFiniteError(ValueError):
    """A loss or a gradient is NaN or infinite; nothing has moved."""


def accumulate_or_halve(
    model: nn.Module,
    make_window: Callable[[int], Sequence[Any]],
    loss_sum: LossSum,
    count: Count,
    micro_batch_size: int,
    *,
    scaler: torch.amp.GradScaler | None = None,
    ranks: Ranks = ALONE,
    on_halved: Callable[[int, str], None] = lambda size, error: None,
) -> tuple[WindowResult, int]:
    """Accumulate a window; if memory runs out, retry it from its start with M halved, until it fits.

    Each attempt begins with the random state that the first one had, so the dropout of the attempt that
    succeeds is the same as if M had been that small from the beginning.

    Args:
        model, loss_sum, count, scaler, ranks: as ``accumulate`` takes them.
        make_window: ``make_window(M)``, the same examples in micro-batches of M.
        micro_batch_size: M to begin with.
        on_halved: called with the new M and the error each time.

    Returns:
        What ``accumulate`` returns, and the M that it took.

    Raises:
        OutOfMemoryAtOneError: it does not fit with M = 1 either.
        NonFiniteError: a loss is NaN or infinite.
    """
    before = random_state.capture()

    def attempt(size: int) -> WindowResult:
        watched = Watched(loss_sum)
        try:
            return accumulate(model, make_window(size), watched, count, scaler=scaler, ranks=ranks)
        except OutOfMemoryElsewhereError:
            raise
        except Exception as error:
            if isinstance(ranks, SurvivingRanks) and is_out_of_memory(error):
                ranks.meet(out_of_memory=True)
            elif watched.not_finite() or isinstance(error, NonFiniteElsewhereError):
                raise NonFiniteError(str(error)) from error
            raise

    def again(size: int, error: str) -> None:
        random_state.restore(before)
        on_halved(size, error)

    return halve_until_it_fits(attempt, micro_batch_size, again)


def halve_until_it_fits(
    attempt: Callable[[int], Result], size: int, on_halved: Callable[[int, str], None]
) -> tuple[Result, int]:
    """What ``attempt(size)`` returns, with the size halved as often as memory runs out; and that size.

    Args:
        attempt: leaves nothing behind if it fails.
        size: examples at a time, to begin with.
        on_halved: called with the new size and the error each time, once memory is free again.

    Raises:
        OutOfMemoryAtOneError: not even one example fits.
    """
    while True:
        try:
            return attempt(size), size
        except MemoryError:  # it is already known that a smaller size does not help
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise at_one(error) from error
            message = first_line(error)
        # Only here is the error gone, and with it the activations that its traceback held.
        size = halved(size)
        free_memory()
        on_halved(size, message)


class Watched:
    """A loss sum that remembers the losses of its window, to tell what an error was about."""

    def __init__(self, loss_sum: LossSum) -> None:
        self.loss_sum = loss_sum
        self.losses: list[Tensor] = []

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        loss = self.loss_sum(model, batch)
        self.losses.append(loss.detach())
        return loss

    def not_finite(self) -> bool:
        return any(not bool(loss.isfinite().all()) for loss in self.losses)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on a GPU or on the CPU (which has no error class of its own for it)."""
    from accelerate.utils.memory import should_reduce_batch_size  # takes seconds to import

    own = isinstance(error, torch.OutOfMemoryError) or ON_WINDOWS in str(error)
    return own or should_reduce_batch_size(error)


def at_one(error: BaseException) -> OutOfMemoryAtOneError:
    return OutOfMemoryAtOneError(
        f"out of memory with micro-batches of one example ({first_line(error)}): smaller ones do not exist. "
        "Turn activation checkpointing on, cut texts shorter, use 16 bits, or take a smaller model"
    )


def update_in_all(
    update: Callable[[], UpdateResult], machinery: Machinery, ranks: Ranks, on_repaired: Callable[[], None]
) -> UpdateResult:
    """What ``update()`` returns. Of several processes, one in which memory runs out takes over the others'
    parameters and moments, which are the same in all.

    Raises:
        MemoryError: memory ran out in all of them.
    """
    if not isinstance(ranks, SurvivingRanks):
        with oom_is_fatal():
            return update()
    done, failure = None, ""
    try:
        with oom_is_fatal():
            done = update()
    except MemoryError as error:
        failure = str(error)
    if failure:
        free_memory()
    done, taken_over = ranks.repaired(done, machinery)
    if done is None:
        raise MemoryError(failure)
    if taken_over:
        on_repaired()
    return done


@contextmanager
def oom_is_fatal() -> Iterator[None]:
    """Around the optimizer's update, which needs the same memory whatever M is.

    Raises:
        MemoryError: memory ran out there.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"out of memory in the optimizer's update ({first_line(error)}), where a smaller M does not "
            "help, and parameters may have moved in part. Resume from the last checkpoint with more memory, "
            "or take a smaller model"
        ) from error


def free_memory() -> None:
    """Give what a failed attempt held back to the device."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
