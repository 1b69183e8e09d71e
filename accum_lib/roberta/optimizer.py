"""AdamW as it is used for fine-tuning: two groups of weight decay, a linear warm-up and a linear decay."""

from typing import Any

import torch
from torch import nn

BETAS, EPSILON = (0.9, 0.98), 1e-6  # Liu et al. 2019 (arXiv 1907.11692), tables 9 and 10


def make_optimizer(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over all parameters that are trained: on a GPU in one kernel, which takes no memory beside.

    Raises:
        ValueError: all parameters are frozen.
    """
    groups = [group for group in decay_groups(model, weight_decay) if group["params"]]
    if not groups:
        raise ValueError("nothing to train: every parameter has requires_grad=False")
    fused = all(p.is_cuda for group in groups for p in group["params"])
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, eps=EPSILON, fused=fused or None)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices; none for biases and LayerNorm, which are the parameters of one dimension.

    To pull a LayerNorm's gain towards 0 would switch the layer off, not simplify it (Devlin et al. 2019
    left both out, and everyone since).
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def make_schedule(optimizer: torch.optim.Optimizer, updates: int, warmup: float) -> Any:
    """Ticks once per update: up in a line over ``warmup`` (a part) of all updates, then down to 0.

    The first update already moves: at a rate of 0 it would be thrown away, with its K micro-batches.
    """
    rising = int(warmup * updates)

    def factor(done: int) -> float:
        if done < rising:
            return (done + 1) / (rising + 1)
        return max(0.0, (updates - done) / max(1, updates - rising))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
