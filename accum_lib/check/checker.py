"""Run a loop on one case under the recorder, compare, diagnose."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from accum_lib.check.case import Case
from accum_lib.check.compare import compare_updates, model_facts, tolerance_of
from accum_lib.check.conditions import Widened, held_still, widened
from accum_lib.check.diagnosis import diagnose
from accum_lib.check.diagnosis.evidence import COARSE, Evidence
from accum_lib.check.diagnosis.timing import nothing_there
from accum_lib.check.loop import Loop, call_loop, own_max_grad_norm, wishes_of
from accum_lib.check.places import Calls
from accum_lib.check.recorder import ModelModes, Recorder
from accum_lib.check.reference import Reference, aligned
from accum_lib.check.report import Report
from accum_lib.check.strangers import Loader, fresh_accelerator, surroundings_of
from accum_lib.machine import one_thread
from accum_lib.words import _, listed

Condition = Callable[[nn.Module], AbstractContextManager[Any]]  # what holds while the loop runs on this model


def check_case(loop: Loop, case: Case, dtype: torch.dtype = torch.float64) -> Report:
    """Try a loop on one case.

    Args:
        loop, dtype: as for ``check``.
        case: what to try it on.

    Raises:
        ValueError: the case has no data or counts nothing, or its model has nothing to train.
        TypeError: the loop asks for a parameter that the checker does not know.
    """
    with one_thread():
        if case.max_grad_norm is None:
            case = replace(case, max_grad_norm=own_max_grad_norm(loop))
        case = case.in_precision(dtype)
        report = _checked(loop, case, dtype)
        if not report.equal and (fixed := _with_its_own_k(report, loop, case, dtype)) is not None:
            case, report = replace(case, accumulation_steps=fixed.accumulation_steps), fixed
        if report.equal or report.ended is not None:
            return report
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            return _without_its_model(report, loop, case) or _without_rounding(report, loop, case) or report


def _with_its_own_k(report: Report, loop: Loop, case: Case, dtype: torch.dtype) -> Report | None:
    """If K is fixed in the loop (it makes the same windows whatever it is given), its report with that K."""
    made = [u.passes for u in report.updates if u.epoch == 0]
    if len(made) < 2 or not 1 < made[0] != case.accumulation_steps:
        return None
    if set(made[:-1]) != {made[0]} or made[-1] > made[0] or sum(made) != len(case.batches):
        return None
    own = _checked(loop, replace(case, accumulation_steps=made[0]), dtype)
    if [u.passes for u in own.updates if u.epoch == 0] != made:
        return None
    remark = _(
        "K is fixed in the loop: it was given {given}, makes windows of {own}, and is checked with that",
        given=case.accumulation_steps,
        own=made[0],
    )
    return replace(own, remarks=(*own.remarks, remark))


def _without_its_model(report: Report, loop: Loop, case: Case) -> Report | None:
    """If the model changes itself: its name, and what is left to say of the loop while that is held still."""
    if not report.model.moving:
        return None
    try:
        still = partial(held_still, list(report.model.moving))
        held = _checked(loop, case, getattr(torch, report.dtype), still, held=True)
    except Exception:  # then nothing more is known
        return report
    return replace(report, diagnoses=report.diagnoses + held.diagnoses)


def _without_rounding(report: Report, loop: Loop, case: Case) -> Report | None:
    """If a small difference is gone once nothing is rounded to fewer bits: equal, up to that."""
    small = len(report.updates) == report.expected_updates and report.relative_error < COARSE
    if not small and "low_precision_buffer" not in report.codes:
        return None
    dtype, modes = getattr(torch, report.dtype), list[Widened]()

    @contextmanager
    def condition(model: nn.Module) -> Iterator[None]:
        with widened(dtype, model) as mode:
            modes.append(mode)
            yield

    try:
        exact = _checked(loop, case, dtype, condition)
    except Exception:  # it computes in a way that can't be changed from outside
        return None
    if not small:  # there are faults; is a coarse buffer one of them, or were logits rounded?
        return report if "low_precision_buffer" in exact.codes else replace(report, diagnoses=exact.diagnoses)
    coarsest = modes[0].coarsest
    fresh = case.make_model().to(dtype).train()
    allowed = tolerance_of(Reference(fresh, case), case, dict(fresh.named_parameters()), coarsest)
    if not exact.equal or not report.relative_error <= allowed:
        return None
    remark = _(
        "the loop rounds to {dtype}, and is off by {error:.0e} for that alone: by {exact:.0e} where nothing "
        "is rounded to it",
        dtype=str(coarsest).removeprefix("torch."),
        error=report.relative_error,
        exact=exact.relative_error,
    )
    return replace(report, tolerance=allowed, diagnoses=exact.diagnoses, remarks=(*report.remarks, remark))


def _checked(
    loop: Loop,
    case: Case,
    dtype: torch.dtype,
    condition: Condition = lambda _: nullcontext(),
    held: bool = False,
) -> Report:
    """The report on one run, under a condition that holds while the loop runs, such as a state held still."""
    model = case.make_model().to(dtype).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=case.learning_rate)
    reference, recorder = Reference(model, case), Recorder(model, optimizer, Calls(loop))
    before = recorder.modes()
    with condition(model):
        losses, ticks, ended = run(loop, case, model, optimizer, recorder)
    like = recorder.tensors()
    checks = compare_updates(recorder.updates, reference, case, recorder.epoch_starts, len(recorder.passes))
    if recorder.updates:
        reference.load(recorder.updates[0])
    facts = model_facts(reference, case, like)
    if held:
        facts = replace(facts, moving={})
    report = Report(
        case=case.name,
        accumulation_steps=case.accumulation_steps,
        counts=reference.counts.numpy(),
        dtype=str(dtype).removeprefix("torch."),
        tolerance=tolerance_of(reference, case, like),
        updates=tuple(checks),
        expected_updates=case.epochs * len(case.windows()),
        epochs=case.epochs,
        clears=sum(1 for p in recorder.passes if not any(b.any() for b in p.before.values())),
        ticks=ticks,
        leftover=_leftover(recorder),
        model=facts,
        notes=_not_observed(loop, losses, len(checks)),
        remarks=_how_the_model_was_set(before, recorder) + _empty_steps(recorder),
        losses_compared=len(losses) == len(checks) > 0,
        ended=ended,
    )
    return diagnose(report, Evidence(case, recorder, reference, report.updates, losses))


def gradient_error(loop: Loop, case: Case, dtype: torch.dtype = torch.float64) -> float:
    """The one number: the largest relative error of an update's gradient.

    Args:
        loop, case, dtype: as for ``check_case``.
    """
    return check_case(loop, case, dtype).relative_error


def run(
    loop: Loop, case: Case, model: nn.Module, optimizer: torch.optim.Optimizer, recorder: Recorder
) -> tuple[list[float], int | None, str | None]:
    """Run it through all epochs: its losses, its scheduler's ticks if it had one, and how it ended itself."""
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
    if "accelerator" in wanted:
        offers["accelerator"] = fresh_accelerator(case.accumulation_steps)
    reported, ended = list[float](), None
    with recorder.watch():
        for epoch in range(1 if "epochs" in wanted else case.epochs):
            before = len(recorder.updates)
            recorder.epoch_starts.append(len(recorder.passes))
            offers["batches"] = Loader(case.batches)
            offers |= surroundings_of(offers, epoch)
            answer: Any = ()
            try:
                answer = call_loop(loop, offers)
            except (
                SystemExit
            ) as error:  # 0 would end the caller's process, a continuous integration's, as a success
                ended = _("SystemExit with {code!r}", code=error.code)
                recorder.calls.note_exit(error, len(recorder.passes))
            except Exception as error:
                error.add_note(
                    _("(raised by the loop that was being checked, on the case {name!r})", name=case.name)
                )
                raise
            reported += _numbers(answer)
            for update in recorder.updates[before:]:
                update.epoch = None if "epochs" in wanted else epoch
            if ended is not None:
                break
    return reported, recorder.scheduler_ticks() if "scheduler" in wanted else None, ended


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


