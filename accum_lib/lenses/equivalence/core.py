"""The project's own loop, as the checker takes it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from accum_lib.accumulate import Count, LossSum, accumulate, apply_update, windows
from accum_lib.lenses.equivalence.calling import Loop


def core_loop(loss_sum: LossSum, count: Count) -> Loop:
    """Three lines around ``accumulate``; it returns the losses of the windows.

    Args:
        loss_sum, count: as ``accumulate`` takes them.
    """

    def loop(
        model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Any], accumulation_steps: int,
        max_grad_norm: float | None,
    ) -> list[float]:  # fmt: skip
        losses = []
        for window in windows(batches, accumulation_steps):
            losses.append(accumulate(model, window, loss_sum, count).loss)
            apply_update(model, optimizer, max_grad_norm=max_grad_norm)
        return losses

    return loop
