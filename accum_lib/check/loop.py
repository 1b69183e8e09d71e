"""Call a training loop of any author with what it asks for, by its parameters' names."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from accum_lib.accumulate import Count, LossSum, accumulate, apply_update, windows

Loop = Callable[..., Any]
POSITIONAL = ("model", "optimizer", "batches", "accumulation_steps")
NAMES = {  # what the checker gives, and the names by which loops ask for it
    "model": {"model", "net", "module", "network"},
    "optimizer": {"optimizer", "opt", "optim"},
    "batches": {"batches", "micro_batches", "loader", "dataloader", "data_loader", "train_loader",
                "train_dataloader", "trainloader", "data"},
    "accumulation_steps": {
        "accumulation_steps", "gradient_accumulation_steps", "grad_accum_steps", "grad_accumulation_steps",
        "accum_steps", "accumulate_steps", "accumulation", "accum", "accum_iter", "update_freq", "steps", "k",
    },
    "scheduler": {"scheduler", "lr_scheduler", "sched"},
    "ema": {"ema", "ema_model", "averaged_model"},
    "max_grad_norm": {"max_grad_norm", "max_norm", "clip_norm", "clip_grad", "grad_clip"},
    "epochs": {"epochs", "num_epochs"},
    "criterion": {"criterion", "loss_fn", "loss_function", "loss_func"},
    "device": {"device"},
    "accelerator": {"accelerator"},
    "scaler": {"scaler", "grad_scaler", "loss_scaler"},
    "epoch": {"epoch"},
    "logger": {"logger", "writer", "log_writer", "tb_writer", "metric_logger"},
    "arguments": {"args", "arguments", "config", "cfg", "hparams", "opts"},
}  # fmt: skip


def wishes_of(loop: Loop) -> dict[str, str]:
    """Map each of the loop's parameters to one of the checker's offers.

    A parameter is known by its name, or by a usual other name; the remaining ones without a default stand
    for model, optimizer, batches and accumulation steps, in this order.

    Raises:
        TypeError: it asks for more than the checker has.
    """
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = [p for p in inspect.signature(loop).parameters.values() if p.kind not in variadic]
    wishes = {p.name: offer for p in parameters for offer, names in NAMES.items() if p.name.lower() in names}
    free = [offer for offer in POSITIONAL if offer not in wishes.values()]
    for p in parameters:
        if p.name in wishes or p.default is not p.empty:
            continue
        if not free:
            raise TypeError(
                f"the loop asks for {p.name!r}, which the checker does not have. It has {', '.join(NAMES)}: "
                "use one of these names, give the parameter a default, or check a function around the loop: "
                f"def train(model, optimizer, batches, accumulation_steps): your_loop(..., {p.name}=...)"
            )
        wishes[p.name] = free.pop(0)
    return wishes


def call_loop(loop: Loop, offers: Mapping[str, Any]) -> Any:
    """Call the loop with those offers that it asks for; its answer. None leaves the loop its own default."""
    defaults = {p.name for p in inspect.signature(loop).parameters.values() if p.default is not p.empty}
    given = {name: offers[offer] for name, offer in wishes_of(loop).items()}
    return loop(**{name: value for name, value in given.items() if value is not None or name not in defaults})


def own_max_grad_norm(loop: Loop) -> float | None:
    """The norm to which the loop clips unless it is told otherwise; None if it says nothing of the kind."""
    parameters = inspect.signature(loop).parameters
    names = [name for name, offer in wishes_of(loop).items() if offer == "max_grad_norm"]
    default = parameters[names[0]].default if names else None
    if isinstance(default, bool) or not isinstance(default, int | float):
        return None
    return float(default) if 0 < default < math.inf else None


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
