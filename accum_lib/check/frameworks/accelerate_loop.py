"""Accelerate's ``accumulate()``, as its guide on gradient accumulation has it."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from accum_lib.accumulate import Count, LossSum
from accum_lib.check.loop import Loop
from accum_lib.check.strangers import fresh_accelerator
from accum_lib.exact import accelerate_updates


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


def exact_accelerate_loop(loss_sum: LossSum, count: Count) -> Loop:
    """``accum_lib.exact.accelerate_updates`` in its place.

    Args:
        loss_sum, count: as ``accum_lib.accumulate`` takes them.
    """

    def loop(
        model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], accumulation_steps: int
    ) -> None:
        accelerator = fresh_accelerator()
        model, optimizer = accelerator.prepare(model, optimizer)
        deque(accelerate_updates(accelerator, model, optimizer, batches, accumulation_steps, loss_sum, count))

    return loop
