"""Call a training loop of any author with what it asks for, by its parameters' names."""

import inspect
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from accum_lib.accumulate import Count, LossSum, accumulate, apply_update, windows
from accum_lib.words import _, listed

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
    "max_grad_norm": {
        "max_grad_norm", "max_norm", "clip_norm", "clip_grad", "grad_clip", "grad_clip_norm",
        "grad_norm_clip", "gradient_clip", "gradient_clipping", "max_gradient_norm",
    },
    "epochs": {"epochs", "num_epochs", "num_epoch", "n_epochs", "max_epochs", "num_train_epochs"},
    "criterion": {"criterion", "loss_fn", "loss_function", "loss_func"},
    "device": {"device"},
    "accelerator": {"accelerator"},
    "scaler": {"scaler", "grad_scaler", "loss_scaler"},
    "epoch": {"epoch"},
    "logger": {"logger", "writer", "log_writer", "tb_writer", "metric_logger"},
    "arguments": {"args", "arguments", "config", "cfg", "hparams", "opts"},
}  # fmt: skip

OPTIMIZER = re.compile(  # and perhaps of which network
    r"\w*(opt|optim|optimizer)(_?[a-z0-9]|_?(gen|disc|generator|discriminator|actor|critic|head|backbone))?",
    re.IGNORECASE,
)


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
    optimizers = [p.name for p in parameters if p.default is p.empty and _is_optimizer(p.name)]
    if len(optimizers) > 1:
        raise TypeError(two_optimizers(listed(optimizers)))
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


def _is_optimizer(name: str) -> bool:
    """Whether a parameter's name says so: optimizer, opt_g, optimizerD, g_optim."""
    return bool(OPTIMIZER.fullmatch(name)) and name.lower() not in NAMES["arguments"]


def two_optimizers(which: str) -> str:
    """What to say of a loop that trains two parts by turns, as a GAN's; which optimizers it has."""
    return _(
        "the loop has two optimizers that take turns ({which}), as for a GAN, so no single loss says what is "
        "right: check each half by itself, with a function half(model, optimizer, batches, "
        "accumulation_steps) that makes this half's updates alone and keeps the other network fixed, and "
        "with --case for a Case that has this half's model, loss_sum, count and accumulation_steps",
        which=which,
    )


def call_loop(loop: Loop, offers: Mapping[str, Any]) -> Any:
    """Call the loop with those offers that it asks for; its answer. None leaves the loop its own default.

    PyTorch warns of a scheduler that ticks before the optimizer: that is for whoever judges the loop to say.
    """
    defaults = {p.name for p in inspect.signature(loop).parameters.values() if p.default is not p.empty}
    given = {name: offers[offer] for name, offer in wishes_of(loop).items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        return loop(**{n: value for n, value in given.items() if value is not None or n not in defaults})


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
