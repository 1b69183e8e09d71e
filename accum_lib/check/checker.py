"""Run a loop under the recorder, compare, diagnose: the checker's front door."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from accum_lib.check.case import Case, standard_cases
from accum_lib.check.compare import compare_updates, model_facts, tolerance_of
from accum_lib.check.diagnosis import diagnose
from accum_lib.check.diagnosis.evidence import Evidence
from accum_lib.check.loop import Loop, call_loop, wishes_of
from accum_lib.check.recorder import Recorder
from accum_lib.check.reference import Reference, aligned
from accum_lib.check.report import Report, explain
from accum_lib.machine import one_thread
from accum_lib.words import _


def check(
    loop: Loop, cases: Sequence[Case] | None = None, dtype: torch.dtype = torch.float64
) -> list[Report]:
    """Try a loop on several cases, by default the standard ones.

    Args:
        loop: trains for one epoch: ``loop(model, optimizer, batches, accumulation_steps)``, in this order or
            by these names. If it also has a parameter ``scheduler``, ``ema`` (an ``AveragedModel``),
            ``max_grad_norm`` or ``epochs``, it is given that too; with ``epochs`` it is called once for all
            of them. It may return the losses it would log, one for each update.
        cases: what to try it on.
        dtype: of the parameters and the data.

    Returns:
        A report for each case; ``print(explain(report))`` puts it into words.
    """
    return [check_case(loop, case, dtype) for case in (cases or standard_cases())]


def assert_equivalent(
    loop: Loop, cases: Sequence[Case] | None = None, dtype: torch.dtype = torch.float64
) -> None:
    """Raise if the loop's updates are not those of one big batch; a test in one line.

    Raises:
        AssertionError: with the report of the first case in which it is not.
    """
    for report in check(loop, cases, dtype):
        if not report.ok:
            raise AssertionError(explain(report))


def check_case(loop: Loop, case: Case, dtype: torch.dtype = torch.float64) -> Report:
    """Try a loop on one case. Arguments as for ``check``.

    Raises:
        ValueError: the case has no data or counts nothing, or its model has nothing to train.
        TypeError: the loop asks for a parameter that the checker does not know.
    """
    with one_thread():
        return _checked(loop, case.in_precision(dtype), dtype)


def _checked(loop: Loop, case: Case, dtype: torch.dtype) -> Report:
    model = case.make_model().to(dtype).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=case.learning_rate)
    reference, recorder = Reference(model, case), Recorder(model, optimizer)
    losses, ticks = _run(loop, case, model, optimizer, recorder)
    like = recorder.tensors()
    checks = compare_updates(recorder.updates, reference, case, recorder.epoch_starts)
    if recorder.updates:
        reference.load(recorder.updates[0])
    tolerance = tolerance_of(reference, case, like)
    facts = model_facts(reference, case, like)
    report = Report(
        case=case.name,
        accumulation_steps=case.accumulation_steps,
        counts=reference.counts.numpy(),
        dtype=str(dtype).removeprefix("torch."),
        tolerance=tolerance,
        updates=tuple(checks),
        expected_updates=case.epochs * len(case.windows()),
        epochs=case.epochs,
        clears=sum(1 for p in recorder.passes if not any(b.any() for b in p.before.values())),
        ticks=ticks,
        leftover=_leftover(recorder),
        model=facts,
        notes=_not_observed(loop, losses, len(checks)),
        losses_compared=len(losses) == len(checks) > 0,
    )
    return diagnose(report, Evidence(case, recorder, reference, report.updates, losses))


def gradient_error(loop: Loop, case: Case, dtype: torch.dtype = torch.float64) -> float:
    """The one number: the largest relative error of an update's gradient. Arguments as for ``check``."""
    return check_case(loop, case, dtype).relative_error


def _run(
    loop: Loop, case: Case, model: nn.Module, optimizer: torch.optim.Optimizer, recorder: Recorder
) -> tuple[list[float], int | None]:
    """Run it through all epochs. Returns the losses it reported, and the scheduler's ticks if it had one."""
    wanted = wishes_of(loop).values()
    offers: dict[str, Any] = {
        "model": model,
        "optimizer": optimizer,
        "accumulation_steps": case.accumulation_steps,
        "max_grad_norm": case.max_grad_norm,
        "epochs": case.epochs,
    }
    if "scheduler" in wanted:
        offers["scheduler"] = scheduler = LambdaLR(optimizer, lambda tick: 0.97**tick)
        recorder.scheduler_ticks = lambda: scheduler.last_epoch
    if "ema" in wanted:
        from torch.optim.swa_utils import AveragedModel  # takes seconds to import

        offers["ema"] = ema = AveragedModel(model)
        recorder.averages = lambda: int(ema.n_averaged)
    reported: list[float] = []
    with recorder.watch(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # the report says it
        for epoch in range(1 if "epochs" in wanted else case.epochs):
            before = len(recorder.updates)
            recorder.epoch_starts.append(len(recorder.passes))
            offers["batches"] = list(case.batches)
            try:
                answer = call_loop(loop, offers)
            except Exception as error:
                error.add_note(
                    _("(raised by the loop that was being checked, on the case {name!r})", name=case.name)
                )
                raise
            reported += _numbers(answer)
            for update in recorder.updates[before:]:
                update.epoch = None if "epochs" in wanted else epoch
    return reported, recorder.scheduler_ticks() if "scheduler" in wanted else None


def _not_observed(loop: Loop, losses: list[float], updates: int) -> tuple[str, ...]:
    """What the verdict says nothing about."""
    wanted = set(wishes_of(loop).values())
    notes = [
        _("the loop was given no {thing}", thing=thing)
        for thing in ("scheduler", "ema")
        if thing not in wanted
    ]
    if not losses:
        notes.append(_("it returned no losses"))
    elif len(losses) != updates:
        notes.append(
            _(
                "it returned {losses} losses for {updates} updates, so they were not compared",
                losses=len(losses),
                updates=updates,
            )
        )
    return tuple(notes)


def _numbers(answer: Any) -> list[float]:
    """The losses that a loop returned; empty if what it returned is no list of numbers."""
    try:
        return [float(x.detach()) if isinstance(x, torch.Tensor) else float(x) for x in answer]
    except (TypeError, ValueError, RuntimeError):
        return []


def _leftover(recorder: Recorder) -> float:
    """The gradient left at the end, relative to the last update's; 0 if no update was made."""
    left = recorder.leftover()
    if not left or not recorder.updates:
        return float(bool(left))
    like = recorder.updates[-1].weights
    last = aligned(recorder.updates[-1].gradient, like).norm()
    return float(aligned(left, like).norm() / last) if last > 0 else 0.0