def _how_the_model_was_set(before: ModelModes, recorder: Recorder) -> tuple[str, ...]:
    """What the loop changed of the model's modes, and the reference with it."""
    remarks, updates = [], recorder.updates
    still = set[str]().union(*(u.how.still() for u in updates)) - before.still()
    names = [name for name in before.settings if name in still]
    outermost = [name for name in names if name.rpartition(".")[0] not in still - {name}]
    trained = [u.how.trained for u in updates]
    frozen = sorted({name for name in before.trained for some in trained if name not in some})
    kinds = {w.dtype for u in updates for n, w in u.weights.items() if w.dtype != recorder.start[n].dtype}
    if still:
        shown = listed([name or _("the whole model") for name in outermost[:3]])
        remarks.append(
            _("the loop puts {names} into evaluation mode, and so does the reference", names=shown)
        )
    if frozen:
        remarks.append(_("the loop freezes {names}, and so does the reference", names=listed(frozen[:3])))
    if kinds:
        shown = listed(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        remarks.append(_("the loop sets parameters to {dtypes}, and so does the reference", dtypes=shown))
    return tuple(remarks)


def _empty_steps(recorder: Recorder) -> tuple[str, ...]:
    return (nothing_there(recorder.empty_steps),) if recorder.empty_steps else ()


def _numbers(answer: Any) -> list[float]:
    """The losses that a loop returned; empty if what it returned is no list of numbers.

    A tuple is an epoch's results, such as a loss and an accuracy.
    """
    if isinstance(answer, tuple):
        return []
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
