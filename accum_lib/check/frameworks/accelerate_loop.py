"""Accelerate's ``accumulate()``, as its guide on gradient accumulation has it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from accum_lib.accumulate import Count, LossSum, windows
from accum_lib.check.loop import Loop
from accum_lib.check.strangers import fresh_accelerator


def accelerate_loop(mean_loss: Callable[[nn.Module, Any], Tensor]) -> Loop:
    """``with accelerator.accumulate(model)``, and ``accelerator.backward``, which divides by K.

    Args:
        mean_loss: ``mean_loss(model, batch)``, the micro-batch's own mean loss.
    """

    def loop(
        model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], accumulation_steps: int,
        epochs: int, scheduler: Any,
    ) -> None:  # fmt: skip
        from torch.utils.data import DataLoader

        accelerator = fresh_accelerator(accumulation_steps)
        loader: Any = DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]
        model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
        for _ in range(epochs):
            for batch in loader:
                with accelerator.accumulate(model):
                    accelerator.backward(mean_loss(model, batch))
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()

    return loop


def accelerate_token_weighted_loop(loss_sum: LossSum, count: Count) -> Loop:
    """The guide's recipe for batches of different sizes: count the window first, then undo the division by K.

    Args:
        loss_sum, count: as ``accum_lib.accumulate`` takes them.
    """

    def loop(
        model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], accumulation_steps: int
    ) -> None:
        accelerator = fresh_accelerator(accumulation_steps)
        model, optimizer = accelerator.prepare(model, optimizer)
        for window in windows(batches, accumulation_steps):
            total = sum(count(batch) for batch in window)
            for batch in window:
                accelerator.backward(loss_sum(model, batch) * accumulation_steps / total)
            optimizer.step()
            optimizer.zero_grad()

    return loop
