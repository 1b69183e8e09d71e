"""What can be seen of a loop from outside: the bug hunt's clues. The loop's source is not among them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer

from accum_lib.check import Case, check_case
from accum_lib.check.case import COUNTS, token_case
from accum_lib.check.faults import loops
from accum_lib.check.faults.catalogue import FAULTS
from accum_lib.check.loop import Loop, call_loop, wishes_of
from accum_lib.check.report import Report
from accum_lib.lessons.when_it_breaks.record import Clues
from accum_lib.words import N_

HAPPENINGS = (
    N_("passes<br>used"),
    N_("updates"),
    N_("empty<br>buffers"),
    N_("scheduler<br>ticks"),
    N_("weight<br>averages"),
)
ALIBIS = (loops.right, loops.window_loss_logged, loops.scheduler_per_update, loops.ema_per_update)


def mysteries() -> list[tuple[str, Loop]]:
    """Every fault's wrong loop and a few right ones, as (code, loop), in an order that gives nothing away."""
    every = [(fault.code, fault.wrong) for fault in FAULTS] + [("right", loop) for loop in ALIBIS]
    order = np.random.default_rng(165).permutation(len(every))
    return [every[i] for i in order]


def clipped(loop: Loop) -> bool:
    """Whether it clips, so that it must be tried on a case that is meant to be clipped."""
    return loop in (loops.clipped_per_micro_batch, loops.clipped_once)


def scene(loop: Loop) -> Case:
    """What the loop is tried on: ragged labels, K = 3, eight micro-batches and so a window of two."""
    return token_case(COUNTS, 3, "the scene", max_grad_norm=0.1 if clipped(loop) else None)


class _Counter:
    """Stands in for an average of the weights or a scheduler, and counts what is asked of it."""

    def __init__(self) -> None:
        self.times = 0

    def update_parameters(self, _: nn.Module) -> None:
        self.times += 1

    def step(self) -> None:
        self.times += 1


def clues(loop: Loop) -> Clues:
    """Run a loop for two epochs on the scene, under the checker, and keep what was seen."""
    case = scene(loop)
    scheduler, average = _Counter(), _Counter()
    logged: list[float] = []
    wanted = set(wishes_of(loop).values())

    def watched(
        model: nn.Module, optimizer: Optimizer, batches: Sequence[Any], accumulation_steps: int
    ) -> None:
        offers = {"model": model, "optimizer": optimizer, "batches": batches, "scheduler": scheduler,
                  "accumulation_steps": accumulation_steps, "ema": average}  # fmt: skip
        logged.extend(call_loop(loop, offers) or [])

    report = check_case(watched, case)
    should = float(case.epochs * len(case.windows()))
    given = np.array([1.0, 1.0, 1.0, *(1.0 if it in wanted else np.nan for it in ("scheduler", "ema"))])
    found = [_passes(report), len(report.updates), report.clears, scheduler.times, average.times]
    return Clues(
        windows=np.array([np.isin(range(len(case.batches)), u.expected) for u in report.updates]),
        weights=np.array([np.nan_to_num(u.weights) for u in report.updates]),
        errors=np.array([u.relative_error for u in report.updates]),
        tolerance=report.tolerance,
        happenings=HAPPENINGS,
        found=np.array(found) * given,
        expected=np.array([case.epochs * len(case.batches), *4 * [should]]) * given,
        logged=np.array(logged),
        true_losses=_true_losses(case) if logged else np.array([]),
    )


def _passes(report: Report) -> int:
    return sum(u.passes for u in report.updates)


def _true_losses(case: Case) -> np.ndarray:
    """What a loop that updates rightly should log; of the mysteries, only such ones log at all."""
    logged: list[float] = []

    def watched(
        model: nn.Module, optimizer: Optimizer, batches: Sequence[Any], accumulation_steps: int
    ) -> None:
        logged.extend(loops.window_loss_logged(model, optimizer, batches, accumulation_steps))

    check_case(watched, case)
    return np.array(logged)
