"""What a training run is made of besides its data: model, optimizer, schedule, and a scaler for float16.

AdamW as it is used for fine-tuning: two groups of weight decay, a linear warm-up and a linear decay.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from accum_lib.memory.workloads import checkpoint, longest_list
from accum_lib.training.settings import TrainingSettings

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


@dataclass(frozen=True)
class Machinery:
    """What changes while a model is trained, besides the progress and the random states."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    scaler: torch.amp.GradScaler | None


def windows_per_epoch(settings: TrainingSettings, num_samples: int) -> int:
    """How many windows an epoch has, the last perhaps a shorter one."""
    return -(-num_samples // settings.effective_batch_size)


def planned_windows(settings: TrainingSettings, num_samples: int) -> int:
    """How many windows a run reads; each is an update, unless it is left out."""
    in_epochs = settings.epochs * windows_per_epoch(settings, num_samples)
    return in_epochs if settings.max_updates is None else min(in_epochs, settings.max_updates)


def make_machinery(
    model: nn.Module, settings: TrainingSettings, updates: int, device: torch.device
) -> Machinery:
    """Optimizer, schedule and scaler; the model checkpoints activations, or is compiled, if so set.

    Raises:
        ValueError: there are no layers to checkpoint.
    """
    if settings.checkpointing:
        checkpoint(model, longest_list(model))
    if settings.compile:
        model.compile(dynamic=True)
    optimizer = make_optimizer(model, settings.learning_rate, settings.weight_decay)
    schedule = make_schedule(optimizer, updates, settings.warmup)
    scaler = torch.amp.GradScaler(device.type) if settings.precision == "fp16" else None
    return Machinery(model, optimizer, schedule, scaler)
