"""The script of notebook 10 as it was found, and a small RoBERTa trained with it and with its repair."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR

from accum_lib.check.loop import Loop, call_loop
from accum_lib.lessons.roberta.problem import TaskProblem
from accum_lib.lessons.when_it_breaks import observe
from accum_lib.machine import one_thread
from accum_lib.problems.base import micro_batches
from accum_lib.vectors import flat

MICRO_BATCH, STEPS, EPOCHS, SAMPLES, RATE, MAX_NORM = 4, 8, 6, 90, 2e-3, 1.0


def found_script(
    model: nn.Module, optimizer: Any, loader: Any, accumulation_steps: int, scheduler: Any,
    max_grad_norm: float = MAX_NORM,
) -> list[float]:  # fmt: skip
    """The script as it was found; the notebook shows the same lines."""
    log = []
    for step, batch in enumerate(loader):
        loss = model(**batch).loss / accumulation_steps
        loss.backward()
        clip_grad_norm_(model.parameters(), max_grad_norm)
        scheduler.step()
        if (step + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
            log.append(loss.item())
    return log


def one_pass_each(
    model: nn.Module, optimizer: Any, loader: Any, accumulation_steps: int, scheduler: Any,
    max_grad_norm: float = MAX_NORM,
) -> None:  # fmt: skip
    """For batches that are whole windows already: each is one pass and one update, so nothing accumulates."""
    for batch in loader:
        model(**batch).loss.backward()
        clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


@cache
def problem() -> TaskProblem:
    """Hidden tokens of 90 docstrings of at most 32 tokens: three windows an epoch, the last one short."""
    return TaskProblem("mlm", num_samples=SAMPLES, max_tokens=32)


class Run:
    """A small RoBERTa, trained with one script.

    Args:
        script: an epoch; ``script(model, optimizer, loader, accumulation_steps, scheduler, max_grad_norm)``.
        micro_batch_size: M; K is what makes B = 32 of it.

    Attributes:
        losses: (EPOCHS + 1,) mean loss over all hidden tokens in nats, at the start and after each epoch.
        start, weights: the flat weights at the start and at the end, in float64.
    """

    def __init__(self, script: Loop, micro_batch_size: int = MICRO_BATCH) -> None:
        steps = MICRO_BATCH * STEPS // micro_batch_size
        with one_thread(), torch.random.fork_rng(devices=[]):
            model = problem().make_model()
            optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
            offers = {
                "model": model, "optimizer": optimizer, "accumulation_steps": steps, "epochs": 1,
                "scheduler": LambdaLR(optimizer, lambda tick: 0.95**tick), "max_grad_norm": MAX_NORM,
            }  # fmt: skip
            self.start = flat(model.parameters(), dtype=torch.float64)
            losses = [_loss(model)]
            for _ in range(EPOCHS):
                call_loop(script, offers | {"batches": list(micro_batches(problem(), micro_batch_size))})
                losses.append(_loss(model))
            self.losses = np.array(losses)
            self.weights = flat(model.parameters(), dtype=torch.float64)


@cache
def as_found() -> Run:
    """The script as it was found."""
    return Run(found_script)


@cache
def big_batch() -> Run:
    """The reference: each window in one pass."""
    return Run(one_pass_each, MICRO_BATCH * STEPS)


def apart(run: Run, other: Run) -> float:
    """How far two runs end from each other, relative to the way that the second went."""
    return observe.apart(run.weights, other.weights, other.start)


@torch.no_grad()
def _loss(model: nn.Module) -> float:
    batches = micro_batches(problem(), 30)  # without dropout, so the model stays in training mode
    pairs = [(float(problem().loss_sum(model, b)), float(problem().count(b))) for b in batches]
    total, count = map(sum, zip(*pairs, strict=True))
    return total / count
