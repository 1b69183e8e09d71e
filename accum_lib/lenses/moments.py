"""One update in slow motion: what every backward pass adds to the gradient buffer, and the move after it.

Nothing here accumulates. The core's ``accumulate`` runs as it always does, and this lens looks at
``.grad`` whenever the core asks for the next micro-batch's loss.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from accum_lib.accumulate import accumulate, apply_update, windows
from accum_lib.problems.base import micro_batches
from accum_lib.problems.regression import Regression
from accum_lib.records.descents import Moment


def moments(
    problem: Regression, micro_batch_size: int, accumulation_steps: int, learning_rate: float, seed: int = 0
) -> list[Moment]:
    """Every moment of one epoch of accumulated descent, from a real run.

    Returns:
        For each window, one moment before it, one after each backward pass, one after the update.
    """
    model = problem.make_model(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    order = torch.Generator().manual_seed(seed)
    weights, story = [_vector(model)], []
    stream = windows(micro_batches(problem, micro_batch_size, order), accumulation_steps)
    for update, window in enumerate(stream):
        buffers: list[np.ndarray] = []

        def watched_loss(model: nn.Module, batch: Any, seen: list[np.ndarray] = buffers) -> Tensor:
            seen.append(_vector(model, gradient=True))  # what the micro-batches before this one left
            return problem.loss_sum(model, batch)

        big_batch = _one_big_batch(problem, model, window)
        result = accumulate(model, window, watched_loss, problem.count)
        shares = np.diff([*buffers, _vector(model, gradient=True)], axis=0)  # (K, 2)
        apply_update(model, optimizer)
        for passed in range(len(window) + 2):
            moved = passed > len(window)
            count = min(passed, len(window))
            if moved:
                weights = [*weights, _vector(model)]
            story.append(
                Moment(
                    update=update,
                    micro_batch=count,
                    window_length=len(window),
                    moved=moved,
                    samples=window[count - 1][0].numpy() if 0 < passed <= len(window) else np.empty((0, 2)),
                    shares=np.empty((0, 2)) if moved else shares[:count],
                    big_batch=big_batch,
                    weights=np.array(weights),
                    loss=result.loss if count == len(window) else None,
                )
            )
    return story


def _one_big_batch(problem: Regression, model: nn.Module, window: list[Any]) -> np.ndarray:
    """The gradient of the mean loss of all the window's samples at once, without ``accumulate``."""
    x, y = (torch.cat(parts) for parts in zip(*window, strict=True))
    mean_loss = problem.loss_sum(model, (x, y)) / len(y)
    return torch.autograd.grad(mean_loss, list(model.parameters()))[0].flatten().numpy()


def _vector(model: nn.Module, gradient: bool = False) -> np.ndarray:
    """The two weights, or their gradient (zeros while the buffer is empty), copied."""
    (parameter,) = model.parameters()
    if not gradient:
        return parameter.detach().flatten().numpy().copy()
    return np.zeros(2) if parameter.grad is None else parameter.grad.flatten().numpy().copy()
