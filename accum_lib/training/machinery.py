"""What a training run is made of besides its data: model, optimizer, schedule, and a scaler for float16."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from accum_lib.lenses.memory.workloads import checkpoint, longest_list
from accum_lib.roberta.optimizer import make_optimizer, make_schedule
from accum_lib.roberta.settings import TrainingSettings


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
    """Optimizer, schedule and scaler; the model is told to checkpoint activations, or to be compiled.

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
